// Tables and JSON of `fewbit quantize`.
#include "src/cli/quantize_report.hpp"

#include <algorithm>
#include <cmath>

#include "src/cli/load.hpp"

namespace fewbit::cli {
namespace {

std::string decibel(double value) { return std::isinf(value) ? "exact" : fmt::format("{:.2f}", value); }

Json json_of(const QuantizeRow& row) {
    Json out{{"name", row.name},
             {"n", row.n},
             {"k", row.k},
             {"format_before", row.before},
             {"format", row.after},
             {"because", row.why},
             {"bits_per_weight", row.weights() == 0 ? 0 : row.bits / row.weights()},
             {"quantized", row.outcome.has_value()}};
    const pipeline::LayerOutcome outcome = row.outcome.value_or(pipeline::LayerOutcome{});
    const QuantizeReport& report = outcome.report;
    const auto number = [&](double value) { return row.outcome ? Json(value) : Json(); };
    out["method"] = row.outcome ? Json(report.method) : Json();
    out["relative_error"] = number(report.relative_error);
    out["sqnr_db"] = number(report.sqnr_db);
    out["max_abs_error"] = number(report.max_abs_error);
    out["mean_square_error"] = number(report.mean_square_error);
    out["output_error"] = outcome.output_error ? Json(*outcome.output_error) : Json();
    out["scales"] = outcome.scales.empty() ? Json() : Json(outcome.scales);
    out["tokens"] = outcome.tokens;
    out["dead_channels"] = report.dead_channels;
    out["damping"] = outcome.output_error ? Json(report.damping) : Json();
    out["groups"] = report.groups;
    out["zero_groups"] = report.zero_groups;
    out["constant_groups"] = report.constant_groups;
    out["subnormal_scales"] = report.subnormal_scales;
    out["flushed_groups"] = report.flushed_groups;
    out["notes"] = report.notes;
    return out;
}

/// Whether calibration saw as many tokens of one layer as of any other. Those that it cannot see do not count.
bool saw_the_same(const std::vector<QuantizeRow>& rows) {
    std::uint64_t seen = 0;
    for (const QuantizeRow& row : rows) {
        const std::uint64_t tokens = row.outcome ? row.outcome->tokens : 0;
        if (tokens == 0) continue;
        if (seen != 0 && tokens != seen) return false;
        seen = tokens;
    }
    return true;
}

}  // namespace

QuantizeTotals totals_of(const std::vector<QuantizeRow>& rows) {
    QuantizeTotals totals;
    for (const QuantizeRow& row : rows) {
        totals.weights += row.weights();
        totals.bits_before += row.bits_before;
        totals.bits += row.bits;
    }
    return totals;
}

void print_plan(const std::vector<QuantizeRow>& rows) {
    Table table({{"layer"}, {"shape", Table::Align::right}, {"now"}, {"becomes"}, {"because of"}});
    for (const QuantizeRow& row : rows)
        table.add({short_name(row.name), fmt::format("{} x {}", row.n, row.k), row.before,
                   row.changes ? row.after : "stays", shortened(row.why, 22)});
    say("{}\n", table.text());
    const QuantizeTotals totals = totals_of(rows);
    say("{} weights: {:.3f} bits per weight become {:.3f}, {} become {}\n",
        grouped(static_cast<std::size_t>(totals.weights)), totals.bits_per_weight_before(),
        totals.bits_per_weight(), bytes_text(totals.bits_before / 8), bytes_text(totals.bits / 8));
}

void print_report(const std::vector<QuantizeRow>& rows) {
    const bool calibrated =
        std::ranges::any_of(rows, [](const auto& row) { return row.outcome && row.outcome->output_error; });
    std::vector<Table::Column> columns{{"layer"},
                                       {"format"},
                                       {"bpw", Table::Align::right},
                                       {"rel. error", Table::Align::right},
                                       {"SQNR dB", Table::Align::right},
                                       {calibrated ? "output err." : "max error", Table::Align::right}};
    const bool same_tokens = saw_the_same(rows);
    if (!same_tokens) columns.push_back({"tokens", Table::Align::right});
    Table table(std::move(columns));
    for (const QuantizeRow& row : rows) {
        std::vector<std::string> cells{
            short_name(row.name), row.after,
            fmt::format("{:.3f}", row.weights() == 0 ? 0 : row.bits / row.weights())};
        if (row.outcome) {
            const QuantizeReport& report = row.outcome->report;
            const std::optional<double>& output_error = row.outcome->output_error;
            cells.push_back(fmt::format("{:.4f}", report.relative_error));
            cells.push_back(decibel(report.sqnr_db));
            if (calibrated)
                cells.push_back(output_error ? fmt::format("{:.4f}", std::sqrt(*output_error)) : "");
            else
                cells.push_back(fmt::format("{:.3g}", report.max_abs_error));
            if (!same_tokens) cells.push_back(grouped(row.outcome->tokens));
        } else {
            cells.insert(cells.end(), {"stays", "", ""});
        }
        table.add(std::move(cells));
    }
    say("{}", table.text());
    for (const QuantizeRow& row : rows)
        if (row.outcome)
            for (const std::string& note : row.outcome->report.notes)
                say("{}\n", wrapped(fmt::format("{}: {}", row.name, note), 80, 2));
}

Json json_of(const std::vector<QuantizeRow>& rows) {
    Json out = Json::array();
    for (const QuantizeRow& row : rows) out.push_back(json_of(row));
    return out;
}

void print_cost(const QuantizeCost& cost) {
    say("The file would have {} ({} bytes).\n", bytes_text(static_cast<double>(cost.file_bytes)),
        grouped(cost.file_bytes));
    if (cost.memory_bytes == 0)
        say("How long calibration takes depends on the text; that is not estimated.\n");
    else
        say("It would take about {} and at most about {} of memory.\n", seconds_text(cost.seconds),
            bytes_text(static_cast<double>(cost.memory_bytes)));
}

}  // namespace fewbit::cli
