// Definitions of pipeline/candidates.hpp.
#include "fewbit/pipeline/candidates.hpp"

#include <optional>
#include <utility>

#include "fewbit/core/text.hpp"
#include "src/pipeline/block_layers.hpp"
#include "src/pipeline/calibration_run.hpp"
#include "src/pipeline/layer_method.hpp"

namespace fewbit::inline v0::pipeline {
namespace {

class CandidateMeter {
public:
    using Candidates = std::map<std::string, std::vector<Format>>;
    using LayerLosses = std::map<std::string, LayerCandidates>;

    CandidateMeter(const io::ModelFile& file, const Candidates& candidates,
                   std::span<const std::vector<int>> windows, const CandidateOptions& options,
                   ExecutionContext context, HessianCollector collector)
        : file_(file),
          candidates_(candidates),
          windows_(windows),
          options_(options),
          context_(context),
          collector_(std::move(collector)) {}

    [[nodiscard]] Result<LayerLosses> run() {
        const std::string embedding = "model.embed_tokens";
        if (auto done = check(embedding); !done) return Unexpected{std::move(done).error()};
        auto run = CalibrationRun::create(file_.shape, windows_, false, {}, collector_, context_);
        if (!run) return Unexpected{std::move(run).error()};
        const QuantizedMatrix& rows = file_.linears.at(embedding).weights;
        if (auto done = run->embed(rows, rows); !done) return Unexpected{std::move(done).error()};
        if (candidates_.contains(embedding))
            if (auto done = measure(embedding, nullptr); !done) return Unexpected{std::move(done).error()};
        for (std::size_t b = 0; b < file_.shape.layers; ++b)
            if (auto done = block(b, *run); !done) return Unexpected{std::move(done).error()};
        if (candidates_.contains("lm_head"))
            if (auto done = head(*run); !done) return Unexpected{std::move(done).error()};
        return std::move(result_);
    }

private:
    [[nodiscard]] Result<void> check(const std::string& embedding) const {
        if (auto done = check_windows(file_.shape, windows_); !done) return done;
        if (!file_.linears.contains(embedding))
            return fail(ErrorKind::bad_input, "the ", file_.type, " model has no matrix '", embedding, "'");
        for (const auto& [layer, formats] : candidates_) {
            const auto found = file_.linears.find(layer);
            if (found == file_.linears.end())
                return fail(ErrorKind::bad_input, "the model has no matrix '", layer, "'");
            if (!found->second.weights.format().is_float())
                return fail(ErrorKind::bad_input, "layer '", layer, "' is ",
                            name(found->second.weights.format()),
                            " already; candidates are measured on float models");
        }
        return {};
    }

    // --- one layer

    /// Relative squared error of the outputs of other weights, or without statistics of the weights themselves.
    [[nodiscard]] double error_of(const Matrix& w, Matrix other, const TensorStatistics* statistics) {
        double lost = 0, given = 0;
        for (std::size_t i = 0; i < w.values().size(); ++i) {
            float& value = other.values()[i];
            value = w.values()[i] - value;
            lost += static_cast<double>(value) * static_cast<double>(value);
            given += static_cast<double>(w.values()[i]) * static_cast<double>(w.values()[i]);
        }
        if (statistics == nullptr) return given > 0 ? lost / given : 0;
        return collector_.output_error(w.view(), std::as_const(other).view(), *statistics);
    }

    [[nodiscard]] double bits_of(const Linear& linear) const {
        const bool folded = std::holds_alternative<AwqOptions>(options_.method);
        return linear.total_bits() -
               (folded ? 32.0 * static_cast<double>(linear.transform.channel_scales.size()) : 0.0);
    }

    [[nodiscard]] Result<void> measure(const std::string& layer, const TensorStatistics* statistics) {
        const std::vector<Format>& formats = candidates_.at(layer);
        if (options_.progress) options_.progress(layer, result_.size(), candidates_.size());
        const Linear& source = file_.linears.at(layer);
        const Matrix w = dequantized(source);
        LayerCandidates found;
        if (statistics != nullptr) found.tokens = statistics->tokens;
        const LayerMethod how = layer_method(options_.method, layer, statistics);
        for (const Format& format : formats) {
            auto quantized = quantize(w.view(), *how.statistics, format, how.method, context_);
            if (!quantized) return Unexpected{std::move(quantized).error()};
            const double bits = bits_of(quantized->linear);
            const double error = error_of(w, dequantized(quantized->linear), statistics);
            quantized->linear.transform.hadamard = source.transform.hadamard;  // methods see x after it
            quantized->linear.bias = source.bias;
            if (options_.visit)
                if (auto seen = options_.visit(layer, found.candidates.size(), quantized->linear); !seen)
                    return seen;
            found.candidates.push_back({format, bits, error});
        }
        result_.insert_or_assign(layer, std::move(found));
        return {};
    }

    // --- the windows

    [[nodiscard]] Result<void> block(std::size_t index, CalibrationRun& run) {
        const auto made = model::DecoderBlock::create(file_, index, exact_options(), context_);
        if (!made) return Unexpected{made.error()};
        for (const auto& [first, last] : block_stages) {
            std::optional<TensorStatistics> statistics;
            for (std::size_t i = first; i < last; ++i) {
                const std::string& layer = made->layers()[i]->name;
                if (!candidates_.contains(layer)) continue;
                if (!statistics) {
                    auto gathered = run.statistics_before(*made, nullptr, first);
                    if (!gathered) return Unexpected{std::move(gathered).error()};
                    statistics = *std::move(gathered);
                }
                if (auto done = measure(layer, &*statistics); !done) return done;
            }
        }
        return run.advance(*made, nullptr);
    }

    [[nodiscard]] Result<void> head(CalibrationRun& run) {
        const auto norm = file_.vectors.find("model.norm");
        if (norm == file_.vectors.end() || norm->second.size() != file_.shape.dim)
            return fail(ErrorKind::bad_input, "the ", file_.type, " model has no vector 'model.norm' of ",
                        file_.shape.dim);
        const auto statistics = run.statistics_of_head(norm->second);
        if (!statistics) return Unexpected{statistics.error()};
        return measure("lm_head", &*statistics);
    }

    const io::ModelFile& file_;
    const Candidates& candidates_;
    std::span<const std::vector<int>> windows_;
    const CandidateOptions& options_;
    ExecutionContext context_;
    HessianCollector collector_;
    LayerLosses result_;
};

}  // namespace

Result<std::map<std::string, LayerCandidates>> measure_candidates(
    const io::ModelFile& file, const std::map<std::string, std::vector<Format>>& candidates,
    std::span<const std::vector<int>> windows, const CandidateOptions& options, ExecutionContext context) {
    auto collector = HessianCollector::create(context);
    if (!collector) return Unexpected{std::move(collector).error()};
    return CandidateMeter(file, candidates, windows, options, context, *std::move(collector)).run();
}

}  // namespace fewbit::inline v0::pipeline
