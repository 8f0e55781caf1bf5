// What `fewbit quantize` says about each tensor, whatever file it goes into: the plan, the report, JSON.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "fewbit/pipeline/calibrated_quantizer.hpp"
#include "src/cli/command.hpp"

namespace fewbit::cli {

struct QuantizeRow {
    std::string name;
    std::string before, after;  ///< formats, or types of GGUF that fewbit only passes on
    std::string why;            ///< what decided
    bool changes = false;
    std::size_t n = 0, k = 0;
    double bits_before = 0, bits = 0;               ///< of the whole tensor
    std::optional<pipeline::LayerOutcome> outcome;  ///< nothing: stays as it is, or nothing was written

    [[nodiscard]] double weights() const { return static_cast<double>(n) * static_cast<double>(k); }
};

/// Sums over the rows.
struct QuantizeTotals {
    double weights = 0, bits_before = 0, bits = 0;
    [[nodiscard]] double bits_per_weight_before() const { return weights == 0 ? 0 : bits_before / weights; }
    [[nodiscard]] double bits_per_weight() const { return weights == 0 ? 0 : bits / weights; }
};
[[nodiscard]] QuantizeTotals totals_of(const std::vector<QuantizeRow>& rows);

/// What would happen, and what decided it.
void print_plan(const std::vector<QuantizeRow>& rows);
/// What happened, and the notes.
void print_report(const std::vector<QuantizeRow>& rows);
[[nodiscard]] Json json_of(const std::vector<QuantizeRow>& rows);

/// What a dry run adds: how long the encoding would take, measured on some rows of every kind of tensor, and
/// what would be in memory; 0: not estimated.
struct QuantizeCost {
    double seconds = 0;
    std::uint64_t file_bytes = 0;
    std::uint64_t memory_bytes = 0;
};
void print_cost(const QuantizeCost& cost);

}  // namespace fewbit::cli
