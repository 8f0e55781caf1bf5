// The compiled twin of grid.hpp, quantized.hpp, rtn.hpp and mse.hpp.
#include "fewbit/quantize/uniform_impl.hpp"
