// What --target-bpw chose, for the terminal and as JSON.
#include <cmath>

#include "src/cli/allocation.hpp"
#include "src/cli/load.hpp"
#include "src/cli/print.hpp"

namespace fewbit::cli {

void print_allocation(const AllocationReport& report) {
    using Align = Table::Align;
    Table table({{"layer"},
                 {"format"},
                 {"bpw", Align::right},
                 {"sensitivity", Align::right},
                 {"output err.", Align::right},
                 {"KLD", Align::right}});
    for (const AllocatedLayer& layer : report.layers)
        table.add({short_name(layer.name), name(layer.format),
                   fmt::format("{:.3f}", layer.bits / layer.weights),
                   fmt::format("{:.3g}", layer.sensitivity()),
                   fmt::format("{:.4f}", std::sqrt(layer.output_error)), fmt::format("{:.3g}", layer.kld)});
    say("{}\n", table.text());
    say("{}\n",
        wrapped(fmt::format("{} weights in {} matrices: {:.3f} of at most {:.3f} bits per weight, {:.3f} of "
                            "the whole model",
                            grouped(static_cast<std::size_t>(report.weights)), report.layers.size(),
                            report.bits_per_weight(), report.target, report.model_bits_per_weight),
                80));
    say("{}\n",
        wrapped(fmt::format("Predicted KL divergence {:.3g} nats, and no plan of so many bits below {:.3g}. "
                            "KLD is of one layer alone, on {} tokens: measured in formats of up to {:g} "
                            "bits, in proportion to the output error beyond.",
                            report.kld, report.lower_bound, grouped(report.tokens),
                            report.target + AllocationReport::measured_above_target),
                80));
    std::string uniform;
    for (const UniformPlan& plan : report.uniform)
        uniform += fmt::format("{}{} {:.3g} ({:.3f} bits)", uniform.empty() ? "" : ", ", name(plan.format),
                               plan.kld, plan.bits_per_weight);
    if (!uniform.empty()) say("{}\n", wrapped("One format for all: " + uniform, 80, 2));
    say("\n");
}

Json allocation_json(const std::optional<AllocationReport>& report) {
    if (!report) return {};
    Json layers = Json::array(), uniform = Json::array();
    for (const AllocatedLayer& layer : report->layers)
        layers.push_back({{"name", layer.name},
                          {"format", name(layer.format)},
                          {"bits_per_weight", layer.weights == 0 ? 0 : layer.bits / layer.weights},
                          {"sensitivity", layer.sensitivity()},
                          {"output_error", layer.output_error},
                          {"predicted_kld", layer.kld}});
    for (const UniformPlan& plan : report->uniform)
        uniform.push_back({{"format", name(plan.format)},
                           {"bits_per_weight", plan.bits_per_weight},
                           {"predicted_kld", plan.kld}});
    return {{"target", report->target},
            {"weights", static_cast<std::size_t>(report->weights)},
            {"bits_per_weight", report->bits_per_weight()},
            {"model_bits_per_weight", report->model_bits_per_weight},
            {"predicted_kld", report->kld},
            {"lower_bound", report->lower_bound},
            {"tokens", report->tokens},
            {"layers", std::move(layers)},
            {"uniform", std::move(uniform)}};
}

}  // namespace fewbit::cli
