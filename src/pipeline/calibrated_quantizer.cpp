// Definitions of pipeline/calibrated_quantizer.hpp.
#include "fewbit/pipeline/calibrated_quantizer.hpp"

#include <algorithm>
#include <array>
#include <utility>

#include "fewbit/core/text.hpp"
#include "fewbit/model/decoder_block.hpp"
#include "fewbit/model/operators.hpp"
#include "fewbit/pipeline/folds.hpp"
#include "fewbit/pipeline/hessian.hpp"

namespace fewbit::inline v0::pipeline {
namespace {

using model::BlockWorkspace;
using model::DecoderBlock;
using model::KvCache;
using model::Layer;

using Plan = std::map<std::string, LayerChoice>;

[[nodiscard]] model::ModelOptions exact_options() {
    model::ModelOptions options;
    options.fallback = Fallback::allow;  // slower, not less exact
    return options;
}

/// What the windows look like between two blocks.
using Stream = std::vector<Matrix>;  ///< by window: (tokens, dim)

[[nodiscard]] bool reads_asymmetry(const Method& method) {
    const auto* gptq = std::get_if<GptqOptions>(&method);
    const auto* owq = std::get_if<OwqOptions>(&method);
    return (gptq != nullptr && gptq->asymmetry > 0) || (owq != nullptr && owq->gptq.asymmetry > 0);
}

/// Inputs of a layer on their way into its statistics: short windows are added together, which costs less.
struct Gathered {
    static constexpr std::size_t batch_tokens = 512;

    /// `rotation`: what the layer does to its input first; methods see what comes out.
    Gathered(HessianCollector& collector_, std::string layer_, bool asymmetric_,
             std::optional<Hadamard> rotation_ = {})
        : collector(collector_),
          layer(std::move(layer_)),
          asymmetric(asymmetric_),
          rotation(std::move(rotation_)) {}

    void take(MatrixView<const float> x, std::vector<float>& into) {
        channels = x.cols;
        Matrix turned;
        if (rotation) {
            turned = rotated(*rotation, x);
            x = std::as_const(turned).view();
        }
        for (std::size_t m = 0; m < x.rows; ++m) into.insert(into.end(), x.row(m).begin(), x.row(m).end());
    }
    /// Adds what was taken when there is enough of it, or when nothing follows.
    [[nodiscard]] Result<void> add(bool all) {
        const std::size_t tokens = channels == 0 ? 0 : inputs.size() / channels;
        if (tokens == 0 || (!all && tokens < batch_tokens)) return {};
        const MatrixView<const float> x(inputs.data(), tokens, channels);
        auto added = asymmetric ? collector.add(x, {exact.data(), tokens, channels}, statistics, layer)
                                : collector.add(x, statistics, layer);
        inputs.clear();
        exact.clear();
        return added;
    }

    HessianCollector& collector;
    std::string layer;
    bool asymmetric;
    std::optional<Hadamard> rotation;
    std::size_t channels = 0;
    std::vector<float> inputs, exact;  ///< (tokens, channels)
    TensorStatistics statistics;
};

class CalibratedQuantizer {
public:
    CalibratedQuantizer(const io::ModelFile& file, const Plan& plan,
                        std::span<const std::vector<int>> windows, const CalibratedOptions& options,
                        ExecutionContext context, HessianCollector collector)
        : file_(file),
          plan_(plan),
          windows_(windows),
          options_(options),
          context_(context),
          collector_(std::move(collector)),
          asymmetric_(std::any_of(plan.begin(), plan.end(),
                                  [](const auto& entry) { return reads_asymmetry(entry.second.method); })) {
        result_.file = file;
    }

    [[nodiscard]] Result<CalibratedModel> run() {
        if (auto done = check(); !done) return Unexpected{std::move(done).error()};
        if (auto done = embed(); !done) return Unexpected{std::move(done).error()};
        for (std::size_t b = 0; b < file_.shape.layers; ++b)
            if (auto done = block(b); !done) return Unexpected{std::move(done).error()};
        if (auto done = head(); !done) return Unexpected{std::move(done).error()};
        return std::move(result_);
    }

private:
    [[nodiscard]] Result<void> check() const {
        if (windows_.empty()) return fail(ErrorKind::bad_input, "there are no tokens to calibrate with");
        for (std::size_t i = 0; i < windows_.size(); ++i) {
            if (windows_[i].empty() || windows_[i].size() > file_.shape.context)
                return fail(ErrorKind::bad_input, "calibration window ", i, " has ", windows_[i].size(),
                            " tokens; the model takes 1 to ", file_.shape.context);
            for (const int token : windows_[i])
                if (token < 0 || static_cast<std::size_t>(token) >= file_.shape.vocabulary)
                    return fail(ErrorKind::bad_input, "calibration window ", i, " has token ", token,
                                ", outside the vocabulary of ", file_.shape.vocabulary);
        }
        for (const auto& [layer, choice] : plan_) {
            const auto found = file_.linears.find(layer);
            if (found == file_.linears.end())
                return fail(ErrorKind::bad_input, "the model has no matrix '", layer, "'");
            if (!found->second.weights.format().is_float())
                return fail(
                    ErrorKind::bad_input, "layer '", layer, "' is ", name(found->second.weights.format()),
                    " already; start from the float model, or the report would hide a part of the error");
            if (found->second.transform.reorders_or_scales() || !found->second.columns.empty())
                return fail(ErrorKind::bad_input, "layer '", layer,
                            "' has an input transform or float columns, which the method's would replace");
        }
        return {};
    }

    // --- one layer ----------------------------------------------------------------------------------------------

    [[nodiscard]] const LayerChoice* choice_of(std::string_view layer) const {
        const auto found = plan_.find(std::string(layer));
        return found == plan_.end() ? nullptr : &found->second;
    }

    [[nodiscard]] Result<void> quantize_layer(const std::string& layer, const LayerChoice& choice,
                                              const TensorStatistics* statistics) {
        if (options_.progress) options_.progress(layer, result_.layers.size(), plan_.size());
        const Linear& source = file_.linears.at(layer);
        const Matrix w = dequantized(source);
        const bool blind = statistics == nullptr && needs_statistics(choice.method);
        const Method method = for_tensor(blind ? Method{MseOptions{}} : choice.method, layer);
        static const TensorStatistics none;
        const auto* awq = std::get_if<AwqOptions>(&method);  // its scales, if any, are folded already
        auto quantized =
            awq != nullptr
                ? quantize_awq_clip(std::as_const(w).view(), *statistics, choice.format, *awq, context_)
                : quantize(std::as_const(w).view(), statistics != nullptr ? *statistics : none, choice.format,
                           method, context_);
        if (!quantized) return Unexpected{std::move(quantized).error()};
        LayerOutcome outcome;
        outcome.report = std::move(quantized->report);
        if (blind)
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

    // --- the windows --------------------------------------------------------------------------------------------

    [[nodiscard]] Result<void> embed() {
        const std::string layer = "model.embed_tokens";
        const auto rows_of = [&](const io::ModelFile& file) {
            Stream stream;
            const QuantizedMatrix& embedding = file.linears.at(layer).weights;
            for (const std::vector<int>& window : windows_) {
                Matrix x(window.size(), embedding.k());
                for (std::size_t m = 0; m < window.size(); ++m)
                    embedding.dequantize(static_cast<std::size_t>(window[m]), 0, x.row(m));
                stream.push_back(std::move(x));
            }
            return stream;
        };
        if (!file_.linears.contains(layer))
            return fail(ErrorKind::bad_input, "the ", file_.type, " model has no matrix '", layer, "'");
        if (asymmetric_) float_stream_ = rows_of(file_);
        if (const LayerChoice* choice = choice_of(layer))
            if (auto done = quantize_layer(layer, *choice, nullptr); !done) return done;
        stream_ = rows_of(result_.file);
        return {};
    }

    /// Runs a window through a block, up to `until`, whose input goes to `sees`; to the end, and x is replaced, where
    /// that is null.
    [[nodiscard]] Result<void> run_window(const DecoderBlock& block, Matrix& x, const Layer* until,
                                          const std::function<void(MatrixView<const float>)>& sees) {
        io::ModelShape one = file_.shape;
        one.layers = 1;
        auto cache = KvCache::create(one, x.rows());
        if (!cache) return Unexpected{std::move(cache).error()};
        auto w = BlockWorkspace::create(one, x.rows(), *cache, context_);
        if (!w) return Unexpected{std::move(w).error()};
        for (std::size_t m = 0; m < x.rows(); ++m) std::copy_n(x.row(m).data(), x.cols(), w->x.row(m).data());
        w->set_position(0, one.rope_base, context_);
        const model::LayerObserver observer = [&](std::string_view layer, MatrixView<const float> input) {
            if (until != nullptr && layer == until->name) sees(input);
        };
        if (auto done = block.run(*w, *cache, 0, 0, context_, observer, until); !done) return done;
        if (until == nullptr)
            for (std::size_t m = 0; m < x.rows(); ++m)
                std::copy_n(w->x.row(m).data(), x.cols(), x.row(m).data());
        return {};
    }

    [[nodiscard]] Result<TensorStatistics> statistics_before(const DecoderBlock& block,
                                                             const DecoderBlock* exact, std::size_t layer) {
        const std::string& name = block.layers()[layer]->name;
        std::optional<Hadamard> rotation;
        if (const std::uint32_t order = file_.linears.at(name).transform.hadamard; order != 0)
            rotation = *Hadamard::create(order);
        Gathered gathered(collector_, name, exact != nullptr, std::move(rotation));
        for (std::size_t i = 0; i < windows_.size(); ++i) {
            const auto within = [&](Error error) {
                return Unexpected{std::move(error).within(text("calibration window ", i))};
            };
            if (auto done = run_window(block, stream_[i], block.layers()[layer],
                                       [&](MatrixView<const float> x) { gathered.take(x, gathered.inputs); });
                !done)
                return within(std::move(done).error());
            if (exact != nullptr)
                if (auto done =
                        run_window(*exact, float_stream_[i], exact->layers()[layer],
                                   [&](MatrixView<const float> x) { gathered.take(x, gathered.exact); });
                    !done)
                    return within(std::move(done).error());
            if (auto added = gathered.add(false); !added) return within(std::move(added).error());
        }
        if (auto added = gathered.add(true); !added) return Unexpected{std::move(added).error()};
        return std::move(gathered.statistics);
    }

    // --- scales -------------------------------------------------------------------------------------------------

    /// The method of all readers of a site that awq is to scale; null otherwise.
    [[nodiscard]] const AwqOptions* awq_of(const Fold& fold) const {
        const AwqOptions* options = nullptr;
        for (const std::string& reader : fold.readers) {
            const LayerChoice* choice = choice_of(reader);
            options = choice == nullptr ? nullptr : std::get_if<AwqOptions>(&choice->method);
            if (options == nullptr) return nullptr;
        }
        return options;
    }

    /// Scales of a site and a sentence about them; nothing where it has none.
    [[nodiscard]] Result<std::optional<ChannelScales>> scales_of(const Fold& fold, const DecoderBlock& block,
                                                                 std::size_t layer) {
        const AwqOptions* const awq = awq_of(fold);
        const bool smooth =
            options_.smoothquant && std::ranges::all_of(fold.readers, [&](const auto& reader) {
                return choice_of(reader) != nullptr;
            });
        if (awq == nullptr && !smooth) return std::optional<ChannelScales>();
        for (const std::string& reader :
             fold.readers)  // what is rotated has no channels that could be divided
            if (file_.linears.at(reader).transform.hadamard != 0) return std::optional<ChannelScales>();
        auto statistics = statistics_before(block, nullptr, layer);
        if (!statistics) return Unexpected{std::move(statistics).error()};
        std::vector<Matrix> weights;
        std::vector<MatrixView<const float>> readers;
        for (const std::string& reader : fold.readers) {
            weights.push_back(dequantized(file_.linears.at(reader)));
        }
        for (const Matrix& w : weights) readers.push_back(w.view());
        Result<ChannelScales> scales = [&] {
            if (smooth) {
                SmoothQuantOptions options = *options_.smoothquant;
                options.tensor = fold.readers.front();
                return smoothquant_scales(readers, *statistics, options, fold.source);
            }
            AwqOptions options = *awq;
            options.tensor = fold.readers.front();
            return awq_scales(readers, *statistics, choice_of(fold.readers.front())->format, options,
                              fold.source, context_);
        }();
        if (!scales) return Unexpected{std::move(scales).error()};
        return std::optional(*std::move(scales));
    }

    /// Folds what the sites of a block are scaled with, and makes the block anew where that is anything.
    [[nodiscard]] Result<void> fold_block(std::size_t index, DecoderBlock& block) {
        // The first layer that reads a site, by its place in DecoderBlock::layers().
        static constexpr std::array<std::size_t, 4> first_readers{0, 3, 4, 6};
        bool folded = false;
        for (std::size_t i = 0; i < fold_sites.size(); ++i) {
            const Fold fold = fold_of(file_.shape, index, fold_sites[i]);
            auto scales = scales_of(fold, block, first_readers[i]);
            if (!scales) return Unexpected{std::move(scales).error()};
            if (!*scales) continue;
            if (auto done = fold_scales(file_, fold, (*scales)->scales); !done) return done;
            for (const std::string& reader : fold.readers) scales_[reader] = (*scales)->how;
            folded = true;
        }
        if (!folded) return {};
        for (const Layer* layer : block.layers())
            result_.file.linears.at(layer->name) = file_.linears.at(layer->name);
        result_.file.vectors = file_.vectors;
        auto made = DecoderBlock::create(file_, index, exact_options(), context_);
        if (!made) return Unexpected{std::move(made).error()};
        block = *std::move(made);
        return {};
    }

    // --- blocks -------------------------------------------------------------------------------------------------

    [[nodiscard]] Result<void> block(std::size_t index) {
        // By their places in DecoderBlock::layers(): layers that read the same input.
        static constexpr std::array<std::pair<std::size_t, std::size_t>, 4> stages{
            {{0, 3}, {3, 4}, {4, 6}, {6, 7}}};
        auto block = DecoderBlock::create(file_, index, exact_options(), context_);
        if (!block) return Unexpected{std::move(block).error()};
        if (auto done = fold_block(index, *block); !done) return done;
        std::optional<DecoderBlock> exact;
        if (asymmetric_) exact = *block;
        for (const auto& [first, last] : stages) {
            std::vector<std::size_t> chosen;
            for (std::size_t i = first; i < last; ++i)
                if (choice_of(block->layers()[i]->name) != nullptr) chosen.push_back(i);
            if (chosen.empty()) continue;
            auto statistics = statistics_before(*block, exact ? &*exact : nullptr, first);
            if (!statistics) return Unexpected{std::move(statistics).error()};
            for (const std::size_t i : chosen) {
                Layer& layer = *block->layers()[i];
                if (auto done = quantize_layer(layer.name, *choice_of(layer.name), &*statistics); !done)
                    return done;
                auto packed = Layer::create(result_.file, layer.name, layer.name, layer.linear.n(),
                                            layer.linear.k(), exact_options(), context_);
                if (!packed) return Unexpected{std::move(packed).error()};
                layer = *std::move(packed);
            }
            if (options_.keep_statistics)
                for (const std::size_t i : chosen)
                    result_.statistics.tensors[block->layers()[i]->name] = *statistics;
        }
        for (std::size_t i = 0; i < windows_.size(); ++i) {
            if (auto done = run_window(*block, stream_[i], nullptr, {}); !done) return done;
            if (exact)
                if (auto done = run_window(*exact, float_stream_[i], nullptr, {}); !done) return done;
        }
        return {};
    }

    [[nodiscard]] Result<void> head() {
        const std::string layer = "lm_head";
        const LayerChoice* choice = choice_of(layer);
        if (choice == nullptr) return {};
        const auto norm = file_.vectors.find("model.norm");
        if (norm == file_.vectors.end() || norm->second.size() != file_.shape.dim)
            return fail(ErrorKind::bad_input, "the ", file_.type, " model has no vector 'model.norm' of ",
                        file_.shape.dim);
        Gathered gathered(collector_, layer, asymmetric_);
        const auto take = [&](const Matrix& x, std::vector<float>& into) {
            Matrix normed(x.rows(), x.cols());
            model::rms_norm(x.view(), norm->second, file_.shape.norm_epsilon, normed.view(), context_);
            gathered.take(std::as_const(normed).view(), into);
        };
        for (std::size_t i = 0; i < windows_.size(); ++i) {
            take(stream_[i], gathered.inputs);
            if (asymmetric_) take(float_stream_[i], gathered.exact);
            if (auto added = gathered.add(i + 1 == windows_.size()); !added) return added;
        }
        TensorStatistics& statistics = gathered.statistics;
        if (auto done = quantize_layer(layer, *choice, &statistics); !done) return done;
        if (options_.keep_statistics) result_.statistics.tensors[layer] = std::move(statistics);
        return {};
    }

    io::ModelFile file_;  ///< the float model, with the scales that were folded
    const Plan& plan_;
    std::span<const std::vector<int>> windows_;
    const CalibratedOptions& options_;
    ExecutionContext context_;
    HessianCollector collector_;
    bool asymmetric_;
    CalibratedModel result_;
    std::map<std::string, std::string> scales_;  ///< by layer: how its inputs were scaled
    Stream stream_;                              ///< of the model as it is by now
    Stream float_stream_;                        ///< of the float model; empty unless somebody asks
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
