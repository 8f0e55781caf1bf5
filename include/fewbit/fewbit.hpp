// The front door: formats, methods, kernels. Read the folders in this order and you have read the flow
//
//   float weights -> calibrate -> quantize -> pack -> matmul -> model -> evaluate
//
// Model files, the transformer and the evaluation are included by their own headers (fewbit/io/...,
// fewbit/model/...).
#pragma once

#include "fewbit/core/config.hpp"
#include "fewbit/core/executor.hpp"
#include "fewbit/core/result.hpp"
#include "fewbit/core/scalar.hpp"
#include "fewbit/core/tensor.hpp"
#include "fewbit/core/thread_pool.hpp"
#include "fewbit/formats/activation_format.hpp"
#include "fewbit/formats/format.hpp"
#include "fewbit/formats/linear.hpp"
#include "fewbit/formats/quantized_matrix.hpp"
#include "fewbit/matmul/kernel.hpp"
#include "fewbit/matmul/matmul.hpp"
#include "fewbit/pack/packed_activations.hpp"
#include "fewbit/pack/packed_matrix.hpp"
