// Compiled twin of kernel selection.
#include "fewbit/matmul/kernel_impl.hpp"
