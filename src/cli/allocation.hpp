// Bits where they matter: --target-bpw gives the layers of a plan formats of their own (pipeline/allocation.hpp).
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "fewbit/io/model_file.hpp"
#include "fewbit/model/tokenizer.hpp"
#include "src/cli/calibration.hpp"
#include "src/cli/plan.hpp"

namespace fewbit::cli {

struct AllocationOptions {
    std::optional<double>
        target;  ///< bits per weight of the matrices that are quantized; nothing: no allocation
    std::vector<Format> candidates;  ///< empty: family_of(--format)
    std::size_t tokens = 4096;       ///< with which divergences are measured, more or less
};

/// --target-bpw, --candidates, --allocation-tokens.
void add_allocation_options(CLI::App& command, AllocationOptions& options);

/// The formats that differ from `format` in bits alone; of ggml's k-quants q2_k to q6_k, and q8_0. Throws Failure: it has
/// no such family.
[[nodiscard]] std::vector<Format> family_of(const Format& format);

struct AllocatedLayer {
    std::string name;
    Format format;
    double weights = 0, bits = 0;
    double output_error = 0;  ///< relative, squared, on the float model's inputs
    double kld = 0;           ///< of the model with this layer alone in the format, nats

    /// KL divergence per output error, nats.
    [[nodiscard]] double sensitivity() const { return output_error > 0 ? kld / output_error : 0; }
};

/// The same candidate for all layers.
struct UniformPlan {
    Format format;
    double bits_per_weight = 0, kld = 0;
};

struct AllocationReport {
    /// Divergences are measured for formats of up to so many bits above the target, and are in proportion to the
    /// output error beyond.
    static constexpr double measured_above_target = 1;

    double target = 0;
    double weights = 0, bits = 0;  ///< of the matrices that are quantized
    double model_bits_per_weight = 0;
    double kld = 0;          ///< predicted: the sum over the layers, nats
    double lower_bound = 0;  ///< of what any plan within the budget is predicted
    std::size_t tokens = 0;  ///< with which divergences were measured
    std::vector<AllocatedLayer> layers;
    std::vector<UniformPlan> uniform;  ///< those that fit all layers, in order of bits

    [[nodiscard]] double bits_per_weight() const { return weights == 0 ? 0 : bits / weights; }
};

/// Gives the layers that --format decided about the formats that the budget buys, and says so in `plan`; layers of
/// --tensor-format keep theirs and count. Nothing without --target-bpw. The calibration text runs through the float model,
/// whatever the method. Throws Failure: no --format, or a mix; a budget below the smallest candidates; no candidate that
/// fits a layer; a layer that is quantized already; what measure_candidates refuses.
std::optional<AllocationReport> allocate_formats(const io::ModelFile& model, std::vector<PlannedLayer>& plan,
                                                 const PlanOptions& options,
                                                 const AllocationOptions& allocation,
                                                 const CalibrationText& calibration,
                                                 FunctionRef<model::Tokenizer()> tokenizer,
                                                 ExecutionContext context);

void print_allocation(const AllocationReport& report);
[[nodiscard]] Json allocation_json(const std::optional<AllocationReport>& report);

}  // namespace fewbit::cli
