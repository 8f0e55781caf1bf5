// The compiled twin of grid.hpp, quantized.hpp, rtn.hpp and mse.hpp.
#include "fewbit/quantize/grid_methods_impl.hpp"
