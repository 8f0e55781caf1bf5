// Generic kernels that multiply straight from ggml's blocks (formats/ggml/blocks.hpp), also in a mapped file:
// portable C++, any CPU, f32 or int8 activations.
#pragma once

#include <cstdint>
#include <span>

#include "fewbit/formats/ggml/blocks.hpp"
#include "fewbit/matmul/contract.hpp"
#include "fewbit/matmul/generic/grouped.hpp"

namespace fewbit::inline v0::generic {

/// Rows of blocks for the loops of grouped.hpp. Codebooks of ggml's types hold small integers.
class BlockRows {
public:
    using Level = std::int16_t;

    explicit BlockRows(const WeightsView& w)
        : w_(w), type_(static_cast<ggml::BlockType>(w.block_type)), traits_(ggml::traits(type_)) {}

    [[nodiscard]] GroupParameters parameters(std::size_t n, std::size_t g) const noexcept {
        const std::size_t groups = traits_.elements / traits_.group;
        const auto [scale, offset] = ggml::group_parameters(type_, block(n, g / groups), g % groups);
        return {scale, offset};
    }
    void levels(std::size_t n, std::size_t k, std::size_t count, std::int16_t* out) const noexcept {
        static_assert(panel_elements % ggml::max_block_elements == 0 &&
                      grouped_chunk % ggml::max_block_elements == 0);
        const std::span<const float> values = ggml::codebook(type_);
        std::uint8_t codes[ggml::max_block_elements];
        for (std::size_t done = 0; done < count; done += traits_.elements) {
            ggml::unpack_codes(type_, block(n, (k + done) / traits_.elements), codes);
            for (std::size_t i = 0; i < traits_.elements; ++i)
                out[done + i] = static_cast<std::int16_t>(
                    values.empty() ? codes[i] - traits_.zero : static_cast<int>(values[codes[i]]));
        }
    }

private:
    [[nodiscard]] const std::uint8_t* block(std::size_t n, std::size_t b) const noexcept {
        return w_.codes + n * w_.codes_stride_bytes + b * traits_.bytes;
    }

    const WeightsView& w_;
    ggml::BlockType type_;
    const ggml::BlockTraits& traits_;
};

template <class X>
inline void blocks_floats(const KernelCall& call, const Rectangle& part, void* scratch) noexcept {
    grouped_floats<X>(BlockRows(call.w), call, part, scratch);
}
inline void blocks_int8(const KernelCall& call, const Rectangle& part, void* scratch) noexcept {
    grouped_int8(BlockRows(call.w), call, part, scratch);
}

inline constexpr KernelCode blocks_f32_code{blocks_floats<float>, grouped_f32_scratch_bytes, 4,
                                            panel_channels};
inline constexpr KernelCode blocks_bf16_code{blocks_floats<Bf16>, grouped_f32_scratch_bytes, 4,
                                             panel_channels};
inline constexpr KernelCode blocks_int8_code{blocks_int8, grouped_int8_scratch_bytes, 1, 1};

}  // namespace fewbit::inline v0::generic
