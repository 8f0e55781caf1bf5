// What `fewbit curves` says: tables for the terminal, at most 80 columns.
#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>

#include "fewbit/evaluate/theory.hpp"
#include "fewbit/pipeline/outliers.hpp"
#include "src/cli/curves.hpp"

namespace fewbit::cli {
namespace {

using Table = cli::Table;

/// Six columns: 2.149, 0.140, 4.3e-4.
std::string short_number(double value) {
    if (!std::isfinite(value)) return fmt::format("{}", value);
    if (value == 0) return "0";
    if (std::abs(value) >= 0.0095) {
        const double size = std::abs(value);
        return size >= 9999.5 ? fmt::format("{:.0e}", value)
                              : fmt::format("{:.{}f}", value,
                                            size >= 999.5   ? 0
                                            : size >= 99.95 ? 1
                                            : size >= 9.995 ? 2
                                                            : 3);
    }
    std::string text = fmt::format("{:.1e}", value);
    const std::size_t zero = text.find("e-0");
    return zero == std::string::npos ? text : text.erase(zero + 2, 1);
}

std::string label_of(const evaluate::CurveSetting& setting) {
    const std::string_view variant = setting.variant == evaluate::Variant::symmetric ? "sym"
                                     : setting.variant == evaluate::Variant::asymmetric
                                         ? "asym"
                                         : name(setting.variant);
    return fmt::format("{} {}", setting.grouping(), variant);
}

/// One row per curve, one column per number of bits; what scales and zero points add stands in front.
template <class Points, class Cell>
std::string table_of(const Points& points, Cell cell) {
    std::vector<Table::Column> columns{{"bits"}, {"extra", Table::Align::right}};
    for (int bits = min_bits; bits <= max_bits; ++bits)
        columns.push_back({fmt::format("{}", bits), Table::Align::right});
    Table table(columns);
    std::vector<std::string> row;
    std::string grouping;
    for (const auto& point : points) {
        if (row.empty()) {
            if (!grouping.empty() && grouping != point->setting.grouping()) table.add_rule();
            grouping = point->setting.grouping();
            double extra = 0;
            if constexpr (requires { point->quantized_bits_per_weight; })
                extra = point->quantized_bits_per_weight;
            else
                extra = point->bits_per_weight;
            row = {label_of(point->setting), fmt::format("+{:.2f}", extra - point->setting.format.bits)};
        }
        row.push_back(cell(*point));
        if (point->setting.format.bits == max_bits) {
            table.add(row);
            row.clear();
        }
    }
    return table.text();
}

template <class Point, class Accept>
std::vector<const Point*> chosen(const std::vector<Point>& points, Accept accept) {
    std::vector<const Point*> out;
    for (const Point& point : points)
        if (accept(point)) out.push_back(&point);
    return out;
}

/// Percent of exact answers: the float model, each setting that was asked, and what was compared.
std::string behaviours_text(const ModelCurves& model) {
    if (model.behaviour_items == 0 && model.compared.empty()) return {};
    std::vector<Table::Column> columns{
        {"weights"}, {"bits", Table::Align::right}, {"KLD", Table::Align::right}};
    if (model.behaviour_items > 0)
        for (const evaluate::Behaviour behaviour : evaluate::all_behaviours)
            columns.push_back({std::string(evaluate::name(behaviour).substr(0, 4)), Table::Align::right});
    Table table(columns);
    const auto add = [&](std::string label, std::string bits, std::string kld,
                         const std::vector<evaluate::BehaviourScore>& scores) {
        std::vector<std::string> row{shortened(label, 28), std::move(bits), std::move(kld)};
        for (const evaluate::BehaviourScore& score : scores)
            row.push_back(fmt::format("{:.1f}", 100 * score.share));
        table.add(std::move(row));
    };
    add("float", "", "", model.reference_behaviours);
    std::string curve;
    for (const ModelPoint& point : model.points) {
        if (point.behaviours.empty()) continue;
        const std::string label = label_of(point.setting);
        if (curve != label) table.add_rule();
        curve = label;
        add(fmt::format("{} {}", name(point.setting.format), evaluate::name(point.setting.variant)),
            fmt::format("{:.2f}", point.bits_per_weight), short_number(point.divergence.kld.mean),
            point.behaviours);
    }
    if (!model.compared.empty()) table.add_rule();
    for (const ComparedModel& each : model.compared)
        add(path_of(each.path).stem().string(), fmt::format("{:.2f}", each.bits_per_weight),
            short_number(each.divergence.kld.mean), each.behaviours);
    return fmt::format(
        "\n{}; f32 activations\n\n{}",
        model.behaviour_items > 0
            ? fmt::format("Exact answers in %, {} held-out items of each behaviour", model.behaviour_items)
            : "Models given with --compare",
        table.text());
}

std::string methods_text(const ModelCurves& model) {
    if (model.methods.empty()) return {};
    std::vector<Table::Column> columns{{"method"}, {"extra", Table::Align::right}};
    std::vector<std::string> row;
    std::optional<Table> table;
    std::string rows;
    for (std::size_t i = 0; i < model.methods.size(); ++i) {
        const MethodPoint& point = model.methods[i];
        const bool first_row = point.method == model.methods.front().method;
        if (first_row) columns.push_back({fmt::format("{} bits", point.format.bits), Table::Align::right});
        if (row.empty())
            row = {point.method, fmt::format("+{:.2f}", point.quantized_bits_per_weight - point.format.bits)};
        row.push_back(short_number(point.divergence.kld.mean));
        if (i + 1 < model.methods.size() && model.methods[i + 1].method == point.method) continue;
        if (!table) table.emplace(columns);
        table->add(std::exchange(row, {}));
    }
    return fmt::format(
        "\n{}\n\n{}",
        wrapped(fmt::format("Mean KL divergence by method, groups of 64, f32 activations; calibrated "
                            "with {}",
                            model.calibration),
                80),
        table->text());
}

std::string outliers_text(const ModelCurves& model) {
    if (model.outliers.empty()) return {};
    std::vector<double> factors;
    std::vector<Table::Column> columns{{"activations"}};
    for (const OutlierPoint& point : model.outliers)
        if (std::find(factors.begin(), factors.end(), point.factor) == factors.end()) {
            factors.push_back(point.factor);
            columns.push_back({fmt::format("factor {}", point.factor), Table::Align::right});
        }
    Table table(columns);
    std::vector<std::string> row;
    for (const OutlierPoint& point : model.outliers) {
        if (row.empty()) row.push_back(label_of(point));
        row.push_back(short_number(point.divergence.kld.mean));
        if (row.size() > factors.size()) table.add(std::exchange(row, {}));
    }
    return fmt::format("\nMean KL divergence with outlier channels; {} weights\n\n{}\n{}\n",
                       name(model.outlier_weights), table.text(), wrapped(pipeline::outlier_notice, 80));
}

std::string report_of(const ModelCurves& model) {
    std::string out = wrapped(fmt::format("{}: {} parameters; {}", model.model, grouped(model.parameters),
                                          model.what_is_quantized()),
                              80, 2);
    out += '\n' + wrapped(fmt::format("{}: {} predictions per point in {} windows; f32 model: {:.4f} nats, "
                                      "perplexity {:.4f}",
                                      model.text, grouped(model.reference.tokens), grouped(model.windows),
                                      model.reference.nll, model.reference.perplexity),
                          80, 2);
    out += '\n';
    std::vector<ActivationFormat> kinds;
    for (const ModelPoint& point : model.points)
        if (std::find(kinds.begin(), kinds.end(), point.activations) == kinds.end())
            kinds.push_back(point.activations);
    for (const ActivationFormat& kind : kinds) {
        const auto points =
            chosen(model.points, [&](const ModelPoint& point) { return point.activations == kind; });
        out += fmt::format("\nMean KL divergence from f32, nats; {} activations\n\n", name(kind));
        out +=
            table_of(points, [](const ModelPoint& point) { return short_number(point.divergence.kld.mean); });
    }
    const auto exact = chosen(
        model.points, [&](const ModelPoint& point) { return point.activations == exact_activations(); });
    out += fmt::format("\nPerplexity; f32 activations (f32 weights: {:.3f})\n\n", model.reference.perplexity);
    out += table_of(exact,
                    [](const ModelPoint& point) { return short_number(point.divergence.model.perplexity); });

    out += behaviours_text(model);
    if (const auto loss = hidden_loss_of(model)) out += '\n' + wrapped(loss->text(), 80) + '\n';
    out += methods_text(model);
    out += outliers_text(model);
    out += '\n';
    for (const Rise& rise : rises_of(model))
        out += wrapped(
            fmt::format("more bits, more divergence: {} {}, {} activations, from {} bits ({}) to {} ({})\n",
                        rise.before->setting.grouping(), evaluate::name(rise.before->setting.variant),
                        name(rise.before->activations), rise.before->setting.format.bits,
                        short_number(rise.before->divergence.kld.mean), rise.after->setting.format.bits,
                        short_number(rise.after->divergence.kld.mean)),
            80);
    for (const ModelPoint& point : model.points)
        if (name(point.setting.format) == "int8-channel")
            out += fmt::format("int8-channel, {} activations: {:+.5f} nats, KL divergence {}\n",
                               name(point.activations), point.divergence.model.nll - model.reference.nll,
                               short_number(point.divergence.kld.mean));
    out += '\n';
    for (const KernelShare& share : kernels_of(model)) {
        out += fmt::format("kernel {}, {} activations: {} of {} points\n", share.kernel, share.activations,
                           share.points, model.points.size());
        if (!share.reason.empty()) out += "  " + wrapped("FALLBACK: " + share.reason, 80, 2) + '\n';
    }
    return out;
}

}  // namespace

std::string_view name(OutlierScope scope) noexcept {
    return scope == OutlierScope::all ? "all" : "behind norms";
}

std::string label_of(const OutlierPoint& point) {
    return name(point.activations) +
           (point.scope == OutlierScope::all ? std::string() : fmt::format(" {}", name(point.scope))) +
           (point.remedy.empty() ? std::string() : ", " + point.remedy);
}

std::string ModelCurves::what_is_quantized() const {
    if (kept.empty())
        return fmt::format(
            "all {} matrices are quantized, {}", quantized_matrices,
            tied_head ? "with the embedding, which is the head too" : "embedding and head too");
    std::string names;
    for (std::size_t i = 0; i < std::min<std::size_t>(kept.size(), 3); ++i)
        names += (i == 0 ? "" : ", ") + kept[i];
    return fmt::format("{} of {} matrices are quantized, not {}{}", quantized_matrices,
                       quantized_matrices + kept.size(), names,
                       kept.size() > 3 ? fmt::format(" and {} more", kept.size() - 3) : "");
}

std::optional<HiddenLoss> hidden_loss_of(const ModelCurves& model) {
    std::optional<HiddenLoss> most;
    for (const ModelPoint& point : model.points) {
        const double rise = point.divergence.model.perplexity / model.reference.perplexity - 1;
        if (rise >= 0.02) continue;
        for (std::size_t b = 0; b < point.behaviours.size(); ++b) {
            const double loss = model.reference_behaviours[b].share - point.behaviours[b].share;
            if (loss >= std::max(0.1, most ? most->loss : 0.0))
                most = {&point, point.behaviours[b].behaviour, rise, loss};
        }
    }
    return most;
}

std::string HiddenLoss::text() const {
    return fmt::format(
        "What the average hides: {} by {} raises perplexity by {:.1f} % and loses {:.0f} % of {}.",
        name(point->setting.format), point->setting.variant == evaluate::Variant::mse ? "mse" : "rtn",
        100 * perplexity_rise, 100 * loss, evaluate::name(behaviour));
}

std::vector<Rise> rises_of(const ModelCurves& model) {
    std::vector<Rise> rises;
    for (const ModelPoint& before : model.points)
        for (const ModelPoint& after : model.points)
            if (after.setting.format.bits == before.setting.format.bits + 1 &&
                after.setting.variant == before.setting.variant &&
                after.setting.grouping() == before.setting.grouping() &&
                after.activations == before.activations &&
                !(after.divergence.kld.mean < before.divergence.kld.mean))
                rises.push_back({&before, &after});
    return rises;
}

std::vector<KernelShare> kernels_of(const ModelCurves& model) {
    std::vector<KernelShare> shares;
    std::vector<const ModelPoint*> last;  // that each share has counted
    for (const ModelPoint& point : model.points)
        for (const model::KernelUse& use : point.kernels) {
            auto same = std::find_if(shares.begin(), shares.end(), [&](const KernelShare& share) {
                return share.kernel == use.kernel && share.reason.empty() == use.fallback_reason.empty() &&
                       share.activations == name(use.activations);
            });
            if (same == shares.end()) {
                same = shares.insert(
                    shares.end(),
                    {std::string(use.kernel), name(use.activations), use.fallback_reason, {}, 0});
                last.push_back(nullptr);
            }
            const ModelPoint*& counted = last[static_cast<std::size_t>(same - shares.begin())];
            if (counted != &point) ++same->points;
            counted = &point;
            if (std::string format = name(use.weights);
                std::find(same->formats.begin(), same->formats.end(), format) == same->formats.end())
                same->formats.push_back(std::move(format));
        }
    return shares;
}

std::vector<std::pair<int, double>> lloyd_max_points() {
    std::vector<std::pair<int, double>> points;
    for (int bits = min_bits; bits <= max_bits; ++bits) points.emplace_back(bits, lloyd_max(bits).sqnr_db());
    return points;
}

std::string report_of(const Curves& curves) {
    std::string out;
    if (curves.model) out += report_of(*curves.model);
    for (const MatrixCurves& matrix : curves.matrices) {
        const auto points = chosen(matrix.points, [](const MatrixPoint&) { return true; });
        out += fmt::format("\nSQNR in dB; {} matrix, {} x {}\n\n", matrix.title, matrix.rows, matrix.cols);
        std::string table =
            table_of(points, [](const MatrixPoint& point) { return fmt::format("{:.2f}", point.sqnr_db); });
        out += table;
        if (matrix.bound_db == 0) {
            out += "in theory, without scales: Lloyd-Max";
            for (const auto& [bits, db] : lloyd_max_points()) out += fmt::format(" {:.2f}", db);
            out += "\nat most (rate-distortion bound): 6.02 dB per bit\n";
        } else {
            out += fmt::format("at most (Shannon's lower bound): 6.02 dB per bit + {:.2f} dB\n",
                               matrix.bound_db);
        }
    }
    return out +
           "\nextra: bits per weight that scales and zero points add;\n"
           "sym, asym: rounded to nearest; mse: asym with clipped ranges\n\n";
}

}  // namespace fewbit::cli
