// The compiled twin of formats/ggml/encode_impl.hpp.
#include "fewbit/formats/ggml/encode_impl.hpp"
