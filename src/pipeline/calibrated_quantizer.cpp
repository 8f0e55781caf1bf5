// Definitions of pipeline/calibrated_quantizer.hpp.
#include "fewbit/pipeline/calibrated_quantizer.hpp"

#include <algorithm>
#include <utility>

#include "fewbit/core/text.hpp"
#include "fewbit/model/decoder_block.hpp"
#include "fewbit/pipeline/folds.hpp"
#include "fewbit/pipeline/hessian.hpp"
#include "src/pipeline/block_layers.hpp"
#include "src/pipeline/calibration_run.hpp"
#include "src/pipeline/calibration_state.hpp"
#include "src/pipeline/layer_method.hpp"
#include "src/pipeline/saved_statistics.hpp"
#include "src/pipeline/site_scales.hpp"

namespace fewbit::inline v0::pipeline {
namespace {

using model::DecoderBlock;
using model::Layer;

using Plan = std::map<std::string, LayerChoice>;

class CalibratedQuantizer : CalibrationState {
public:
    CalibratedQuantizer(const io::ModelFile& file, const Plan& plan,
                        std::span<const std::vector<int>> windows, const CalibratedOptions& options,
                        ExecutionContext context, HessianCollector collector)
        : CalibrationState(file, plan, options),
          windows_(windows),
          context_(context),
          collector_(std::move(collector)),
          asymmetric_(std::any_of(plan.begin(), plan.end(), [](const auto& entry) {
              return compensates_inputs(entry.second.method);
          })) {}

    [[nodiscard]] Result<CalibratedModel> run() {
        if (auto done = start(); !done) return Unexpected{std::move(done).error()};
        if (auto done = embed(); !done) return Unexpected{std::move(done).error()};
        for (std::size_t b = 0; b < file_.shape.layers; ++b)
            if (auto done = block(b); !done) return Unexpected{std::move(done).error()};
        if (auto done = head(); !done) return Unexpected{std::move(done).error()};
        return std::move(result_);
    }

private:
    [[nodiscard]] Result<void> start() {
        if (auto done = open(windows_); !done) return done;
        if (options_.statistics != nullptr) return {};
        auto run = CalibrationRun::create(file_.shape, windows_, asymmetric_, options_, collector_, context_);
        if (!run) return Unexpected{std::move(run).error()};
        run_.emplace(*std::move(run));
        return {};
    }

    // --- one layer

    [[nodiscard]] Result<void> quantize_layer(const std::string& layer, const LayerChoice& choice,
                                              const TensorStatistics* statistics) {
        if (options_.progress) options_.progress(layer, result_.layers.size(), plan_.size());
        const Linear& source = file_.linears.at(layer);
        const Matrix w = dequantized(source);
        const LayerMethod how = layer_method(choice.method, layer, statistics);
        const auto* awq = std::get_if<AwqOptions>(&how.method);  // its scales, if any, are folded already
        auto quantized =
            awq != nullptr
                ? quantize_awq_clip(std::as_const(w).view(), *how.statistics, choice.format, *awq, context_)
                : quantize(std::as_const(w).view(), *how.statistics, choice.format, how.method, context_);
        if (!quantized) return Unexpected{std::move(quantized).error()};
        LayerOutcome outcome;
        outcome.report = std::move(quantized->report);
        if (how.replaced)
            outcome.report.notes.push_back(
                text("tensor '", layer, "': it has no input to calibrate with, and was rounded by mse"));
        Linear& target = result_.file.linears.at(layer);
        target.weights = std::move(quantized->linear.weights);
        target.transform = std::move(quantized->linear.transform);
        target.transform.hadamard = source.transform.hadamard;  // methods see x after it
        target.columns = std::move(quantized->linear.columns);
        if (const auto scaled = scales_.find(layer); scaled != scales_.end()) outcome.scales = scaled->second;
        if (statistics != nullptr) {
            outcome.tokens = statistics->tokens;
            Matrix lost = dequantized(target);
            for (std::size_t i = 0; i < lost.values().size(); ++i)
                lost.values()[i] = w.values()[i] - lost.values()[i];
            outcome.output_error =
                collector_.output_error(std::as_const(w).view(), std::as_const(lost).view(), *statistics);
        }
        result_.layers.insert_or_assign(layer, std::move(outcome));
        return {};
    }

    /// quantize_layer() for a layer that has an input: with what was gathered or, where that is null, with
    /// what was saved.
    [[nodiscard]] Result<void> quantize_with(const std::string& layer, const TensorStatistics* gathered) {
        const LayerChoice& choice = *choice_of(layer);
        std::optional<SavedInput> saved;
        if (gathered == nullptr) {
            const auto scales = divisors_.find(layer);
            auto found =
                saved_input(*options_.statistics, layer, file_.linears.at(layer).k(),
                            scales == divisors_.end() ? std::vector<float>() : scales->second, choice.method);
            if (!found) return Unexpected{std::move(found).error()};
            saved = *std::move(found);
        }
        const TensorStatistics* statistics = saved ? &saved->statistics : gathered;
        if (auto done = quantize_layer(layer, choice, statistics); !done) return done;
        LayerOutcome& outcome = result_.layers.find(layer)->second;
        if (saved && !saved->note.empty()) outcome.report.notes.push_back(saved->note);
        if (saved && saved->statistics.hessian_sum.elements() == 0) outcome.output_error.reset();
        if (options_.keep_statistics && statistics != nullptr) step_statistics_.tensors[layer] = *statistics;
        return {};
    }

    // --- the embedding and scales

    [[nodiscard]] Result<void> embed() {
        const std::string layer = "model.embed_tokens";
        if (!file_.linears.contains(layer))
            return fail(ErrorKind::bad_input, "the ", file_.type, " model has no matrix '", layer, "'");
        if (const LayerChoice* choice = choice_of(layer)) {
            auto restored = restore("embedding", std::nullopt);
            if (!restored) return Unexpected{std::move(restored).error()};
            if (!*restored) {
                if (auto done = quantize_layer(layer, *choice, nullptr); !done) return done;
                if (auto done = finish("embedding", {layer}); !done) return done;
            }
        }
        if (!run_) return {};
        return run_->embed(result_.file.linears.at(layer).weights, file_.linears.at(layer).weights);
    }

    /// Folds what the sites of a block are scaled with, and makes the block anew where that is anything.
    /// `block`: null with saved statistics.
    [[nodiscard]] Result<void> fold_block(std::size_t index, DecoderBlock* block) {
        bool folded = false;
        for (std::size_t i = 0; i < fold_sites.size(); ++i) {
            const Fold fold = fold_of(file_.shape, index, fold_sites[i]);
            // What is rotated while the model runs has no channels that could be divided before.
            if (file_.linears.at(fold.readers.front()).transform.hadamard != 0) continue;
            if (!has_scales(fold, plan_, options_.smoothquant)) continue;
            auto statistics = block != nullptr
                                  ? run_->statistics_before(*block, nullptr, block_stages[i].first)
                                  : saved_input(*options_.statistics, fold);
            if (!statistics) return Unexpected{std::move(statistics).error()};
            auto scales = scales_of(fold, file_, plan_, options_.smoothquant, *statistics, context_);
            if (!scales) return Unexpected{std::move(scales).error()};
            if (auto done = fold_in(fold, scales->scales, scales->how); !done) return done;
            if (options_.keep_statistics)
                step_statistics_.tensors[float_block_name(fold.readers.front())] = *std::move(statistics);
            folded = true;
        }
        if (!folded || block == nullptr) return {};
        auto made = DecoderBlock::create(file_, index, exact_options(), context_);
        if (!made) return Unexpected{std::move(made).error()};
        *block = *std::move(made);
        return {};
    }

    // --- blocks

    [[nodiscard]] Result<void> block(std::size_t index) {
        const std::string step = text("block-", index);
        auto restored = restore(step, index);
        if (!restored) return Unexpected{std::move(restored).error()};
        std::optional<DecoderBlock> now, exact;
        const auto make = [&](const io::ModelFile& file, std::optional<DecoderBlock>& block) -> Result<void> {
            auto made = DecoderBlock::create(file, index, exact_options(), context_);
            if (!made) return Unexpected{std::move(made).error()};
            block.emplace(*std::move(made));
            return {};
        };
        if (*restored && run_ && options_.replay) options_.replay(index, file_.shape.layers);
        if (run_)
            if (auto done = make(result_.file, now); !done) return done;
        if (!*restored)
            if (auto done = fold_block(index, now ? &*now : nullptr); !done) return done;
        if (run_ && asymmetric_ && *restored) {
            if (auto done = make(file_, exact); !done) return done;
        } else if (run_ && asymmetric_) {
            exact = *now;
        }
        if (!*restored) {
            std::vector<std::string> layers;
            for (std::size_t stage = 0; stage < block_stages.size(); ++stage)
                if (auto done = quantize_stage(index, stage, now, exact, layers); !done) return done;
            if (auto done = finish(step, layers); !done) return done;
        }
        for (std::size_t i = 0; i < block_layers.size(); ++i)
            file_.linears.erase(block_layer(index, i));  // nobody reads them any more
        return run_ ? run_->advance(*now, exact ? &*exact : nullptr) : Result<void>();
    }

    /// Quantizes those layers of a stage of block `index` that are in the plan, and adds them to `layers`.
    /// `now` and `exact`: the block as it is by then, and that of the float model where it runs beside.
    [[nodiscard]] Result<void> quantize_stage(std::size_t index, std::size_t stage,
                                              std::optional<DecoderBlock>& now,
                                              const std::optional<DecoderBlock>& exact,
                                              std::vector<std::string>& layers) {
        const auto [first, last] = block_stages[stage];
        std::vector<std::size_t> chosen;
        for (std::size_t i = first; i < last; ++i)
            if (choice_of(block_layer(index, i)) != nullptr) chosen.push_back(i);
        if (chosen.empty()) return {};
        TensorStatistics gathered;
        if (now) {
            auto statistics = run_->statistics_before(*now, exact ? &*exact : nullptr, first);
            if (!statistics) return Unexpected{std::move(statistics).error()};
            gathered = *std::move(statistics);
            if (const auto scales = divisors_.find(block_layer(index, first)); scales != divisors_.end())
                gathered.channel_scales = scales->second;
        }
        for (const std::size_t i : chosen) {
            const std::string& name = layers.emplace_back(block_layer(index, i));
            if (auto done = quantize_with(name, now ? &gathered : nullptr); !done) return done;
            if (!now) continue;
            Layer& layer = *now->layers()[i];
            auto packed = Layer::create(result_.file, name, name, layer.linear.n(), layer.linear.k(),
                                        exact_options(), context_);
            if (!packed) return Unexpected{std::move(packed).error()};
            layer = *std::move(packed);
        }
        return {};
    }

    [[nodiscard]] Result<void> head() {
        const std::string layer = "lm_head";
        if (choice_of(layer) == nullptr) return {};
        const auto norm = file_.vectors.find("model.norm");
        if (norm == file_.vectors.end() || norm->second.size() != file_.shape.dim)
            return fail(ErrorKind::bad_input, "the ", file_.type, " model has no vector 'model.norm' of ",
                        file_.shape.dim);
        std::optional<TensorStatistics> gathered;
        if (run_) {
            auto statistics = run_->statistics_of_head(norm->second);
            if (!statistics) return Unexpected{std::move(statistics).error()};
            gathered = *std::move(statistics);
        }
        if (auto done = quantize_with(layer, gathered ? &*gathered : nullptr); !done) return done;
        result_.statistics.tensors.merge(step_statistics_.tensors);
        return {};
    }

    std::span<const std::vector<int>> windows_;
    ExecutionContext context_;
    HessianCollector collector_;
    bool asymmetric_;
    std::optional<CalibrationRun> run_;  ///< nothing with saved statistics
};

}  // namespace

Result<CalibratedModel> quantize_calibrated(const io::ModelFile& file,
                                            const std::map<std::string, LayerChoice>& plan,
                                            std::span<const std::vector<int>> windows,
                                            const CalibratedOptions& options, ExecutionContext context) {
    auto collector = HessianCollector::create(context);
    if (!collector) return Unexpected{std::move(collector).error()};
    return CalibratedQuantizer(file, plan, windows, options, context, *std::move(collector)).run();
}

}  // namespace fewbit::inline v0::pipeline
