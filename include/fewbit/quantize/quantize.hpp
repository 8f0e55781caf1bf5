// The one door to every method: (weights, statistics, format, method, context) -> Quantized.
//
// A new method adds its options to the variant and a row to the table in quantize_impl.hpp; nothing else in
// the library names methods.
#pragma once

#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "fewbit/calibrate/statistics.hpp"
#include "fewbit/quantize/awq.hpp"
#include "fewbit/quantize/gptq.hpp"
#include "fewbit/quantize/hqq.hpp"
#include "fewbit/quantize/llm_int8.hpp"
#include "fewbit/quantize/mse.hpp"
#include "fewbit/quantize/owq.hpp"
#include "fewbit/quantize/quantized.hpp"
#include "fewbit/quantize/rtn.hpp"

namespace fewbit::inline v0 {

/// A method with its options. Each alternative has a member `tensor`, the name used in error sentences.
using Method =
    std::variant<RtnOptions, MseOptions, GptqOptions, AwqOptions, HqqOptions, OwqOptions, LlmInt8Options>;

/// Names that parse_method knows, in the order of the variant: "rtn", "mse", "gptq", "awq", "hqq", "owq",
/// "llm-int8".
[[nodiscard]] FEWBIT_API std::vector<std::string_view> method_names();
[[nodiscard]] FEWBIT_API std::string_view name(const Method& method);
/// A method by name, with default options. Error: unknown; the sentence lists the known ones.
[[nodiscard]] FEWBIT_API Result<Method> parse_method(std::string_view name);
/// The same method, its errors naming `tensor`.
[[nodiscard]] FEWBIT_API Method for_tensor(Method method, std::string tensor);
/// True if the method reads statistics of the layer's input; rtn, mse and hqq do not.
[[nodiscard]] FEWBIT_API bool needs_statistics(const Method& method);

/// True if the method makes up for what the layer's inputs have lost, where the statistics tell it (asymmetry_sum).
[[nodiscard]] FEWBIT_API bool compensates_inputs(const Method& method);

/// Quantizes w (N, K). `statistics` are those of the layer's input x (M, K); methods that need none ignore
/// them. Errors: those of the method; only rtn and mse are in fewbit::headers.
[[nodiscard]] FEWBIT_API Result<Quantized> quantize(MatrixView<const float> w,
                                                    const TensorStatistics& statistics, const Format& format,
                                                    const Method& method, ExecutionContext context = {});

}  // namespace fewbit::inline v0

#if defined(FEWBIT_HEADER_ONLY)
#include "fewbit/quantize/quantize_impl.hpp"
#endif
