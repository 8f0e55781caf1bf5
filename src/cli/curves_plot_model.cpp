// Pictures of what a model can still do: behaviours against bits per weight, and W8A8 on made outliers.
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <optional>

#include "fewbit/pipeline/outliers.hpp"
#include "src/cli/curves.hpp"

namespace fewbit::cli {
namespace {

constexpr std::string_view compared_style = "lc rgb \"black\" lw 2 pt 13 ps 1.1";

/// bits per weight, perplexity, KL divergence, then percent of every behaviour.
std::string behaviour_row(double bits_per_weight, const evaluate::Divergence& divergence,
                          const std::vector<evaluate::BehaviourScore>& scores) {
    std::string out =
        fmt::format("{} {} {}", plot_number(bits_per_weight), positive_number(divergence.model.perplexity),
                    positive_number(divergence.kld.mean));
    for (const evaluate::BehaviourScore& score : scores)
        out += fmt::format(" {}", plot_number(100 * score.share));
    return out + '\n';
}

/// Names fewbit qat where all that were compared say that it made them.
std::string name_of_compared(const ModelCurves& model) {
    const bool all = std::all_of(model.compared.begin(), model.compared.end(), [](const ComparedModel& each) {
        return each.quantization.starts_with("qat");
    });
    return all ? "quantization-aware training (fewbit qat)" : "models given with --compare";
}

/// A datablock whose first column is x, and how each of the others is drawn.
struct Series {
    std::string data, style;
};
std::vector<std::string> plots_of(const std::vector<Series>& series, int column) {
    std::vector<std::string> plots;
    for (const auto& [data, style] : series)
        plots.push_back(fmt::format("${} using 1:{} with linespoints {} notitle", data, column, style));
    return plots;
}

struct Curve {
    std::string grouping;
    evaluate::Variant variant;
    std::string rows;
};

/// Line and marker of one colour; dashed and hollow for what is second.
struct Style {
    std::string_view colour;
    bool dashed = false;
    double size = 0.6;

    [[nodiscard]] std::string line() const {
        return fmt::format("lc rgb \"{}\" dt {} lw {}", colour, dashed ? 3 : 1, dashed ? 1.4 : 2);
    }
    [[nodiscard]] std::string marker() const {
        return fmt::format("lc rgb \"{}\" pt {} ps {}", colour, dashed ? 6 : 7, size);
    }
    [[nodiscard]] std::string both() const {
        return fmt::format("{} pt {} ps {}", line(), dashed ? 6 : 7, size);
    }
};
Style style_of(const Curve& curve) {
    return {curve.variant == evaluate::Variant::narrow ? "#CC79A7"
            : curve.grouping == "channel"              ? "#E69F00"
                                                       : "#0072B2",
            curve.variant != evaluate::Variant::mse};
}
std::string name_of(const Curve& curve) {
    return fmt::format("{}, {}", curve.grouping == "channel" ? "per channel" : "per 64 weights",
                       curve.variant == evaluate::Variant::mse      ? "mse"
                       : curve.variant == evaluate::Variant::narrow ? "rtn, narrow"
                                                                    : "rtn");
}

}  // namespace

Page behaviours_page(const ModelCurves& model) {
    std::vector<Curve> curves;
    double low = 1e9, high = 0;
    for (const ModelPoint& point : model.points) {
        if (point.behaviours.empty()) continue;
        const std::string grouping = point.setting.grouping();
        auto curve = std::find_if(curves.begin(), curves.end(), [&](const Curve& known) {
            return known.grouping == grouping && known.variant == point.setting.variant;
        });
        if (curve == curves.end()) curve = curves.insert(curves.end(), {grouping, point.setting.variant, ""});
        curve->rows += behaviour_row(point.bits_per_weight, point.divergence, point.behaviours);
        low = std::min(low, point.bits_per_weight);
        high = std::max(high, point.bits_per_weight);
    }
    Page page;
    page.name = "behaviours";
    page.title = fmt::format("{}: averages move a little, behaviours break", model.short_name());
    page.lines = {
        fmt::format("Exact answers to {} held-out items of each behaviour; grey: the float model. f32 "
                    "activations; {}.",
                    model.behaviour_items, model.what_is_quantized())};
    if (const auto loss = hidden_loss_of(model)) page.lines.push_back(loss->text());
    page.x_label = "effective bits per weight";
    page.columns = 4;
    page.height = 660;
    std::vector<Series> series;
    page.legend.resize(1);
    for (std::size_t i = 0; i < curves.size(); ++i) {
        page.data += fmt::format("$curve{} << EOD\n{}EOD\n", i, curves[i].rows);
        series.push_back({fmt::format("curve{}", i), style_of(curves[i]).both()});
        page.legend[0].push_back(
            {name_of(curves[i]), style_of(curves[i]).line(), style_of(curves[i]).marker()});
    }
    if (!model.compared.empty()) {
        std::map<double, std::string> rows;
        for (const ComparedModel& each : model.compared) {
            rows[each.bits_per_weight] +=
                behaviour_row(each.bits_per_weight, each.divergence, each.behaviours);
            low = std::min(low, each.bits_per_weight);
            high = std::max(high, each.bits_per_weight);
        }
        page.data += "$compared << EOD\n";
        for (const auto& [bits, row] : rows) page.data += row;
        page.data += "EOD\n";
        series.push_back({"compared", std::string(compared_style)});
        page.legend.push_back(
            {{name_of_compared(model), "lc rgb \"black\" lw 2", "pt 13 ps 1.1 lc rgb \"black\""}});
    }
    const auto add_panel = [&](std::string title, std::string y_label, std::string settings, int column,
                               std::optional<double> float_value) {
        std::vector<std::string> shown = plots_of(series, column);
        if (float_value)
            shown.insert(shown.begin(), fmt::format("{} with lines lc rgb \"#888888\" lw 2 notitle",
                                                    plot_number(*float_value)));
        page.panels.push_back({std::move(title), std::move(y_label), std::move(settings),
                               fmt::format("{}", fmt::join(shown, ", ")), std::floor(low * 2 - 0.2) / 2,
                               std::ceil(high * 2 + 0.2) / 2});
    };
    const double best = model.reference.perplexity;
    add_panel(
        "Perplexity", "perplexity",
        fmt::format("set logscale y; set yrange [{}:{}]; set ytics nomirror ({})", plot_number(0.9 * best),
                    plot_number(10 * best), round_numbers(0.9 * best, 10 * best)),
        2, best);
    add_panel("KL divergence from the float model", "nats per prediction (mean)", "set logscale y", 3, {});
    for (std::size_t b = 0; b < model.reference_behaviours.size(); ++b)
        add_panel(std::string(evaluate::name(model.reference_behaviours[b].behaviour)), "exact answers in %",
                  "set yrange [0:103]; set ytics nomirror 20", static_cast<int>(4 + b),
                  100 * model.reference_behaviours[b].share);
    return page;
}

Page outliers_page(const ModelCurves& model) {
    // Coarse scales are warm, fine ones cold; f32 is grey. Dashed: only the products that the outliers reach.
    constexpr std::array<std::string_view, 5> colours{"#D55E00", "#E69F00", "#009E73", "#0072B2", "#888888"};
    Page page;
    page.name = "outliers";
    page.title = fmt::format("{}: outliers, and what a scale of activations spans", model.short_name());
    const std::string_view notice = pipeline::outlier_notice;
    const std::size_t sentence = notice.find(". ") + 1;
    page.lines = {std::string(notice.substr(0, sentence)), std::string(notice.substr(sentence + 1))};
    page.x_label = "factor of the outlier channels";
    page.columns = 2;
    page.height = 520;
    page.legend.resize(1);
    std::string tics;
    std::vector<Series> series;
    double low = INFINITY, high = 0;
    std::vector<ActivationFormat> kinds;
    for (const OutlierPoint& point : model.outliers) {
        if (!point.remedy.empty()) continue;  // remedies_page
        if (page.legend[0].empty() || page.legend[0].back().text != label_of(point)) {
            if (!series.empty()) page.data += "EOD\n";
            if (kinds.empty() || kinds.back() != point.activations) kinds.push_back(point.activations);
            const Style style{colours[std::min(kinds.size(), colours.size()) - 1],
                              point.scope != OutlierScope::all, 0.8};
            series.push_back({fmt::format("kind{}", series.size()), style.both()});
            page.legend[0].push_back({label_of(point), style.line(), style.marker()});
            page.data += fmt::format("${} << EOD\n", series.back().data);
        }
        page.data +=
            fmt::format("{} {} {}\n", plot_number(point.factor), positive_number(point.divergence.kld.mean),
                        positive_number(point.divergence.model.perplexity));
        if (series.size() == 1)
            tics += fmt::format("{}{}", tics.empty() ? "" : ", ", plot_number(point.factor));
        low = std::min(low, point.factor);
        high = std::max(high, point.factor);
    }
    page.data += "EOD\n";
    page.x_tics = '(' + tics + ')';
    const auto add_panel = [&](std::string title, std::string y_label, int column) {
        page.panels.push_back({std::move(title), std::move(y_label), "set logscale xy",
                               fmt::format("{}", fmt::join(plots_of(series, column), ", ")), low / 1.3,
                               high * 1.3});
    };
    add_panel(fmt::format("KL divergence from the float model, {} weights", name(model.outlier_weights)),
              "nats per prediction (mean)", 2);
    add_panel("Perplexity", "perplexity", 3);
    return page;
}

Page remedies_page(const ModelCurves& model) {
    constexpr std::array<std::string_view, 5> colours{"#D55E00", "#0072B2", "#009E73", "#CC79A7", "#888888"};
    Page page;
    page.name = "remedies";
    page.title = fmt::format("{}: outliers, and what rescues W8A8 from them", model.short_name());
    page.lines = {
        fmt::format(
            "{} weights; the outliers were made in gains of norms, where SmoothQuant can in principle "
            "undo them exactly.",
            name(model.outlier_weights)),
        "SmoothQuant: alpha 0.5. LLM.int8(): channels above 6 stay in f16. Rotated: residual stream, heads, "
        "input of down_proj."};
    page.x_label = "factor of the outlier channels";
    page.columns = 2;
    page.height = 520;
    page.legend.resize(1);
    double low = INFINITY, high = 0;
    std::string tics;
    std::vector<double> factors;
    for (const OutlierPoint& point : model.outliers)
        if (std::ranges::find(factors, point.factor) == factors.end()) {
            factors.push_back(point.factor);
            tics += fmt::format("{}{}", tics.empty() ? "" : ", ", plot_number(point.factor));
            low = std::min(low, point.factor);
            high = std::max(high, point.factor);
        }
    page.x_tics = '(' + tics + ')';
    // Without remedy, each remedy, and weights alone, once for each kind of activations.
    const auto add_panel = [&](const std::string& activations, std::string_view words) {
        std::vector<std::string> names{"none"};
        std::vector<Series> series;
        for (const OutlierPoint& point : model.outliers)
            if (!point.remedy.empty() && std::ranges::find(names, point.remedy) == names.end())
                names.push_back(point.remedy);
        names.emplace_back("weights alone");
        for (std::size_t i = 0; i < names.size(); ++i) {
            const bool alone = i + 1 == names.size();
            std::string rows;
            for (const OutlierPoint& point : model.outliers)
                if (point.scope == OutlierScope::all &&
                    name(point.activations) == (alone ? "f32" : activations) &&
                    (i == 0 || alone ? point.remedy.empty() : point.remedy == names[i]))
                    rows += fmt::format("{} {}\n", plot_number(point.factor),
                                        positive_number(point.divergence.kld.mean));
            const Style style{colours[std::min(i, colours.size() - 1)], alone, 0.8};
            const std::string block = fmt::format("remedy{}{}", page.panels.size(), i);
            page.data += fmt::format("${} << EOD\n{}EOD\n", block, rows);
            series.push_back({block, style.both()});
            if (page.panels.empty())
                page.legend[0].push_back({i == 0 ? "W8A8 as it is" : names[i], style.line(), style.marker()});
        }
        page.panels.push_back({fmt::format("{} activations: {}", activations, words),
                               "nats per prediction (mean KL divergence)", "set logscale xy",
                               fmt::format("{}", fmt::join(plots_of(series, 2), ", ")), low / 1.3,
                               high * 1.3});
    };
    add_panel("int8-tensor", "one scale for all");
    add_panel("int8-row", "a scale for each token");
    return page;
}

Page methods_page(const ModelCurves& model) {
    constexpr std::array<std::string_view, 7> colours{"#888888", "#E69F00", "#56B4E9", "#CC79A7",
                                                      "#0072B2", "#D55E00", "#009E73"};
    Page page;
    page.name = "methods";
    page.title = fmt::format("{}: methods at equal bits", model.short_name());
    page.lines = {
        fmt::format("2 to 6 bits in groups of 64, f32 activations; {}. Calibrated with {}.",
                    model.what_is_quantized(), path_of(model.calibration).filename().string()),
        "Bits per weight count scales, offsets and float columns, here of the matrices that are quantized."};
    page.x_label = "effective bits per weight";
    page.columns = 2;
    page.height = 560;
    page.legend.resize(1);
    std::vector<Series> series;
    double low = 1e9, high = 0;
    for (const MethodPoint& point : model.methods) {
        if (page.legend[0].empty() || page.legend[0].back().text != point.method) {
            if (!series.empty()) page.data += "EOD\n";
            const Style style{colours[series.size() % colours.size()], point.method == "gptq-rotated", 0.8};
            series.push_back({fmt::format("method{}", series.size()), style.both()});
            page.legend[0].push_back({point.method, style.line(), style.marker()});
            page.data += fmt::format("${} << EOD\n", series.back().data);
        }
        page.data += fmt::format("{} {} {}\n", plot_number(point.quantized_bits_per_weight),
                                 positive_number(point.divergence.kld.mean),
                                 positive_number(point.divergence.kld.p99));
        low = std::min(low, point.quantized_bits_per_weight);
        high = std::max(high, point.quantized_bits_per_weight);
    }
    page.data += "EOD\n";
    const auto add_panel = [&](std::string title, std::string y_label, int column) {
        page.panels.push_back({std::move(title), std::move(y_label), "set logscale y",
                               fmt::format("{}", fmt::join(plots_of(series, column), ", ")),
                               std::floor(low * 2 - 0.2) / 2, std::ceil(high * 2 + 0.2) / 2});
    };
    add_panel("KL divergence from the float model", "nats per prediction (mean)", 2);
    add_panel("Its tail: one prediction in a hundred diverges more", "nats (99th percentile)", 3);
    return page;
}

}  // namespace fewbit::cli
