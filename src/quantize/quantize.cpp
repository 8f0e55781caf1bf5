// The compiled twin of quantize.hpp.
#include "fewbit/quantize/quantize_impl.hpp"
