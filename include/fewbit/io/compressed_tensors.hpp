// compressed-tensors' layouts of one linear layer (llm-compressor, vLLM): N outputs, K inputs, G groups, b
// bits.
//
//   pack-quantized   weight_packed      I32 (N, ceil(K / f))  f = 32 / b codes per word, the first one lowest;
//                                                             a field is the signed code + 2^(b-1)
//                    weight_zero_point  I32 (ceil(N / f), G)  packed so along N; absent in symmetric layers
//                                                             (I8 (N, G) in old files)
//                    weight_shape       I64 (2)               N, K
//   int-quantized    weight             I8 (N, K)             signed codes
//                    weight_zero_point  I8 (N, G)
//   both             weight_scale       F32, F16, BF16 (N, G) w = scale * (code - zero), signed
//                    weight_g_idx       I32 (K)               the group of each input, where not k / group
//
// Groups divide K. What can be stored is stored exactly; everything else is refused.
#pragma once

#include <cstddef>
#include <optional>

#include "fewbit/core/config.hpp"
#include "fewbit/core/result.hpp"
#include "fewbit/core/tensor.hpp"
#include "fewbit/formats/linear.hpp"

namespace fewbit::inline v0::io {

/// What a config group says about the weights of its layers.
struct CompressedConfig {
    int bits = 4;                            ///< 2 to 8
    std::optional<std::size_t> group = 128;  ///< inputs that share a scale; nothing: strategy "channel"
    bool symmetric = true;
    bool packed = true;  ///< pack-quantized; else int-quantized

    friend bool operator==(const CompressedConfig&, const CompressedConfig&) = default;
};

struct CompressedTensors {
    Tensor weight;  ///< weight_packed, or the weight of int-quantized
    Tensor scale;
    std::optional<Tensor> zero_point;
    std::optional<Tensor> shape;  ///< packed only
    std::optional<Tensor> g_idx;
};

/// Why (n, k) weights of a format cannot lie in these layouts: the sentence names what can hold them.
[[nodiscard]] FEWBIT_API Result<void> check_compressed(const Format& format, std::size_t n, std::size_t k);

/// The config under which pack_compressed() stores a format that check_compressed() takes: int-quantized for
/// 8 bits per channel, else pack-quantized.
[[nodiscard]] FEWBIT_API CompressedConfig compressed_config(const Format& format) noexcept;

/// The weights of a layer; its bias is stored beside them as it is. A permutation of the transform becomes
/// g_idx. Errors: check_compressed(), channel scales, float columns, a permutation that g_idx cannot tell
/// (inputs of a group must ascend), no memory.
[[nodiscard]] FEWBIT_API Result<CompressedTensors> pack_compressed(const Linear& linear);

/// The layer without its bias. A g_idx in another order becomes a permutation of the transform. Errors:
/// shapes and types that contradict each other or the config, a g_idx out of range or whose groups are not of
/// the group's size, signed codes beyond the bits, no memory.
[[nodiscard]] FEWBIT_API Result<Linear> unpack_compressed(const CompressedTensors& tensors,
                                                          const CompressedConfig& config);

}  // namespace fewbit::inline v0::io
