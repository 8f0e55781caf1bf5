// The compiled twin of this room's headers.
#include "fewbit/calibrate/histogram_impl.hpp"
#include "fewbit/calibrate/observers_impl.hpp"
#include "fewbit/calibrate/range_impl.hpp"
#include "fewbit/calibrate/statistics_impl.hpp"
#include "fewbit/calibrate/statistics_io_impl.hpp"
