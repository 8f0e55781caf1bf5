// Measuring candidates and choosing among them. What is said of the choice is in allocation_report.cpp.
#include "src/cli/allocation.hpp"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <map>

#include "fewbit/evaluate/divergence.hpp"
#include "fewbit/pipeline/allocation.hpp"
#include "fewbit/pipeline/candidates.hpp"
#include "src/cli/load.hpp"
#include "src/cli/options.hpp"
#include "src/cli/quantize_model.hpp"

namespace fewbit::cli {
namespace {

using Candidates = std::map<std::string, std::vector<Format>>;

/// The formats that each layer of the plan may get.
Candidates candidates_of(const io::ModelFile& model, const std::vector<PlannedLayer>& plan,
                         const std::vector<Format>& formats) {
    Candidates candidates;
    for (const PlannedLayer& planned : plan) {
        if (!planned.format || *planned.format == model.linears.at(planned.name).weights.format()) continue;
        std::vector<Format>& fitting = candidates[planned.name];
        if (planned.why != "--format") {
            fitting = {*planned.format};
            continue;
        }
        std::string why;
        for (const Format& format : formats)
            if (auto fits = validate_columns(format, model.linears.at(planned.name).k()); fits)
                fitting.push_back(format);
            else
                why = fits.error().message;
        if (fitting.empty())
            throw Failure(fmt::format("'{}': none of the candidates fits it ({}); --candidates names others",
                                      planned.name, why));
    }
    return candidates;
}

/// KL divergence of the model with one layer replaced, on the first windows of the calibration text.
class LayerDivergence {
public:
    LayerDivergence(const io::ModelFile& model, const std::vector<std::vector<int>>& tokens,
                    std::size_t limit, ExecutionContext context)
        : model_(model), changed_(model), context_(context) {
        for (const std::vector<int>& window : tokens) {
            if (count_ >= limit) break;
            if (window.size() < 2) continue;
            windows_.push_back({0, 0, window});
            count_ += window.size();
        }
        exact_ = make_transformer(model, options(), context);
        source_.emplace(*exact_);
        reference_ = expect(evaluate::Reference::create(*source_, windows_, std::size_t{256} << 20, context));
    }
    LayerDivergence(const LayerDivergence&) = delete;
    LayerDivergence& operator=(const LayerDivergence&) = delete;

    [[nodiscard]] std::size_t tokens() const { return count_; }
    [[nodiscard]] Result<double> operator()(const std::string& layer, const Linear& linear) {
        changed_.linears.at(layer) = linear;
        auto transformer = model::Transformer::create(changed_, options(), context_);
        changed_.linears.at(layer) = model_.linears.at(layer);
        if (!transformer) return Unexpected{std::move(transformer).error()};
        const auto found = reference_->measure(evaluate::TransformerSource(*transformer), context_);
        if (!found) return Unexpected{found.error()};
        return found->kld.mean;
    }

private:
    [[nodiscard]] static model::ModelOptions options() {
        model::ModelOptions exact;
        exact.fallback = Fallback::allow;
        return exact;
    }

    const io::ModelFile& model_;
    io::ModelFile changed_;
    ExecutionContext context_;
    std::vector<evaluate::Window> windows_;
    std::size_t count_ = 0;
    std::optional<model::Transformer> exact_;
    std::optional<evaluate::TransformerSource> source_;
    std::optional<evaluate::Reference> reference_;
};

/// A layer's candidates with the KL divergence that each alone does. Those of few bits are measured: beyond small errors damage
/// grows faster than the squares. Of those with more bits than any plan gives to many layers it is proportional to the error.
class MeasuredLayer {
public:
    [[nodiscard]] static bool is_measured(const Format& format, const Linear& linear, double target,
                                          std::span<const Format> candidates) {
        const auto bits = [&](const Format& each) { return bits_per_weight(each, linear.n(), linear.k()); };
        return bits(format) <= target + AllocationReport::measured_above_target ||
               std::ranges::all_of(candidates,
                                   [&](const Format& each) { return bits(format) <= bits(each); });
    }

    MeasuredLayer() = default;
    /// `measured`: by candidate; at least one.
    MeasuredLayer(std::vector<pipeline::CandidateLoss> candidates,
                  const std::map<std::size_t, double>& measured)
        : candidates_(std::move(candidates)), klds_(candidates_.size()) {
        const auto finest = std::ranges::min_element(
            measured, {}, [&](const auto& each) { return candidates_[each.first].output_error; });
        const double error = candidates_[finest->first].output_error;
        const double slope = error > 0 ? finest->second / error : 0;
        for (std::size_t c = 0; c < klds_.size(); ++c) klds_[c] = slope * candidates_[c].output_error;
        for (const auto& [candidate, kld] : measured) klds_[candidate] = kld;
    }

    [[nodiscard]] const std::vector<pipeline::CandidateLoss>& candidates() const { return candidates_; }
    [[nodiscard]] double kld(std::size_t candidate) const { return klds_[candidate]; }

private:
    std::vector<pipeline::CandidateLoss> candidates_;
    std::vector<double> klds_;
};

/// What each candidate would do to all layers that may have it, where all may.
std::vector<UniformPlan> uniform_plans(const std::map<std::string, MeasuredLayer>& layers, double weights,
                                       std::vector<Format> formats) {
    std::vector<UniformPlan> plans;
    for (const Format& format : formats) {
        UniformPlan plan{format, 0, 0};
        const bool everywhere = std::ranges::all_of(layers, [&](const auto& layer) {
            const auto& candidates = layer.second.candidates();
            const auto at = std::ranges::find(candidates, format, &pipeline::CandidateLoss::format);
            if (at == candidates.end()) return false;
            plan.bits_per_weight += at->bits / weights;
            plan.kld += layer.second.kld(static_cast<std::size_t>(at - candidates.begin()));
            return true;
        });
        if (everywhere) plans.push_back(plan);
    }
    std::ranges::stable_sort(plans, {}, &UniformPlan::bits_per_weight);
    return plans;
}

std::map<std::string, MeasuredLayer> measure(const io::ModelFile& model, const Candidates& candidates,
                                             double target, const std::vector<std::vector<int>>& windows,
                                             const Method& method, LayerDivergence& divergence,
                                             ExecutionContext context) {
    std::map<std::string, std::map<std::size_t, double>> klds;
    Progress progress("measuring candidates");
    pipeline::CandidateOptions options;
    options.method = method;
    options.progress = [&](std::string_view layer, std::size_t done, std::size_t total) {
        progress.update(done, total, layer);
    };
    options.visit = [&](std::string_view layer, std::size_t candidate, const Linear& linear) -> Result<void> {
        const std::string name(layer);
        const std::vector<Format>& formats = candidates.at(name);
        if (!MeasuredLayer::is_measured(formats[candidate], model.linears.at(name), target, formats))
            return {};
        auto kld = divergence(name, linear);
        if (!kld) return Unexpected{std::move(kld).error()};
        klds[name][candidate] = std::max(0.0, *kld);  // rounding may leave -1e-17
        return {};
    };
    std::map<std::string, MeasuredLayer> layers;
    for (auto& [name, found] :
         expect(pipeline::measure_candidates(model, candidates, windows, options, context)))
        layers[name] = MeasuredLayer(std::move(found.candidates), klds.at(name));
    return layers;
}

}  // namespace

void add_allocation_options(CLI::App& command, AllocationOptions& options) {
    CLI::Option* target =
        command
            .add_option_function<double>(
                "--target-bpw", [&options](double bits) { options.target = bits; },
                "Give every layer a format of its own, so that all that are quantized have at most so many "
                "bits "
                "per weight together and the model changes as little as can be (docs/allocation.md)")
            ->type_name("BITS")
            ->check(CLI::PositiveNumber);
    add_formats(
        command, "--candidates", options.candidates,
        "The formats among which --target-bpw chooses; default: that of --format with all numbers of bits")
        ->needs(target);
    add_count(command, "--allocation-tokens", options.tokens,
              "Tokens of the calibration text with which --target-bpw measures what a format does in a layer",
              2)
        ->needs(target)
        ->default_str("4096");
}

std::vector<Format> family_of(const Format& format) {
    using ggml::BlockType;
    constexpr std::array types{BlockType::q2_k, BlockType::q3_k, BlockType::q4_k,
                               BlockType::q5_k, BlockType::q6_k, BlockType::q8_0};
    std::vector<Format> family;
    if (format.is_block() && std::ranges::find(types, format.block) != types.end())
        for (const BlockType type : types) family.push_back(block_format(type));
    if (format.element == Element::integer)
        for (int bits = min_bits; bits <= max_bits; ++bits) {
            Format other = format;
            other.bits = bits;
            if (validate(other)) family.push_back(other);
        }
    if (family.empty())
        throw Failure(
            fmt::format("--target-bpw: {} has no relatives of other bits; --candidates names formats "
                        "to choose from",
                        name(format)));
    return family;
}

std::optional<AllocationReport> allocate_formats(const io::ModelFile& model, std::vector<PlannedLayer>& plan,
                                                 const PlanOptions& options,
                                                 const AllocationOptions& allocation,
                                                 const CalibrationText& calibration,
                                                 FunctionRef<model::Tokenizer()> tokenizer,
                                                 ExecutionContext context) {
    if (!allocation.target) return std::nullopt;
    if (options.mix != nullptr || !options.format)
        throw Failure(
            fmt::format("--target-bpw chooses between formats of one family; name one of it with "
                        "--format{}",
                        options.mix != nullptr ? ", not a mix, which has a rule for every layer" : ""));
    const std::vector<Format> formats =
        allocation.candidates.empty() ? family_of(*options.format) : allocation.candidates;
    const Candidates candidates = candidates_of(model, plan, formats);
    const auto windows = calibration_tokens(model, calibration, tokenizer(), "--target-bpw measures layers");
    LayerDivergence divergence(model, windows, allocation.tokens, context);
    const auto layers =
        measure(model, candidates, *allocation.target, windows, options.method.method(), divergence, context);

    std::vector<pipeline::AllocationItem> items;
    for (const auto& [name, layer] : layers) {
        const Linear& linear = model.linears.at(name);
        pipeline::AllocationItem item{
            name, static_cast<double>(linear.n()) * static_cast<double>(linear.k()), {}};
        for (std::size_t c = 0; c < layer.candidates().size(); ++c)
            item.options.push_back({layer.candidates()[c].bits, layer.kld(c)});
        items.push_back(std::move(item));
    }
    const pipeline::Allocation chosen = expect([&] {
        auto result = pipeline::allocate(items, *allocation.target);
        return result ? std::move(result)
                      : Result<pipeline::Allocation>(
                            Unexpected{std::move(result).error().within("--target-bpw")});
    }());

    AllocationReport report;
    report.target = *allocation.target;
    report.weights = chosen.weights;
    report.bits = chosen.bits;
    report.kld = chosen.cost;
    report.lower_bound = chosen.lower_bound;
    report.tokens = divergence.tokens();
    report.uniform = uniform_plans(layers, chosen.weights, formats);
    ModelSize size = size_of(model);
    for (std::size_t i = 0; i < items.size(); ++i) {
        const MeasuredLayer& layer = layers.at(items[i].name);
        const std::size_t choice = chosen.choices[i];
        const pipeline::CandidateLoss& loss = layer.candidates()[choice];
        report.layers.push_back(
            {items[i].name, loss.format, items[i].weights, loss.bits, loss.output_error, layer.kld(choice)});
        const QuantizedMatrix& before = model.linears.at(items[i].name).weights;
        size.bits += loss.bits - total_bits(before.format(), before.n(), before.k());
        const auto planned = std::ranges::find(plan, items[i].name, &PlannedLayer::name);
        planned->format = loss.format;
        if (planned->why == "--format") planned->why = "--target-bpw";
    }
    report.model_bits_per_weight = size.bits_per_weight();
    return report;
}

}  // namespace fewbit::cli
