// Which CUDA kernel multiplies what. Known without a device and in every build, as on the CPU (matmul/kernel.hpp); there are no fallbacks
// among them: what none takes is refused with the reason.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>

#include "fewbit/core/result.hpp"
#include "fewbit/formats/format.hpp"
#include "fewbit/formats/format_name.hpp"
#include "fewbit/pack/mma16.hpp"

namespace fewbit::inline v0::cuda {

/// What codes of a kernel's weights stand for.
enum class Weights : std::uint8_t { integers, tables, fp8, floats };

/// A kernel of the catalogue.
struct KernelInfo {
    std::string_view name;  ///< family/cuda/what it is made for-type of x
    Weights weights;
    Scalar x;               ///< i8, fp8_e4m3: rows rounded by RoundedRows
    std::size_t most_rows;  ///< of x; those with fewer have kernels of their own, ahead of this one
    bool wgmma = false;     ///< only where the device and the build have it (sm_90a); then ahead of its like
};

inline constexpr std::size_t decode_rows = 16, batch_rows = 64;
inline constexpr std::size_t any_rows = std::numeric_limits<std::size_t>::max();

inline constexpr KernelInfo kernel_table[] = {
    {"int_grouped/cuda/decode-f16", Weights::integers, Scalar::f16, decode_rows},
    {"int_grouped/cuda/batch-f16", Weights::integers, Scalar::f16, batch_rows},
    {"int_grouped/cuda/prompt-f16", Weights::integers, Scalar::f16, any_rows},
    {"int_grouped/cuda/wgmma-f16", Weights::integers, Scalar::f16, any_rows, true},
    {"int_grouped/cuda/decode-bf16", Weights::integers, Scalar::bf16, decode_rows},
    {"int_grouped/cuda/batch-bf16", Weights::integers, Scalar::bf16, batch_rows},
    {"int_grouped/cuda/prompt-bf16", Weights::integers, Scalar::bf16, any_rows},
    {"int_grouped/cuda/wgmma-bf16", Weights::integers, Scalar::bf16, any_rows, true},
    {"int_grouped/cuda/prompt-int8", Weights::integers, Scalar::i8, any_rows},
    {"int_grouped/cuda/wgmma-int8", Weights::integers, Scalar::i8, any_rows, true},
    {"codebook/cuda/decode-f16", Weights::tables, Scalar::f16, decode_rows},
    {"codebook/cuda/batch-f16", Weights::tables, Scalar::f16, batch_rows},
    {"codebook/cuda/prompt-f16", Weights::tables, Scalar::f16, any_rows},
    {"codebook/cuda/wgmma-f16", Weights::tables, Scalar::f16, any_rows, true},
    {"codebook/cuda/decode-bf16", Weights::tables, Scalar::bf16, decode_rows},
    {"codebook/cuda/batch-bf16", Weights::tables, Scalar::bf16, batch_rows},
    {"codebook/cuda/prompt-bf16", Weights::tables, Scalar::bf16, any_rows},
    {"codebook/cuda/wgmma-bf16", Weights::tables, Scalar::bf16, any_rows, true},
    {"codebook/cuda/decode-fp8-f16", Weights::fp8, Scalar::f16, decode_rows},
    {"codebook/cuda/batch-fp8-f16", Weights::fp8, Scalar::f16, batch_rows},
    {"codebook/cuda/prompt-fp8-f16", Weights::fp8, Scalar::f16, any_rows},
    {"codebook/cuda/wgmma-fp8-f16", Weights::fp8, Scalar::f16, any_rows, true},
    {"codebook/cuda/decode-fp8-bf16", Weights::fp8, Scalar::bf16, decode_rows},
    {"codebook/cuda/batch-fp8-bf16", Weights::fp8, Scalar::bf16, batch_rows},
    {"codebook/cuda/prompt-fp8-bf16", Weights::fp8, Scalar::bf16, any_rows},
    {"codebook/cuda/wgmma-fp8-bf16", Weights::fp8, Scalar::bf16, any_rows, true},
    {"codebook/cuda/prompt-fp8", Weights::fp8, Scalar::fp8_e4m3, any_rows},
    {"codebook/cuda/wgmma-fp8", Weights::fp8, Scalar::fp8_e4m3, any_rows, true},
    {"cublas/gemm-f16", Weights::floats, Scalar::f16, any_rows},
    {"cublas/gemm-bf16", Weights::floats, Scalar::bf16, any_rows},
};

/// What codes of weights of `format` stand for. Precondition: floats, or what order mma16 holds.
[[nodiscard]] inline Weights weights_of(const Format& format) noexcept {
    if (format.is_float()) return Weights::floats;
    const Format held = mma16_format(format);
    return held.element == Element::fp8_e4m3 ? Weights::fp8
           : held.is_codebook()              ? Weights::tables
                                             : Weights::integers;
}

/// Why no kernel multiplies weights of `format` with x of a type; empty: one does.
[[nodiscard]] inline std::string kernel_refuses(const Format& format, Scalar x) {
    const bool rounded = x == Scalar::i8 || x == Scalar::fp8_e4m3;
    if (x != Scalar::f16 && x != Scalar::bf16 && !rounded)
        return "x has to be f16, bf16, or rounded to i8 or fp8-e4m3 (RoundedRows)";
    if (format.is_float())
        return element_scalar(format) == x ? "" : "float weights have to be of the type of x";
    if (const std::string why = mma16_refuses(format); !why.empty()) return "order mma16 " + why;
    const Format held = mma16_format(format);
    if (held.element == Element::nf4 && x == Scalar::bf16)
        return "its numbers do not survive bf16 (errors of 2^-9); x of f16 keeps them";
    if (rounded && (held.bits != 8 || held.granularity == Granularity::group))
        return "W8A8 takes codes in fields of 8 bits with a scale per channel or tensor";
    if (rounded && (weights_of(format) == Weights::fp8) != (x == Scalar::fp8_e4m3))
        return "rounded x has to be i8 for integers, fp8-e4m3 for fp8";
    return {};
}

/// The kernel for weights of `format` and `rows` rows of x, on a device with or without wgmma. Error, no_kernel: a type of x or a format
/// that none takes, and why.
[[nodiscard]] inline Result<KernelInfo> select_kernel(const Format& format, Scalar x, std::size_t rows,
                                                      bool wgmma = false) {
    if (const std::string why = kernel_refuses(format, x); !why.empty())
        return fail(ErrorKind::no_kernel, "no CUDA kernel multiplies ", name(format), " with x of ", name(x),
                    ": ", why);
    const Weights weights = weights_of(format);
    const KernelInfo* chosen = nullptr;
    for (const KernelInfo& info : kernel_table) {
        const bool fits =
            info.weights == weights && info.x == x && rows <= info.most_rows && (wgmma || !info.wgmma);
        if (fits && (chosen == nullptr || (info.wgmma && chosen->most_rows == any_rows))) chosen = &info;
    }
    return *chosen;
}

}  // namespace fewbit::inline v0::cuda
