// What `fewbit curves` measures, and the files that it makes of it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "fewbit/evaluate/behaviours.hpp"
#include "fewbit/evaluate/curves.hpp"
#include "fewbit/evaluate/divergence.hpp"
#include "fewbit/model/transformer.hpp"
#include "src/cli/calibration.hpp"
#include "src/cli/command.hpp"
#include "src/cli/plot.hpp"

namespace fewbit::cli {

/// A synthetic matrix in one setting.
struct MatrixPoint {
    evaluate::CurveSetting setting;
    double bits_per_weight = 0;
    double sqnr_db = 0;
};

struct MatrixCurves {
    std::string data;  ///< "gaussian", "student-t"
    std::string title;
    std::size_t rows = 0, cols = 0;
    std::uint64_t seed = 0;
    double bound_db = 0;  ///< no quantizer of R bits exceeds 6.02 R dB + this
    std::vector<MatrixPoint> points;
};

/// A model in one setting, with one kind of activations.
struct ModelPoint {
    evaluate::CurveSetting setting;
    ActivationFormat activations;
    double bits_per_weight = 0;            ///< whole model
    double quantized_bits_per_weight = 0;  ///< of the matrices that were quantized
    double sqnr_db = 0;
    evaluate::Divergence divergence;                   ///< without its values
    std::vector<evaluate::BehaviourScore> behaviours;  ///< empty where they were not asked
    std::vector<model::KernelUse> kernels;
};

/// A quantized model that was made elsewhere (--compare), f32 activations.
struct ComparedModel {
    std::string path;
    std::string quantization;  ///< what the file says about its making; may be empty
    double bits_per_weight = 0;
    evaluate::Divergence divergence;  ///< without its values
    std::vector<evaluate::BehaviourScore> behaviours;
    std::vector<model::KernelUse> kernels;
};

/// A model that a method made (--methods), f32 activations.
struct MethodPoint {
    std::string method;  ///< "gptq", "gptq-rotated"
    Format format;
    double bits_per_weight = 0;            ///< whole model
    double quantized_bits_per_weight = 0;  ///< of the matrices that were quantized
    evaluate::Divergence divergence;       ///< without its values
    std::vector<model::KernelUse> kernels;
};

/// Which products are quantized: all, or those that read a norm, which are the ones that made outliers reach.
enum class OutlierScope { all, behind_norms };
[[nodiscard]] std::string_view name(OutlierScope scope) noexcept;

/// The model with made outliers of one factor (pipeline/outliers.hpp), weights quantized, activations
/// rounded.
struct OutlierPoint {
    double factor = 1;
    ActivationFormat activations;
    OutlierScope scope = OutlierScope::all;
    std::string remedy;               ///< "SmoothQuant", ...; empty: none
    evaluate::Divergence divergence;  ///< without its values
    std::vector<model::KernelUse> kernels;
};
/// "int8-row", "int8-row behind norms", "int8-row, rotated".
[[nodiscard]] std::string label_of(const OutlierPoint& point);

struct ModelCurves {
    std::string model, text, split, keep;
    std::size_t context = 0, windows = 0;
    std::size_t parameters = 0;
    std::size_t quantized_matrices = 0, quantized_weights = 0;
    std::vector<std::string> kept;  ///< matrices that were not quantized
    bool tied_head = false;
    evaluate::Perplexity reference;
    std::vector<model::KernelUse> reference_kernels;
    std::vector<ModelPoint> points;
    std::size_t behaviour_items = 0;  ///< of each behaviour; 0: not measured
    std::vector<evaluate::BehaviourScore> reference_behaviours;
    std::vector<ComparedModel> compared;
    std::vector<MethodPoint> methods;  ///< by method, then bits
    std::string calibration;           ///< the text of methods and remedies; empty: nobody asked
    Format outlier_weights;
    std::vector<OutlierPoint> outliers;  ///< by activations and scope, then factor; then by remedy

    /// "all 36 matrices (projections, embedding, head)" or what was left out: for pictures and tables.
    [[nodiscard]] std::string what_is_quantized() const;
    /// The model's file name, for titles.
    [[nodiscard]] std::string short_name() const { return path_of(model).filename().string(); }
};

/// What `fewbit curves` was asked to do with a model.
struct ModelCurveOptions {
    std::string model, tokenizer, text, keep;
    evaluate::DocumentOptions documents;
    std::size_t items = 200;
    std::vector<std::string> compare;
    std::vector<double> outliers;
    std::vector<std::string> methods;
    CalibrationText calibration;
};
[[nodiscard]] ModelCurves measure_model(const ModelCurveOptions& options, ExecutionContext context);

struct Curves {
    std::vector<MatrixCurves> matrices;
    std::optional<ModelCurves> model;
    double seconds = 0;
    std::size_t threads = 0;
};

/// A place where more bits gave more divergence.
struct Rise {
    const ModelPoint* before;
    const ModelPoint* after;
};
[[nodiscard]] std::vector<Rise> rises_of(const ModelCurves& model);

/// The setting in which the average hides most: perplexity rises by less than 2 %, and a behaviour loses
/// 10 points of its exact answers or more, and more than in any other such setting.
struct HiddenLoss {
    const ModelPoint* point;
    evaluate::Behaviour behaviour;
    double perplexity_rise, loss;  ///< shares of the float model's perplexity, and of the items
    [[nodiscard]] std::string text() const;
};
[[nodiscard]] std::optional<HiddenLoss> hidden_loss_of(const ModelCurves& model);

/// Which kernels ran, over all points: a fallback and the same kernel by choice are two rows.
struct KernelShare {
    std::string kernel, activations, reason;  ///< reason: why it is a fallback; empty when it is none
    std::vector<std::string> formats;
    std::size_t points = 0;
};
[[nodiscard]] std::vector<KernelShare> kernels_of(const ModelCurves& model);

/// Lloyd-Max points of the Gaussian: (bits, dB).
[[nodiscard]] std::vector<std::pair<int, double>> lloyd_max_points();

[[nodiscard]] std::string csv_of(const Curves& curves);
[[nodiscard]] Json json_of(const Curves& curves);
/// The tables and notes for the terminal; at most 80 columns.
[[nodiscard]] std::string report_of(const Curves& curves);

/// The pictures: curves; behaviours, methods, outliers and their remedies where they were measured.
[[nodiscard]] std::vector<Page> pages_of(const Curves& curves);
[[nodiscard]] Page behaviours_page(const ModelCurves& model);
[[nodiscard]] Page outliers_page(const ModelCurves& model);
[[nodiscard]] Page remedies_page(const ModelCurves& model);
[[nodiscard]] Page methods_page(const ModelCurves& model);

}  // namespace fewbit::cli
