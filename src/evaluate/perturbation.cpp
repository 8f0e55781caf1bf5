// Definitions of evaluate/perturbation.hpp.
#include "fewbit/evaluate/perturbation.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>
#include <numeric>
#include <utility>

#include "fewbit/core/random.hpp"
#include "fewbit/core/text.hpp"
#include "fewbit/evaluate/metrics.hpp"
#include "fewbit/model/transformer.hpp"
#include "fewbit/quantize/quantized.hpp"

namespace fewbit::inline v0::evaluate {
namespace {

constexpr std::array<std::pair<NoiseFamily, std::string_view>, 7> family_names{
    {{NoiseFamily::gaussian, "gaussian"},
     {NoiseFamily::uniform, "uniform"},
     {NoiseFamily::rademacher, "rademacher"},
     {NoiseFamily::large_weights, "large-weights"},
     {NoiseFamily::small_weights, "small-weights"},
     {NoiseFamily::outliers, "outliers"},
     {NoiseFamily::clipping, "clipping"}}};

constexpr std::array families = [] {
    std::array<NoiseFamily, family_names.size()> all{};
    for (std::size_t i = 0; i < all.size(); ++i) all[i] = family_names[i].first;
    return all;
}();

constexpr std::size_t weights_per_outlier = 1024;

/// Errors before they are scaled, weight by weight in row-major order.
using Errors = std::vector<double>;

double squares(std::span<const double> values) {
    double sum = 0;
    for (const double value : values) sum += value * value;
    return sum;
}

double sign_of(std::uint64_t bits) { return (bits >> 63) != 0 ? -1.0 : 1.0; }

void draw_gaussian(Errors& out, std::uint64_t state) {
    for (std::size_t i = 0; i < out.size(); i += 2) {  // Box and Muller
        const double radius = std::sqrt(-2 * std::log(positive_unit_interval(splitmix_next(state))));
        const double angle = 2 * std::numbers::pi * unit_interval(splitmix_next(state));
        out[i] = radius * std::cos(angle);
        if (i + 1 < out.size()) out[i + 1] = radius * std::sin(angle);
    }
}

/// Indices in ascending order of |values|; of equal ones the first comes first.
std::vector<std::size_t> ascending(std::span<const double> values) {
    std::vector<std::size_t> order(values.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::ranges::stable_sort(order, {}, [&](std::size_t i) { return std::fabs(values[i]); });
    return order;
}

/// Gives the largest errors to the largest weights, or to the smallest.
void match(Errors& errors, std::span<const double> w, bool largest_to_largest) {
    const std::vector<std::size_t> from = ascending(errors);
    std::vector<std::size_t> to = ascending(w);
    if (!largest_to_largest) std::ranges::reverse(to);
    Errors matched(errors.size());
    for (std::size_t i = 0; i < errors.size(); ++i) matched[to[i]] = errors[from[i]];
    errors = std::move(matched);
}

void draw_outliers(Errors& out, std::uint64_t state) {
    const std::size_t count = std::max<std::size_t>(1, out.size() / weights_per_outlier);
    for (std::size_t drawn = 0; drawn < count;) {
        double& error = out[static_cast<std::size_t>(splitmix_next(state) % out.size())];
        if (error != 0) continue;
        error = sign_of(splitmix_next(state));
        ++drawn;
    }
}

/// The threshold at which clipping loses `wanted`: its loss falls strictly from sum w^2 at 0 to none at max |w|.
void clip(Errors& out, std::span<const double> w, double wanted) {
    double low = 0, high = 0;
    for (const double value : w) high = std::max(high, std::fabs(value));
    const auto clip_at = [&](double threshold) {
        for (std::size_t i = 0; i < w.size(); ++i) out[i] = std::clamp(w[i], -threshold, threshold) - w[i];
        return squares(out);
    };
    for (double middle = high / 2; middle > low && middle < high; middle = low + (high - low) / 2)
        (clip_at(middle) > wanted ? low : high) = middle;
    clip_at(high);
}

Errors errors_of(NoiseFamily family, std::span<const double> w, double wanted, std::uint64_t seed) {
    Errors errors(w.size());
    switch (family) {
        case NoiseFamily::gaussian:
        case NoiseFamily::large_weights:
        case NoiseFamily::small_weights: draw_gaussian(errors, seed); break;
        case NoiseFamily::uniform:
            for (double& error : errors) error = 2 * unit_interval(splitmix_next(seed)) - 1;
            break;
        case NoiseFamily::rademacher:
            for (double& error : errors) error = sign_of(splitmix_next(seed));
            break;
        case NoiseFamily::outliers: draw_outliers(errors, seed); break;
        case NoiseFamily::clipping: clip(errors, w, wanted); return errors;
    }
    if (family == NoiseFamily::large_weights || family == NoiseFamily::small_weights)
        match(errors, w, family == NoiseFamily::large_weights);
    const double drawn = squares(errors), factor = drawn > 0 ? std::sqrt(wanted / drawn) : 0;
    for (double& error : errors) error *= factor;
    return errors;
}

/// The weights of a layer as f32.
Result<Matrix> weights_of(const io::ModelFile& file, const std::string& layer) {
    const auto found = file.linears.find(layer);
    if (found == file.linears.end())
        return fail(ErrorKind::bad_input, "the ", file.type, " model has no matrix '", layer, "'");
    const Linear& linear = found->second;
    if (!linear.transform.empty() || !linear.columns.empty())
        return fail(ErrorKind::unsupported, "layer '", layer,
                    "' has an input transform or float columns; errors are put into plain matrices");
    return dequantized(linear);
}

Result<model::Transformer> transformer_of(const io::ModelFile& file, ExecutionContext context) {
    model::ModelOptions exact;
    exact.fallback = Fallback::allow;  // slower, not less exact
    return model::Transformer::create(file, exact, context);
}

class DamageMeter {
public:
    DamageMeter(const io::ModelFile& file, const Reference& reference, std::size_t draws,
                ExecutionContext context)
        : file_(file), changed_(file), reference_(reference), draws_(draws), context_(context) {}

    [[nodiscard]] Result<LayerDamage> measure(const std::string& layer, const Matrix& w, NoiseFamily family,
                                              double sqnr_db) {
        LayerDamage damage;
        damage.layer = layer;
        damage.family = family;
        damage.asked_db = sqnr_db;
        damage.top1_agreement = 0;
        const std::size_t draws = family == NoiseFamily::clipping ? 1 : draws_;
        const double share = 1 / static_cast<double>(draws);
        for (std::size_t draw = 0; draw < draws; ++draw) {
            auto added = add(damage, w, perturbation_seed(layer, family, draw), share);
            if (!added) return Unexpected{std::move(added).error().within(text("layer '", layer, "'"))};
        }
        return damage;
    }

private:
    [[nodiscard]] Result<void> add(LayerDamage& damage, const Matrix& w, std::uint64_t seed, double share) {
        const auto noisy = perturbed(w.view(), damage.family, damage.asked_db, seed);
        if (!noisy) return Unexpected{noisy.error()};
        const auto difference = compare(w.view(), noisy->view());
        if (!difference) return Unexpected{difference.error()};
        auto stored = float_matrix(noisy->view());
        if (!stored) return Unexpected{std::move(stored).error()};
        Linear& target = changed_.linears.at(damage.layer);
        target.weights = *std::move(stored);
        auto transformer = transformer_of(changed_, context_);
        target = file_.linears.at(damage.layer);
        if (!transformer) return Unexpected{std::move(transformer).error()};
        const TransformerSource source(*transformer);
        const auto found = reference_.measure(source, context_);
        if (!found) return Unexpected{found.error()};
        damage.sqnr_db += share * difference->sqnr_db;
        damage.kld += share * found->kld.mean;
        damage.kld_p99 += share * found->kld.p99;
        damage.nll_rise += share * (found->model.nll - found->reference.nll);
        damage.top1_agreement += share * found->top1_agreement;
        return {};
    }

    const io::ModelFile& file_;
    io::ModelFile changed_;  ///< the same but for the layer that is being measured; shares its bytes
    const Reference& reference_;
    std::size_t draws_;
    ExecutionContext context_;
};

}  // namespace

std::span<const NoiseFamily> noise_families() noexcept { return families; }

std::string_view name(NoiseFamily family) noexcept {
    return family_names[static_cast<std::size_t>(family)].second;
}

Result<NoiseFamily> parse_noise_family(std::string_view wanted) {
    std::string known;
    for (const auto& [family, name] : family_names) {
        if (name == wanted) return family;
        known += text(known.empty() ? "" : ", ", name);
    }
    return fail(ErrorKind::bad_input, "noise family '", wanted, "' is not known; known are ", known);
}

std::uint64_t perturbation_seed(std::string_view layer, NoiseFamily family, std::size_t draw) noexcept {
    std::uint64_t hash = 0xCBF29CE484222325u;  // FNV-1a
    for (const char c : layer) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001B3u;
    return splitmix_mixed(splitmix_mixed(hash + static_cast<std::uint64_t>(family)) + draw);
}

Result<Matrix> perturbed(MatrixView<const float> w, NoiseFamily family, double sqnr_db, std::uint64_t seed) {
    if (!std::isfinite(sqnr_db))
        return fail(ErrorKind::bad_input, "an error cannot be put ", sqnr_db, " dB below the weights");
    if (family == NoiseFamily::clipping && sqnr_db < 0)
        return fail(ErrorKind::bad_input, "clipping cannot lose more than the weights themselves, but ",
                    sqnr_db, " dB were asked for; 0 or more can be");
    if (auto finite = check_finite(w, ""); !finite) return Unexpected{std::move(finite).error()};
    std::vector<double> values;
    values.reserve(w.rows * w.cols);
    for (std::size_t r = 0; r < w.rows; ++r) values.insert(values.end(), w.row(r).begin(), w.row(r).end());
    const double signal = squares(values);
    Matrix out(w.rows, w.cols);
    const Errors errors = signal > 0 ? errors_of(family, values, signal * std::pow(10.0, -sqnr_db / 10), seed)
                                     : Errors(values.size());
    for (std::size_t i = 0; i < values.size(); ++i)
        out.values()[i] = static_cast<float>(values[i] + errors[i]);
    if (auto finite = check_finite(std::as_const(out).view(), ""); !finite)
        return Unexpected{std::move(finite).error().within(text("with an error at ", sqnr_db, " dB"))};
    return out;
}

Result<std::vector<LayerDamage>> measure_damage(const io::ModelFile& file, const PerturbationPlan& plan,
                                                std::span<const Window> windows, ExecutionContext context,
                                                const Progress& progress) {
    if (plan.draws == 0) return fail(ErrorKind::bad_input, "0 draws of an error tell nothing");
    const auto exact = transformer_of(file, context);
    if (!exact) return Unexpected{exact.error()};
    const TransformerSource source(*exact);
    const auto reference = Reference::create(source, windows, std::size_t{256} << 20, context);
    if (!reference) return Unexpected{reference.error()};
    DamageMeter meter(file, *reference, plan.draws, context);
    std::vector<LayerDamage> damages;
    const std::size_t total = plan.layers.size() * plan.families.size() * plan.sqnr_db.size();
    for (const std::string& layer : plan.layers) {
        const auto w = weights_of(file, layer);
        if (!w) return Unexpected{w.error()};
        for (const NoiseFamily family : plan.families)
            for (const double sqnr_db : plan.sqnr_db) {
                auto damage = meter.measure(layer, *w, family, sqnr_db);
                if (!damage) return Unexpected{std::move(damage).error()};
                damages.push_back(*std::move(damage));
                if (progress) progress(damages.size(), total);
            }
    }
    return damages;
}

}  // namespace fewbit::inline v0::evaluate
