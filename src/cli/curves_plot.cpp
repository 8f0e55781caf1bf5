// The first picture of `fewbit curves`: error against bits per weight.
//
// Colour tells the grouping (Okabe and Ito's palette, safe for colour-blind eyes), line and marker tell the
// variant; theory is black and grey.
#include <algorithm>
#include <cmath>

#include "src/cli/curves.hpp"

namespace fewbit::cli {
namespace {

constexpr double matrix_x_low = 1.5, matrix_x_high = 9;  // 2 to 8 bits and their scales

constexpr const char* curve_styles = R"(
array colour[5] = ["#D55E00", "#E69F00", "#009E73", "#56B4E9", "#0072B2"]
array dashes[3] = [3, 2, 1]
array marker[3] = [6, 8, 7]
array size[3] = [0.5, 0.6, 0.5]
array width[3] = [1.2, 1.2, 1.9]
)";

/// One datablock: per curve (15: grouping by grouping, variant by variant) an indexed block of rows. Narrow
/// grids are left out: at most bits they lie on the symmetric ones.
template <class Points, class Row>
std::string datablock(std::string_view block, const Points& points, Row row) {
    std::string out = fmt::format("${} << EOD\n", block);
    for (const auto& point : points) {
        if (point.setting.variant == evaluate::Variant::narrow) continue;
        out += row(point);
        if (point.setting.format.bits == max_bits) out += "\n\n";
    }
    return out + "EOD\n";
}

std::string curves_of(std::string_view block, int x, int y) {
    return fmt::format(
        "for [i=0:14] ${} index i using {}:{} with linespoints lc rgb colour[i/3+1] dt dashes[i%3+1] "
        "pt marker[i%3+1] ps size[i%3+1] lw width[i%3+1] notitle",
        block, x, y);
}

/// No quantizer's SQNR lies above.
std::string limit(double shift) {
    return fmt::format("20*log10(2)*x + {} with lines lc rgb \"black\" lw 1.5 notitle, ", shift);
}

/// Groupings, then variants and theory.
std::vector<std::vector<LegendItem>> legend() {
    return {
        {{"one scale per tensor", "lc rgb colour[1] lw 5", ""},
         {"per channel", "lc rgb colour[2] lw 5", ""},
         {"per 128 weights", "lc rgb colour[3] lw 5", ""},
         {"per 64 weights", "lc rgb colour[4] lw 5", ""},
         {"per 32 weights", "lc rgb colour[5] lw 5", ""}},
        {{"symmetric", "dt dashes[1] lw width[1]", "pt marker[1] ps size[1]*1.6"},
         {"asymmetric", "dt dashes[2] lw width[2]", "pt marker[2] ps size[2]*1.6"},
         {"asymmetric, clipped for least squared error (mse)", "lw width[3]", "pt marker[3] ps size[3]*1.6"},
         {"limit: 6.02 dB per bit", "lc rgb \"black\" lw 1.5", ""},
         {"Lloyd-Max", "", "pt 5 ps 1.1"}},
    };
}

void add_model(const ModelCurves& model, Page& page) {
    double low = 1e9, high = 0;
    std::vector<ModelPoint> exact, rounded;
    for (const ModelPoint& point : model.points) {
        (point.activations == exact_activations() ? exact : rounded).push_back(point);
        low = std::min(low, point.bits_per_weight);
        high = std::max(high, point.bits_per_weight);
    }
    const auto row = [](const ModelPoint& point) {
        const evaluate::Divergence& d = point.divergence;
        return fmt::format("{} {} {} {} {}\n", plot_number(point.bits_per_weight),
                           positive_number(d.kld.mean), positive_number(d.model.perplexity),
                           plot_number(point.sqnr_db), plot_number(point.quantized_bits_per_weight));
    };
    page.data += datablock("exact", exact, row) + datablock("rounded", rounded, row);
    page.title = fmt::format("{}: error against bits per weight", model.short_name());
    page.lines.push_back(
        fmt::format("text: {}, {} predictions per point. f32 model: perplexity {:.3f}. {} parameters: {}.",
                    path_of(model.text).filename().string(), grouped(model.reference.tokens),
                    model.reference.perplexity, grouped(model.parameters), model.what_is_quantized()));
    page.lines.push_back(
        "Bits per weight count scales and zero points and, in the upper row, the whole model with "
        "embedding, head and norms.");
    const std::string log_axis = "set logscale y";
    page.panels.push_back({"KL divergence from the f32 model, f32 activations", "nats per prediction (mean)",
                           log_axis, curves_of("exact", 1, 2)});
    const std::string kind = rounded.empty() ? "" : name(rounded.front().activations);
    page.panels.push_back({fmt::format("The same, with {} activations", kind), "nats per prediction (mean)",
                           log_axis, curves_of("rounded", 1, 2)});
    // Beyond 30 times the f32 model's a model babbles, and how much tells nothing.
    const double best = model.reference.perplexity, worst = 30 * best;
    page.panels.push_back(
        {"Perplexity, f32 activations (grey: f32 model)", "perplexity",
         fmt::format("set logscale y; set yrange [{}:{}]; set ytics nomirror ({})", plot_number(0.85 * best),
                     plot_number(worst), round_numbers(0.85 * best, worst)),
         fmt::format("{} with lines lc rgb \"#888888\" lw 2 notitle, ", plot_number(best)) +
             curves_of("exact", 1, 3)});
    for (Panel& panel : page.panels) {
        panel.x_low = std::floor(low * 2 - 0.4) / 2;
        panel.x_high = std::ceil(high * 2 + 0.2) / 2;
    }
    page.panels.push_back({"Weights of the model: signal to quantization noise", "SQNR in dB", "",
                           limit(0) + curves_of("exact", 5, 4), matrix_x_low, matrix_x_high});
}

void add_matrix(const MatrixCurves& matrix, Page& page) {
    const bool gaussian = matrix.data == "gaussian";
    const std::string block = gaussian ? "gaussian" : "student";
    page.data += datablock(block, matrix.points, [](const MatrixPoint& point) {
        return fmt::format("{} {}\n", plot_number(point.bits_per_weight), plot_number(point.sqnr_db));
    });
    std::string plot = limit(matrix.bound_db);
    if (gaussian) {
        page.data += "$lloyd << EOD\n";
        for (const auto& [bits, db] : lloyd_max_points())
            page.data += fmt::format("{} {}\n", bits, plot_number(db));
        page.data += "EOD\n";
        plot += "$lloyd using 1:2 with points pt 5 ps 1.1 lc rgb \"black\" notitle, ";
    }
    page.panels.push_back({fmt::format("{}, {} x {}", matrix.title, matrix.rows, matrix.cols), "SQNR in dB",
                           "", plot + curves_of(block, 1, 2), matrix_x_low, matrix_x_high});
}

}  // namespace

std::vector<Page> pages_of(const Curves& curves) {
    Page page;
    page.name = "curves";
    page.title = "Error against bits per weight";
    page.data = curve_styles;
    page.x_label = "effective bits per weight";
    page.columns = curves.model ? 3 : 2;
    page.height = curves.model ? 900 : 640;
    page.legend = legend();
    if (curves.model)
        add_model(*curves.model, page);
    else
        page.lines.push_back("Bits per weight count scales and zero points. Synthetic matrices, no model.");
    for (const MatrixCurves& matrix : curves.matrices) add_matrix(matrix, page);
    std::vector<Page> pages{std::move(page)};
    if (curves.model && curves.model->behaviour_items > 0) pages.push_back(behaviours_page(*curves.model));
    if (curves.model && !curves.model->methods.empty()) pages.push_back(methods_page(*curves.model));
    if (curves.model && !curves.model->outliers.empty()) {
        pages.push_back(outliers_page(*curves.model));
        pages.push_back(remedies_page(*curves.model));
    }
    return pages;
}

}  // namespace fewbit::cli
