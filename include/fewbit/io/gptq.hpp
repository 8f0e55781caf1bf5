// GPTQ's layout of one linear layer (AutoGPTQ, GPTQModel): K inputs, N outputs, G = ceil(K / group) groups,
// b bits.
//
//   qweight  I32 (K b / 32, N)   input-major: column n is the little-endian bit stream of output n's codes,
//                                code k at bits k b (so 3-bit codes cross words)
//   qzeros   I32 (G, N b / 32)   the same stream along N; "gptq" stores zero - 1, "gptq_v2" the zero itself
//   scales   F16, BF16 (G, N)    w = scale * (code - zero), codes and zeros unsigned
//   g_idx    I32 (K)             the group of each input; k / group unless they were quantized in another order
//
// What can be stored is stored exactly; everything else is refused.
#pragma once

#include <cstddef>
#include <optional>

#include "fewbit/core/config.hpp"
#include "fewbit/core/result.hpp"
#include "fewbit/core/tensor.hpp"
#include "fewbit/formats/linear.hpp"

namespace fewbit::inline v0::io {

/// How zero points are stored: less one (checkpoint_format "gptq") or as they are ("gptq_v2").
enum class GptqVersion { v1, v2 };

/// What a quantization config says about every quantized layer.
struct GptqConfig {
    int bits = 4;  ///< 2, 3, 4 or 8
    std::optional<std::size_t> group =
        128;  ///< inputs that share a scale; nothing: all of them ("group_size": -1)
    /// `sym`. true: zeros that are all in the middle become a symmetric format; nothing: likewise; false:
    /// zero points are kept as such.
    std::optional<bool> symmetric;
    GptqVersion version = GptqVersion::v1;
};

struct GptqTensors {
    Tensor qweight;
    Tensor qzeros;
    Tensor scales;
    std::optional<Tensor> g_idx;  ///< absent: k / group
    /// Reading "gptq": fields of all ones in qzeros. They stand for a zero point of 0, which that format
    /// cannot hold; old writers spoilt the fields behind them.
    std::size_t wrapped_zeros = 0;
};

/// Why (n, k) weights of a format cannot lie in GPTQ's layout: the sentence names what can hold them.
[[nodiscard]] FEWBIT_API Result<void> check_gptq(const Format& format, std::size_t n, std::size_t k);

/// A zero point is 0, which needs GptqVersion::v2.
[[nodiscard]] FEWBIT_API bool has_zero_point_of_0(const QuantizedMatrix& weights) noexcept;

/// The weights of a layer; its bias is stored beside them as it is. A permutation of the transform becomes
/// g_idx. Errors: check_gptq(), channel scales, float columns, a permutation that g_idx cannot tell (inputs
/// of a group must ascend), a zero point of 0 under v1, no memory.
[[nodiscard]] FEWBIT_API Result<GptqTensors> pack_gptq(const Linear& linear, GptqVersion version);

/// The layer without its bias. A g_idx in another order becomes a permutation of the transform. Counts
/// wrapped_zeros. Errors: shapes and types that contradict each other or the config, a g_idx out of range or
/// whose groups are not of the group's size, no memory.
[[nodiscard]] FEWBIT_API Result<Linear> unpack_gptq(GptqTensors& tensors, const GptqConfig& config);

}  // namespace fewbit::inline v0::io
