// Definitions of kernel.hpp's selection; src/matmul/kernel.cpp is its compiled twin.
#pragma once

#include <cstdlib>

#include "fewbit/core/text.hpp"
#include "fewbit/matmul/kernel.hpp"

namespace fewbit::inline v0 {

FEWBIT_INLINE unsigned weights_bit(const Format& format, Layout layout) noexcept {
    const Format held = layout == Layout::tile16 ? tile16_format(format) : format;
    if (held.is_float()) return float_weights;
    if (held.is_block()) return block_weights;
    if (held.is_codebook()) return held.bits == 8 ? float8_weights : codebook_weights;
    return 1u << held.bits;
}

FEWBIT_INLINE std::string refusal(const KernelInfo& info, const MatmulQuery& query) {
    if (info.activations != query.activations.element)
        return text("is for ", name(info.activations), " activations");
    const unsigned wanted = weights_bit(query.weights, info.layout);
    if ((info.bits & wanted) == 0) {
        if ((info.bits & integer_weights) != 0 && (wanted & integer_weights) != 0)
            return text("has no ", query.weights.bits, "-bit codes");
        return info.bits == float_weights            ? "is for float weights"
               : info.bits == block_weights          ? "is for ggml's blocks"
               : info.bits == codebook_weights       ? "is for codebooks of 4 bits"
               : (info.bits & codebook_weights) != 0 ? "is for codebooks"
                                                     : "is for integer weights";
    }
    if (auto fits = validate_columns(query.weights, query.k); !fits) return fits.error().message;
    if (auto why = layout_refuses(info.layout, query.weights, query.activations, query.k); !why.empty())
        return why;
    if (!cpu_supports(info.isa))
        return text("this CPU lacks ", fewbit::info(info.isa).features, " (",
                    fewbit::info(info.isa).architecture, ")");
    if (info.code == nullptr) return "is not in this build";
    return {};
}

FEWBIT_INLINE Result<Kernel, SelectionError> select_kernel(const MatmulQuery& query) {
    SelectionError error;
    error.kind = ErrorKind::no_kernel;
    const auto refuse = [&error](std::string why) -> Unexpected<SelectionError> {
        error.message = std::move(why);
        for (const Candidate& candidate : error.candidates)
            error.message += text("\n  ", candidate.kernel, ": ", candidate.reason);
        return {std::move(error)};
    };
    for (auto& valid : {validate(query.weights), validate(query.activations)})
        if (!valid) return refuse(valid.error().message);
    const std::string what = text(name(query.weights), " weights (", query.n, " x ", query.k, ") with ",
                                  name(query.activations), " activations");

    const char* forced_isa = std::getenv("FEWBIT_FORCE_ISA");
    const char* forced_kernel = std::getenv("FEWBIT_FORCE_KERNEL");
    if (forced_isa != nullptr && !isa_from_name(forced_isa))
        return refuse(
            text("FEWBIT_FORCE_ISA is '", forced_isa, "', which is no instruction set of this library"));

    const KernelInfo* chosen = nullptr;
    bool forced_name_known = forced_kernel == nullptr;
    std::string unbuilt;  // a faster kernel that this CPU could run
    for (const KernelInfo& info : kernel_catalog()) {
        std::string why = refusal(info, query);
        const bool only_unbuilt = why == "is not in this build";
        if (forced_kernel != nullptr && info.name == forced_kernel) forced_name_known = true;
        if (why.empty() && forced_isa != nullptr && name(info.isa) != forced_isa)
            why = text("FEWBIT_FORCE_ISA is '", forced_isa, "'");
        if (why.empty() && forced_kernel != nullptr && info.name != forced_kernel)
            why = text("FEWBIT_FORCE_KERNEL is '", forced_kernel, "'");
        if (why.empty() && (chosen == nullptr || info.isa > chosen->isa)) chosen = &info;
        if (only_unbuilt && (chosen == nullptr || info.isa > chosen->isa)) unbuilt = info.name;
        error.candidates.push_back({info.name, std::move(why)});
    }
    if (!forced_name_known)
        return refuse(
            text("FEWBIT_FORCE_KERNEL is '", forced_kernel, "', which is no kernel of this library"));
    if (chosen == nullptr) return refuse(text("no kernel can multiply ", what, ":"));

    std::string fallback;
    if (!unbuilt.empty())
        fallback = text("the faster kernel ", unbuilt, " is not in this build");
    else if (chosen->isa == Isa::generic)
        fallback = text("no tuned kernel fits ", what, " on this CPU");
    if (!fallback.empty() && query.fallback == Fallback::refuse && forced_isa == nullptr &&
        forced_kernel == nullptr) {
        for (Candidate& candidate : error.candidates)
            if (candidate.kernel == chosen->name)
                candidate.reason = "would run, but it is a fallback and the query refuses fallbacks";
        return refuse(text("only a fallback can multiply ", what, ":"));
    }
    return Kernel(*chosen, query.activations, std::move(fallback));
}

}  // namespace fewbit::inline v0
