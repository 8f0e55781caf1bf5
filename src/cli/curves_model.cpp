// What `fewbit curves` measures of a model: divergence and behaviours in every setting, of models made
// elsewhere beside them, and of W8A8 on made outliers.
#include <algorithm>
#include <array>

#include "fewbit/pipeline/outliers.hpp"
#include "src/cli/calibration.hpp"
#include "src/cli/curves.hpp"
#include "src/cli/curves_methods.hpp"
#include "src/cli/load.hpp"
#include "src/cli/plan.hpp"
#include "src/cli/windows.hpp"

namespace fewbit::cli {
namespace {

/// Behaviours take longer than divergence: they are asked where they change, in four of the curves.
bool asks_behaviours(const evaluate::CurveSetting& setting) {
    const std::string grouping = setting.grouping();
    return setting.format.bits <= 6 && (grouping == "channel" || grouping == "g64") &&
           setting.variant != evaluate::Variant::asymmetric;
}

constexpr int max_method_bits = 6;  ///< above, methods differ by nothing that a picture shows
/// Activations that outliers hurt and remedies are measured with.
constexpr std::array<const char*, 2> rescued_activations{"int8-tensor", "int8-row"};

struct OutlierKind {
    ActivationFormat activations;
    OutlierScope scope;
};
/// W8A8, from the coarsest scales of activations to the finest; f32 shows what the weights alone cost. One
/// scale also where only the made outliers count: models may have others of their own, in other products.
std::vector<OutlierKind> outlier_kinds() {
    std::vector<OutlierKind> kinds{
        {expect(parse_activation_format("int8-tensor-static")), OutlierScope::behind_norms}};
    for (const char* name : {"int8-tensor-static", "int8-tensor", "int8-row", "int8-g32", "f32"})
        kinds.push_back({expect(parse_activation_format(name)), OutlierScope::all});
    return kinds;
}

class ModelMeasurement {
public:
    ModelMeasurement(const ModelCurveOptions& options, ExecutionContext context)
        : options_(options),
          context_(context),
          file_(load_model(options.model)),
          tokenizer_(load_tokenizer(options.tokenizer, file_, options.model)),
          keep_("--keep", options.keep) {
        options_.documents.context = window_context(options.documents.context, file_.shape.context);
        windows_ = load_windows(options.text, options_.documents, tokenizer_);
        // Whose answers are known: only of the corpus.
        if (!is_embedded_tokenizer(tokenizer_) || !options.text.empty()) options_.items = 0;
        curves_.model = options.model;
        curves_.text = name_of_text(options.text);
        curves_.split = options.documents.split;
        curves_.keep = options.keep;
        curves_.context = options_.documents.context;
        curves_.windows = windows_.size();
        curves_.tied_head = file_.shape.tied_head;
        curves_.behaviour_items = options_.items;
        for (const auto& [layer, linear] : file_.linears)
            if (keep_(layer))
                curves_.kept.push_back(layer);
            else
                ++curves_.quantized_matrices;
        if (curves_.quantized_matrices == 0)
            throw Failure(fmt::format("--keep '{}' keeps every matrix of '{}'", options.keep, options.model));
        count_work();
    }

    ModelCurves run() {
        const model::Transformer exact = ready(file_, exact_activations());
        const evaluate::TransformerSource source(exact);
        curves_.reference_kernels = exact.kernels();
        doing_ = "f32";
        const evaluate::Reference reference =
            expect(evaluate::Reference::create(source, windows_, std::size_t{512} << 20, context_,
                                               [&](std::size_t done, std::size_t) { show(done); }));
        finished(predictions_);
        reference_ = &reference;
        curves_.reference = reference.perplexity();
        curves_.reference_behaviours = behaviours_of(exact);
        measure_settings();
        measure_compared();
        if (!options_.methods.empty() || !options_.outliers.empty()) find_calibration_windows();
        measure_methods();
        measure_outliers();
        measure_remedies();
        return std::move(curves_);
    }

private:
    static constexpr std::size_t item_work = 40;  // predictions that take about as long as an item

    void count_work() {
        predictions_ = evaluate::count_predictions(windows_);
        item_predictions_ = options_.items * evaluate::all_behaviours.size() * item_work;
        const auto settings = evaluate::curve_settings();
        const auto asked =
            static_cast<std::size_t>(std::count_if(settings.begin(), settings.end(), asks_behaviours));
        work_ = predictions_ * (1 + 2 * settings.size() + options_.compare.size() +
                                options_.methods.size() * (max_method_bits - min_bits + 1) +
                                options_.outliers.size() * (outlier_kinds().size() +
                                                            remedies().size() * rescued_activations.size())) +
                item_predictions_ * (1 + asked + options_.compare.size());
    }
    void show(std::size_t done) { progress_.update(done_ + done, work_, doing_); }
    void finished(std::size_t work) { done_ += work; }

    // Curves measure error, not speed: generic kernels may run, and the report says where they did.
    model::Transformer ready(const io::ModelFile& file, const ActivationFormat& activations,
                             pipeline::StaticRanges ranges = {}) {
        model::ModelOptions how{activations, Fallback::allow};
        how.static_ranges = std::move(ranges);
        return make_transformer(file, how, context_);
    }

    evaluate::Divergence divergence_of(const model::Transformer& transformer) {
        evaluate::Divergence divergence =
            expect(reference_->measure(evaluate::TransformerSource(transformer), context_,
                                       [&](std::size_t done, std::size_t) { show(done); }));
        divergence.values = {};
        finished(predictions_);
        return divergence;
    }

    std::vector<evaluate::BehaviourScore> behaviours_of(const model::Transformer& transformer) {
        if (options_.items == 0) return {};
        auto scores = expect(evaluate::measure_behaviours(
            transformer, tokenizer_, {.items = options_.items, .teacher_forced = true}, context_,
            [&](std::size_t done, std::size_t) { show(done * item_work); }));
        finished(item_predictions_);
        return scores;
    }

    void measure_settings() {
        for (const evaluate::CurveSetting& setting : evaluate::curve_settings()) {
            const evaluate::CurveModel quantized =
                expect(evaluate::quantize_model_for_curve(file_, setting, keep_, context_));
            curves_.parameters = quantized.parameters;
            curves_.quantized_weights = quantized.quantized_weights;
            for (const ActivationFormat& activations : {exact_activations(), int8_row_activations()}) {
                doing_ = fmt::format("{} {}, {}", name(setting.format), evaluate::name(setting.variant),
                                     name(activations));
                const model::Transformer transformer = ready(quantized.file, activations);
                ModelPoint point;
                point.setting = setting;
                point.activations = activations;
                point.bits_per_weight = quantized.bits_per_weight;
                point.quantized_bits_per_weight = quantized.quantized_bits_per_weight;
                point.sqnr_db = quantized.sqnr_db;
                point.divergence = divergence_of(transformer);
                if (activations == exact_activations() && asks_behaviours(setting))
                    point.behaviours = behaviours_of(transformer);
                point.kernels = transformer.kernels();
                curves_.points.push_back(std::move(point));
            }
        }
    }

    void measure_compared() {
        for (const std::string& path : options_.compare) {
            doing_ = path;
            const io::ModelFile file = load_model(path);
            if (file.shape.vocabulary != file_.shape.vocabulary)
                throw Failure(fmt::format("--compare '{}' has a vocabulary of {}, '{}' one of {}", path,
                                          file.shape.vocabulary, options_.model, file_.shape.vocabulary));
            ComparedModel compared;
            compared.path = path;
            if (const auto found = file.metadata.find("quantization"); found != file.metadata.end())
                compared.quantization = found->second;
            compared.bits_per_weight = size_of(file).bits_per_weight();
            const model::Transformer transformer = ready(file, exact_activations());
            compared.divergence = divergence_of(transformer);
            compared.behaviours = behaviours_of(transformer);
            compared.kernels = transformer.kernels();
            curves_.compared.push_back(std::move(compared));
        }
    }

    /// The text that methods calibrate with: named, or training documents of the corpus. Where neither is there, the text that
    /// is predicted, as for static ranges, and only for remedies.
    void find_calibration_windows() {
        CalibrationText text = options_.calibration;
        if (text.text.empty() && !is_embedded_tokenizer(tokenizer_)) {
            if (!options_.methods.empty())
                throw Failure("--methods: name a text to calibrate with, --calibration FILE");
            text.text = options_.text;
            text.split = options_.documents.split;
        }
        calibration_ = calibration_windows(text, tokenizer_, std::min<std::size_t>(2048, file_.shape.context),
                                           65536, "curves");
        curves_.calibration = text.text.empty() ? "training documents of the corpus" : text.text;
    }

    void measure_methods() {
        for (const std::string& name : options_.methods) {
            const auto curve = std::ranges::find(method_curves(), name, &MethodCurve::name);
            for (int bits = min_bits; bits <= max_method_bits; ++bits) {
                const Format format = curve->format(bits);
                doing_ = fmt::format("{} by {}", fewbit::name(format), name);
                show(0);
                const MethodModel made =
                    quantize_for_method(file_, *curve, format, keep_, calibration_, context_);
                const model::Transformer transformer = ready(made.file, exact_activations());
                curves_.methods.push_back({name, format, made.bits_per_weight, made.quantized_bits_per_weight,
                                           divergence_of(transformer), transformer.kernels()});
            }
        }
    }

    void measure_remedies() {
        std::vector<std::vector<OutlierPoint>> by_kind(remedies().size() * rescued_activations.size());
        for (const double factor : options_.outliers) {
            io::ModelFile made = file_;
            (void)expect(pipeline::add_outliers(made, factor));
            std::size_t kind = 0;
            for (const Remedy& remedy : remedies()) {
                doing_ = fmt::format("outliers {}, {}", factor, remedy.name);
                show(0);
                const io::ModelFile file = quantize_for_method(made, remedy.how, curves_.outlier_weights,
                                                               keep_, calibration_, context_)
                                               .file;
                for (const char* activations : rescued_activations) {
                    OutlierPoint point{factor,
                                       expect(parse_activation_format(activations)),
                                       OutlierScope::all,
                                       remedy.name,
                                       {},
                                       {}};
                    const model::Transformer transformer = ready(file, point.activations);
                    point.divergence = divergence_of(transformer);
                    point.kernels = transformer.kernels();
                    by_kind[kind++].push_back(std::move(point));
                }
            }
        }
        for (auto& points : by_kind)
            for (OutlierPoint& point : points) curves_.outliers.push_back(std::move(point));
    }

    void measure_outliers() {
        curves_.outlier_weights = *parse_format("int8-channel");
        CalibrationOptions calibration;
        calibration.source.text = options_.text;
        const evaluate::CurveSetting setting{curves_.outlier_weights, evaluate::Variant::symmetric};
        const auto kinds = outlier_kinds();
        std::vector<std::vector<OutlierPoint>> by_kind(kinds.size());
        for (const double factor : options_.outliers) {
            io::ModelFile made = file_;
            const auto readers = expect(pipeline::add_outliers(made, factor)).readers;
            const auto not_behind_norms = [&](std::string_view layer) {
                return keep_(layer) || std::find(readers.begin(), readers.end(), layer) == readers.end();
            };
            const auto all = expect(evaluate::quantize_model_for_curve(made, setting, keep_, context_)).file;
            const auto behind_norms =
                expect(evaluate::quantize_model_for_curve(made, setting, not_behind_norms, context_)).file;
            for (std::size_t i = 0; i < kinds.size(); ++i) {
                const auto& [activations, scope] = kinds[i];
                const io::ModelFile& file = scope == OutlierScope::all ? all : behind_norms;
                OutlierPoint point{factor, activations, scope, {}, {}, {}};
                doing_ = fmt::format("outliers {}, {}", factor, label_of(point));
                const model::Transformer transformer =
                    ready(file, activations, calibrate(file, tokenizer_, activations, calibration, context_));
                point.divergence = divergence_of(transformer);
                point.kernels = transformer.kernels();
                by_kind[i].push_back(std::move(point));
            }
        }
        for (auto& points : by_kind)
            for (OutlierPoint& point : points) curves_.outliers.push_back(std::move(point));
    }

    ModelCurveOptions options_;
    ExecutionContext context_;
    io::ModelFile file_;
    model::Tokenizer tokenizer_;
    LayerPattern keep_;
    std::vector<evaluate::Window> windows_;
    std::vector<std::vector<int>> calibration_;
    const evaluate::Reference* reference_ = nullptr;
    ModelCurves curves_;
    Progress progress_{"curves"};
    std::string doing_;
    std::size_t predictions_ = 0, item_predictions_ = 0, work_ = 0, done_ = 0;
};

}  // namespace

ModelCurves measure_model(const ModelCurveOptions& options, ExecutionContext context) {
    return ModelMeasurement(options, context).run();
}

}  // namespace fewbit::cli
