// Definitions of quantize.hpp.
#pragma once

#include <type_traits>
#include <utility>

#include "fewbit/quantize/quantize.hpp"
#include "fewbit/quantize/row_blocks.hpp"

namespace fewbit::inline v0 {
namespace detail {

struct MethodRow {
    std::string_view name;
    Method method;
    bool needs_statistics;
};

/// In the order of the variant.
[[nodiscard]] inline const std::vector<MethodRow>& method_rows() {
    static const std::vector<MethodRow> rows{
        {"rtn", RtnOptions{}, false},        {"mse", MseOptions{}, false}, {"gptq", GptqOptions{}, true},
        {"awq", AwqOptions{}, true},         {"hqq", HqqOptions{}, false}, {"owq", OwqOptions{}, true},
        {"llm-int8", LlmInt8Options{}, true}};
    return rows;
}

}  // namespace detail

FEWBIT_INLINE std::vector<std::string_view> method_names() {
    std::vector<std::string_view> names;
    for (const auto& row : detail::method_rows()) names.push_back(row.name);
    return names;
}

FEWBIT_INLINE std::string_view name(const Method& method) {
    return detail::method_rows()[method.index()].name;
}

FEWBIT_INLINE Result<Method> parse_method(std::string_view wanted) {
    std::string known;
    for (const auto& row : detail::method_rows()) {
        if (row.name == wanted) return row.method;
        known += text(known.empty() ? "" : ", ", row.name);
    }
    return fail(ErrorKind::bad_input, "method '", wanted, "' is not known; known are ", known);
}

FEWBIT_INLINE Method for_tensor(Method method, std::string tensor) {
    std::visit([&](auto& options) { options.tensor = std::move(tensor); }, method);
    return method;
}

FEWBIT_INLINE bool needs_statistics(const Method& method) {
    return detail::method_rows()[method.index()].needs_statistics;
}

FEWBIT_INLINE bool compensates_inputs(const Method& method) {
    const auto* owq = std::get_if<OwqOptions>(&method);
    const auto* gptq = owq != nullptr ? &owq->gptq : std::get_if<GptqOptions>(&method);
    return gptq != nullptr && gptq->asymmetry > 0;
}

FEWBIT_INLINE Result<Quantized> quantize(MatrixView<const float> w,
                                         [[maybe_unused]] const TensorStatistics& statistics,
                                         const Format& format, const Method& method,
                                         ExecutionContext context) {
    return std::visit(
        [&](const auto& options) -> Result<Quantized> {
            using Options = std::decay_t<decltype(options)>;
            if constexpr (std::is_same_v<Options, RtnOptions>)
                return quantize_rtn(w, format, options, context);
            else if constexpr (std::is_same_v<Options, MseOptions>)
                return quantize_mse(w, format, options, context);
#if defined(FEWBIT_HEADER_ONLY)
            else
                return fail(ErrorKind::unsupported, detail::tensor_prefix(options.tensor), "method '",
                            name(method), "' is in the compiled library, fewbit::fewbit");
#else
            else if constexpr (std::is_same_v<Options, GptqOptions>)
                return quantize_gptq(w, statistics, format, options, context);
            else if constexpr (std::is_same_v<Options, AwqOptions>)
                return quantize_awq(w, statistics, format, options, context);
            else if constexpr (std::is_same_v<Options, HqqOptions>)
                return quantize_hqq(w, format, options, context);
            else if constexpr (std::is_same_v<Options, OwqOptions>)
                return quantize_owq(w, statistics, format, options, context);
            else
                return quantize_llm_int8(w, statistics, format, options, context);
#endif
        },
        method);
}

}  // namespace fewbit::inline v0
