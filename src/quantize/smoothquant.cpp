// Definitions of smoothquant.hpp.
#include "fewbit/quantize/smoothquant.hpp"

#include <algorithm>
#include <cmath>
#include <vector>

#include "fewbit/core/text.hpp"
#include "fewbit/quantize/rounding.hpp"
#include "fewbit/quantize/row_blocks.hpp"

namespace fewbit::inline v0 {
namespace {

/// Largest of the channels of a class; `values` (K).
void share_largest(std::vector<double>& values, TiedChannels tied) {
    if (tied.empty()) return;
    std::vector<double> largest(1 + *std::max_element(tied.begin(), tied.end()));
    for (std::size_t k = 0; k < values.size(); ++k) largest[tied[k]] = std::max(largest[tied[k]], values[k]);
    for (std::size_t k = 0; k < values.size(); ++k) values[k] = largest[tied[k]];
}

}  // namespace

Result<ChannelScales> smoothquant_scales(std::span<const MatrixView<const float>> readers,
                                         const TensorStatistics& statistics,
                                         const SmoothQuantOptions& options, TiedChannels tied) {
    const std::string prefix = detail::tensor_prefix(options.tensor);
    if (readers.empty())
        return fail(ErrorKind::bad_input, prefix, "smoothquant needs a matrix that reads the channels");
    if (!(options.alpha >= 0 && options.alpha <= 1))
        return fail(ErrorKind::bad_input, prefix, "smoothquant's alpha is ", options.alpha, ", not 0 to 1");
    const std::size_t k = readers[0].cols;
    if (statistics.tokens == 0 || statistics.channels() != k)
        return fail(ErrorKind::bad_input, prefix, "smoothquant needs statistics of ", k,
                    " channels; these have ", statistics.channels(), " and ", statistics.tokens, " tokens");
    if (!tied.empty() && tied.size() != k)
        return fail(ErrorKind::bad_input, prefix, tied.size(), " classes of channels for ", k, " channels");
    std::vector<double> x(k), w(k);
    for (std::size_t c = 0; c < k; ++c) {
        const Range& range = statistics.channel_ranges[c];
        x[c] = std::max(std::abs(static_cast<double>(range.min)), std::abs(static_cast<double>(range.max)));
    }
    for (const auto& reader : readers) {
        if (reader.cols != k)
            return fail(ErrorKind::bad_input, prefix, "matrices of ", k, " and of ", reader.cols,
                        " input channels do not read the same input");
        for (std::size_t r = 0; r < reader.rows; ++r)
            for (std::size_t c = 0; c < k; ++c)
                w[c] = std::max(w[c], std::abs(static_cast<double>(reader(r, c))));
    }
    share_largest(x, tied);
    share_largest(w, tied);
    ChannelScales out;
    out.scales.assign(k, 1.0f);
    out.how = text("max|x|^", options.alpha, " / max|w|^", 1 - options.alpha);
    for (std::size_t c = 0; c < k; ++c) {
        if (!(x[c] > 0) || !(w[c] > 0)) continue;
        const double s = detail::power(x[c], options.alpha) / detail::power(w[c], 1 - options.alpha);
        out.scales[c] = static_cast<float>(std::clamp(s, 1e-5, 1e5));
    }
    return out;
}

}  // namespace fewbit::inline v0
