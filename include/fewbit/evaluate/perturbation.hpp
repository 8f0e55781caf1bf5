// Perturbation: what errors of a given kind and size in the weights of one layer do to the model's answers. It tells which
// layers matter, apart from any format, and which errors hurt: at the same SQNR a grid whose errors grow with the weights
// (floats, codebooks) does less damage than one whose errors do not (uniform grids).
//
//   PerturbationPlan plan{layers, {NoiseFamily::gaussian}, {20}};
//   for (const LayerDamage& damage : *measure_damage(file, plan, windows, context)) damage.kld ...
//
// After "What Makes Quantization for Large Language Models Hard?" (AAAI 2024, arXiv 2403.06408), which compares
// perturbations w + d of equal L2 norm. Seeded by layer and family: the same in every run of one build.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "fewbit/core/config.hpp"
#include "fewbit/core/executor.hpp"
#include "fewbit/core/result.hpp"
#include "fewbit/core/tensor.hpp"
#include "fewbit/evaluate/divergence.hpp"
#include "fewbit/io/model_file.hpp"

namespace fewbit::inline v0::evaluate {

/// What the errors d of the weights w look like, before all are scaled to the norm that was asked for.
enum class NoiseFamily : std::uint8_t {
    gaussian,       ///< normal, independent of w
    uniform,        ///< uniform around 0, independent of w: like rounding on a uniform grid
    rademacher,     ///< all of one magnitude, signs at random
    large_weights,  ///< those of `gaussian`, the largest error at the largest |w|, and so on down
    small_weights,  ///< those of `gaussian`, the largest error at the smallest |w|
    outliers,  ///< one weight in 1024 (at least one), chosen at random, by one magnitude; the others stay
    clipping,  ///< |w| cut at a threshold; nothing is random
};

/// All of them, in the order of the enumeration.
[[nodiscard]] FEWBIT_API std::span<const NoiseFamily> noise_families() noexcept;
/// "gaussian", "uniform", "rademacher", "large-weights", "small-weights", "outliers", "clipping".
[[nodiscard]] FEWBIT_API std::string_view name(NoiseFamily family) noexcept;
/// Error: unknown; the sentence lists the known ones.
[[nodiscard]] FEWBIT_API Result<NoiseFamily> parse_noise_family(std::string_view name);

/// w + d for w (N, K), with sum w^2 / sum d^2 = 10^(sqnr_db / 10) but for the rounding of w + d to f32. All zero: w itself.
/// Errors: sqnr_db that is not finite, or below 0 for `clipping`, which cannot lose more than everything; a weight that is
/// not finite or leaves f32.
[[nodiscard]] FEWBIT_API Result<Matrix> perturbed(MatrixView<const float> w, NoiseFamily family,
                                                  double sqnr_db, std::uint64_t seed);

/// The seed of a layer's errors; `draw` numbers independent ones.
[[nodiscard]] FEWBIT_API std::uint64_t perturbation_seed(std::string_view layer, NoiseFamily family,
                                                         std::size_t draw = 0) noexcept;

/// What is measured: every family with every SQNR in every layer, one layer at a time.
struct PerturbationPlan {
    std::vector<std::string> layers;  ///< matrices by their names in the file
    std::vector<NoiseFamily> families;
    std::vector<double> sqnr_db;  ///< of the layer's weights to the error
    std::size_t draws = 1;  ///< independent errors, over which results are averaged; `clipping` has but one
};

/// What one kind of error in one layer did.
struct LayerDamage {
    std::string layer;
    NoiseFamily family = NoiseFamily::gaussian;
    double asked_db = 0;        ///< SQNR that was asked for
    double sqnr_db = 0;         ///< as it came out after rounding to f32; the mean over the draws
    double kld = 0;             ///< mean KL divergence from the model as given, nats per prediction
    double kld_p99 = 0;         ///< the 99th percentile; the mean over the draws, as all that follows
    double nll_rise = 0;        ///< nats per prediction
    double top1_agreement = 1;  ///< share of predictions with the same first choice
};

/// By layer, then family, then SQNR, each in the order of the plan. Activations are f32. `file` itself is the reference;
/// a head that is the embedding is perturbed in both its uses. The result does not depend on the number of threads.
/// Errors: a layer that the model lacks or that has a transform or float columns; no draws; those of perturbed(), by name,
/// Transformer::create and Reference.
[[nodiscard]] FEWBIT_API Result<std::vector<LayerDamage>> measure_damage(const io::ModelFile& file,
                                                                         const PerturbationPlan& plan,
                                                                         std::span<const Window> windows,
                                                                         ExecutionContext context = {},
                                                                         const Progress& progress = {});

}  // namespace fewbit::inline v0::evaluate
