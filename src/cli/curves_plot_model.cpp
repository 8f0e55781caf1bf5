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

/// Plots whose "COLUMN" becomes a number.
std::vector<std::string> of_column(std::vector<std::string> plots, int column) {
    for (std::string& plot : plots) plot.replace(plot.find("COLUMN"), 6, fmt::format("{}", column));
    return plots;
}

struct Curve {
    std::string grouping;
    evaluate::Variant variant;
    std::string rows;
};

std::string style_of(const Curve& curve) {
    const bool symmetric = curve.variant == evaluate::Variant::symmetric;
    return fmt::format("lc rgb \"{}\" dt {} lw {}", curve.grouping == "channel" ? "#E69F00" : "#0072B2",
                       symmetric ? 3 : 1, symmetric ? 1.4 : 2);
}
std::string marker_of(const Curve& curve) {
    return fmt::format("pt {} ps 0.6", curve.variant == evaluate::Variant::symmetric ? 6 : 7);
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
                    model.behaviour_items, model.what_is_quantized()),
        "A share of 50 % of 200 items is 43 to 57 % with 95 % confidence."};
    if (model.behaviour_items != 200) page.lines.pop_back();
    page.x_label = "effective bits per weight";
    page.columns = 4;
    page.height = 660;
    std::vector<std::string> plots;  // of one column each: the panel says of which
    page.legend.resize(1);
    for (std::size_t i = 0; i < curves.size(); ++i) {
        page.data += fmt::format("$curve{} << EOD\n{}EOD\n", i, curves[i].rows);
        plots.push_back(fmt::format("$curve{} using 1:COLUMN with linespoints {} {} notitle", i,
                                    style_of(curves[i]), marker_of(curves[i])));
        page.legend[0].push_back(
            {fmt::format("{}, {}", curves[i].grouping == "channel" ? "per channel" : "per 64 weights",
                         curves[i].variant == evaluate::Variant::symmetric ? "rtn" : "mse"),
             style_of(curves[i]), marker_of(curves[i])});
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
        plots.push_back(fmt::format("$compared using 1:COLUMN with linespoints {} notitle", compared_style));
        page.legend[0].push_back(
            {name_of_compared(model), "lc rgb \"black\" lw 2", "pt 13 ps 1.1 lc rgb \"black\""});
    }
    const auto add_panel = [&](std::string title, std::string y_label, std::string settings, int column,
                               std::optional<double> float_value) {
        std::vector<std::string> shown = of_column(plots, column);
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
    // Coarse scales are warm, fine ones cold; f32 is grey.
    constexpr std::array colours{"#D55E00", "#E69F00", "#009E73", "#0072B2", "#888888"};
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
    std::vector<std::string> plots;
    double low = INFINITY, high = 0;
    std::vector<std::string> kinds;
    for (const OutlierPoint& point : model.outliers) {
        const std::string kind = name(point.activations);
        if (kinds.empty() || kinds.back() != kind) {
            if (!kinds.empty()) page.data += "EOD\n";
            const std::string style =
                fmt::format("lc rgb \"{}\" lw 2", colours[std::min(kinds.size(), colours.size() - 1)]);
            page.data += fmt::format("$kind{} << EOD\n", kinds.size());
            plots.push_back(fmt::format("$kind{} using 1:COLUMN with linespoints {} pt 7 ps 0.8 notitle",
                                        kinds.size(), style));
            page.legend[0].push_back({kind, style, "pt 7 ps 0.8"});
            kinds.push_back(kind);
        }
        page.data +=
            fmt::format("{} {} {}\n", plot_number(point.factor), positive_number(point.divergence.kld.mean),
                        positive_number(point.divergence.model.perplexity));
        if (kinds.size() == 1)
            tics += fmt::format("{}{}", tics.empty() ? "" : ", ", plot_number(point.factor));
        low = std::min(low, point.factor);
        high = std::max(high, point.factor);
    }
    page.data += "EOD\n";
    page.x_tics = '(' + tics + ')';
    const auto add_panel = [&](std::string title, std::string y_label, int column) {
        page.panels.push_back({std::move(title), std::move(y_label), "set logscale xy",
                               fmt::format("{}", fmt::join(of_column(plots, column), ", ")), low / 1.3,
                               high * 1.3});
    };
    add_panel(fmt::format("KL divergence from the float model, {} weights", name(model.outlier_weights)),
              "nats per prediction (mean)", 2);
    add_panel("Perplexity", "perplexity", 3);
    return page;
}

}  // namespace fewbit::cli
