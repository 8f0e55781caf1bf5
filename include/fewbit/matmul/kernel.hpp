// Which kernel will run, and why not another. select_kernel() answers a query with one kernel of the
// catalogue, or with an error that lists every candidate and the reason it was passed over.
//
// A fallback is the generic kernel, or a kernel that is taken because a faster one, which this CPU could run,
// was not built. The policy is part of the query, and the default refuses: nothing gets slow in silence.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "fewbit/core/config.hpp"
#include "fewbit/core/result.hpp"
#include "fewbit/formats/activation_format.hpp"
#include "fewbit/formats/format.hpp"
#include "fewbit/matmul/contract.hpp"
#include "fewbit/matmul/isa.hpp"
#include "fewbit/pack/layout.hpp"

namespace fewbit::inline v0 {

/// Bits of KernelInfo::bits for weights that are not integer codes of 2..8 bits.
inline constexpr unsigned float_weights = 1u << 0;
inline constexpr unsigned block_weights = 1u << 1;     ///< ggml's types, in layout rows
inline constexpr unsigned codebook_weights = 1u << 9;  ///< tables of 16
inline constexpr unsigned float8_weights = 1u << 10;
inline constexpr unsigned integer_weights = 0x1FC;  ///< all of 2..8 bits

/// One line of the catalogue.
struct KernelInfo {
    std::string_view name;    ///< "<family>/<isa>/<activations>"
    std::string_view family;  ///< "dense", "int_grouped", "codebook", "blocks"
    Isa isa;
    ActivationElement activations;
    Layout layout;
    unsigned bits;           ///< bit b set: integer codes of b bits; float_weights and the like
    const KernelCode* code;  ///< null: not in this build
};

/// Every kernel of this build's catalogue, also those that were not compiled in. With fewbit::headers: the
/// generic kernels.
[[nodiscard]] FEWBIT_API std::span<const KernelInfo> kernel_catalog() noexcept;

enum class Fallback : std::uint8_t { refuse, allow };

struct MatmulQuery {
    Format weights;
    ActivationFormat activations;
    std::size_t m = 1;  ///< rows of x
    std::size_t n = 0;  ///< output channels
    std::size_t k = 0;  ///< input channels
    Fallback fallback = Fallback::refuse;
};

struct Candidate {
    std::string_view kernel;
    std::string reason;  ///< why it was passed over; empty for the chosen one
};

/// `message` holds the query and all candidates as text; `candidates` holds them as data.
struct SelectionError : Error {
    std::vector<Candidate> candidates;
};

/// A chosen kernel. Copied freely.
class Kernel {
public:
    Kernel(const KernelInfo& info, const ActivationFormat& activations, std::string fallback_reason)
        : info_(&info), activations_(activations), fallback_reason_(std::move(fallback_reason)) {}

    [[nodiscard]] const KernelInfo& info() const noexcept { return *info_; }
    [[nodiscard]] std::string_view name() const noexcept { return info_->name; }
    [[nodiscard]] Isa isa() const noexcept { return info_->isa; }
    [[nodiscard]] Layout layout() const noexcept { return info_->layout; }
    [[nodiscard]] const ActivationFormat& activations() const noexcept { return activations_; }
    [[nodiscard]] bool is_fallback() const noexcept { return !fallback_reason_.empty(); }
    /// Why a faster kernel did not run; empty when this is no fallback.
    [[nodiscard]] const std::string& fallback_reason() const noexcept { return fallback_reason_; }

private:
    const KernelInfo* info_;
    ActivationFormat activations_;
    std::string fallback_reason_;
};

/// The bit of KernelInfo::bits that a kernel of `layout` needs for weights of `format`.
[[nodiscard]] FEWBIT_API unsigned weights_bit(const Format& format, Layout layout) noexcept;

/// Why `info` cannot serve `query` on this CPU in this build; empty when it can.
[[nodiscard]] FEWBIT_API std::string refusal(const KernelInfo& info, const MatmulQuery& query);

/// Chooses the strongest instruction set among the kernels that fit.
/// The environment can force one: FEWBIT_FORCE_ISA (a name of isa_table) or FEWBIT_FORCE_KERNEL (a name of
/// the catalogue); an unknown, unbuilt or unsupported name is an error. What is forced is not refused as a
/// fallback. (A kernel may hand a product to another's; the report names what ran.)
[[nodiscard]] FEWBIT_API Result<Kernel, SelectionError> select_kernel(const MatmulQuery& query);

}  // namespace fewbit::inline v0

#if defined(FEWBIT_HEADER_ONLY)
#include "fewbit/matmul/generic/catalog.hpp"
#include "fewbit/matmul/kernel_impl.hpp"
#endif
