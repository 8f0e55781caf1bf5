// Definitions of llm_int8.hpp.
#include "fewbit/quantize/llm_int8.hpp"

#include <cmath>
#include <utility>
#include <vector>

#include "fewbit/quantize/rtn.hpp"
#include "src/quantize/float_columns.hpp"

namespace fewbit::inline v0 {

using namespace detail;

Result<Quantized> quantize_llm_int8(MatrixView<const float> w, const TensorStatistics& statistics,
                                    const Format& format, const LlmInt8Options& options,
                                    ExecutionContext context) {
    const std::string prefix = tensor_prefix(options.tensor);
    if (!(options.threshold > 0) || !std::isfinite(options.threshold))
        return fail(ErrorKind::bad_input, prefix, "llm-int8 with a threshold of ", options.threshold,
                    ": it is a magnitude above 0");
    if (statistics.tokens == 0 || statistics.channel_ranges.size() != w.cols)
        return fail(ErrorKind::bad_input, prefix, "llm-int8 needs the ranges of ", w.cols,
                    " channels from calibration; the statistics have ", statistics.channel_ranges.size(),
                    " and ", statistics.tokens, " tokens");
    if (auto valid = check_has_zero(format, options.tensor, "llm-int8"); !valid)
        return Unexpected{std::move(valid).error()};
    std::vector<std::uint32_t> channels;
    for (std::uint32_t k = 0; k < w.cols; ++k)
        if (std::max(-statistics.channel_ranges[k].min, statistics.channel_ranges[k].max) >=
            options.threshold)
            channels.push_back(k);
    RtnOptions plain;
    plain.tensor = options.tensor;
    if (auto finite = check_finite(w, options.tensor, context); !finite)
        return Unexpected{std::move(finite).error()};
    const auto [rest, kept] = split_columns(w, channels);
    auto done = quantize_rtn(rest.view(), format, plain, context);
    if (!done) return done;
    auto columns = float_columns(kept.view(), std::move(channels));
    if (!columns) return Unexpected{std::move(columns).error()};
    done->linear.columns = *std::move(columns);
    replace_errors(done->report, measure_error(w, done->linear, context));
    done->report.method = "llm-int8";
    if (const std::size_t count = done->linear.columns.channels.size(); count > 0)
        done->report.notes.push_back(text(prefix, count, " of ", w.cols, " input channels reached ",
                                          options.threshold, " in calibration and stay in f16"));
    return done;
}

}  // namespace fewbit::inline v0
