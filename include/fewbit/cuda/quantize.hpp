// Weights on a CUDA device become codes there, are packed there, and become floats again. These calls prepare weights: they allocate,
// and wait until all is done.
//
//   auto w = cuda::quantize({floats, Scalar::bf16, N, K, K}, *parse_format("int4-g128"));    // the bytes of quantize_rtn + pack_mma16
//   auto w = cuda::pack(quantized);                                                          // of any method, from the host
//   cuda::dequantize(*w, {y, Scalar::f16, N, K, K}, stream);
#pragma once

#include "fewbit/cuda/operators.hpp"
#include "fewbit/formats/quantized_matrix.hpp"

namespace fewbit::inline v0::cuda {

/// Rounds weights (N, K) of f32, f16 or bf16 on the device to nearest: the same bytes as
/// to_device(pack_mma16(quantize_rtn(weights, format))). Ranges of groups and codes are found on the device, grids on the host.
/// Formats: integers, nf4, e2m1, iq4 and fp8-e4m3 that pack_mma16 takes, not doubly quantized, not of blocks. Errors: as
/// quantize_rtn and pack_mma16; those of current_device(); what a launch said.
[[nodiscard]] FEWBIT_API Result<Mma16Matrix> quantize(const View& weights, const Format& format,
                                                      ExecutionContext context = {});

/// to_device(pack_mma16(weights)), with codes brought into order on the device; blocks of ggml are packed on the host. Errors: as
/// pack_mma16; those of current_device(); what a launch said.
[[nodiscard]] FEWBIT_API Result<Mma16Matrix> pack(const QuantizedMatrix& weights,
                                                  ExecutionContext context = {});

/// Enqueues y (N, K) of f32, f16 or bf16 = what the codes stand for. Errors: as embed().
[[nodiscard]] inline Result<void> dequantize(const Mma16Matrix& weights, const View& y,
                                             ExecutionContext context) {
    return embed(weights, nullptr, y, context);
}

}  // namespace fewbit::inline v0::cuda
