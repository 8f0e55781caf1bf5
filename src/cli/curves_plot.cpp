// The picture of `fewbit curves`: a gnuplot script with its data inside, and running it.
//
// Colour tells the grouping (Okabe and Ito's palette, safe for colour-blind eyes), line and marker tell the
// variant; theory is black and grey. One legend for all panels stands below them, where it covers nothing.
#include <algorithm>
#include <array>
#include <cerrno>
#include <cmath>
#include <cstdlib>
#include <system_error>

#include "src/cli/curves.hpp"

#if defined(__unix__) || defined(__APPLE__)
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>
extern char** environ;
#endif

namespace fewbit::cli {
namespace {

constexpr const char* panel_style = R"(
set encoding utf8
set datafile missing "?"
array colour[5] = ["#D55E00", "#E69F00", "#009E73", "#56B4E9", "#0072B2"]
array dashes[3] = [3, 2, 1]
array marker[3] = [6, 8, 7]
array size[3] = [0.5, 0.6, 0.5]
array width[3] = [1.2, 1.2, 1.9]
)";

/// Text in a double-quoted gnuplot string; the terminals run without markup.
std::string in_quotes(std::string_view text) {
    std::string out = "\"";
    for (const char c : text) {
        if (c == '"' || c == '\\') out += '\\';
        out += c == '\n' ? ' ' : c;
    }
    return out + '"';
}

std::string file_name(const std::string& path) { return path_of(path).filename().string(); }

std::string number(double value) { return std::isfinite(value) ? fmt::format("{}", value) : "?"; }
/// For logarithmic axes, which have no place for 0.
std::string positive(double value) { return value > 0 ? number(value) : "?"; }

/// One datablock: per curve (15: grouping by grouping, variant by variant) an indexed block of rows.
template <class Points, class Row>
std::string datablock(std::string_view block, const Points& points, Row row) {
    std::string out = fmt::format("${} << EOD\n", block);
    for (const auto& point : points) {
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

/// 1, 2, 5, 10, 20, ... from low to high, for gnuplot's tics.
std::string round_numbers(double low, double high) {
    std::string out;
    for (double decade = std::pow(10, std::floor(std::log10(low))); decade <= high; decade *= 10)
        for (const double mantissa : {1.0, 2.0, 5.0})
            if (const double value = mantissa * decade; value >= low && value <= high)
                out += fmt::format("{}{:g}", out.empty() ? "" : ", ", value);
    return out;
}

struct Panel {
    std::string title, y_label, y_settings, plot;
    double x_low = 1.5, x_high = 9;  ///< matrices: 2 to 8 bits and their scales
};

/// Two rows, centred, in a strip of which gnuplot's screen coordinates 0..1 are the width: groupings, then
/// variants and theory.
std::string legend() {
    struct Item {
        std::string text, line, marker;  // how gnuplot writes them; empty: none
    };
    const std::array<std::vector<Item>, 2> rows{{
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
    }};
    constexpr double sample = 44, gap = 8, between = 26, character = 6.8, whole = 1200;  // pixels
    std::string out;
    for (std::size_t r = 0; r < rows.size(); ++r) {
        const auto width_of = [&](const Item& item) {
            return (item.line.empty() ? sample / 2 : sample) + gap + between +
                   character * static_cast<double>(item.text.size());
        };
        double x = whole + between;
        for (const Item& item : rows[r]) x -= width_of(item);
        x /= 2;
        const double y = r == 0 ? 0.70 : 0.32;
        for (const Item& item : rows[r]) {
            const double length = item.line.empty() ? sample / 2 : sample;
            const auto at = [&](double px) {
                return fmt::format("graph {:.5f}, graph {:.2f}", px / whole, y);
            };
            if (!item.line.empty())
                out += fmt::format("set arrow from {} to {} nohead {}\n", at(x), at(x + length), item.line);
            if (!item.marker.empty())
                out += fmt::format("set label \"\" at {} point {}\n", at(x + length / 2), item.marker);
            out += fmt::format("set label {} at {} left\n", in_quotes(item.text), at(x + length + gap));
            x += width_of(item);
        }
    }
    return out;
}

std::string script_of(const std::string& data, const std::string& title,
                      const std::vector<std::string>& lines, const std::vector<Panel>& panels, int height) {
    const std::size_t columns = panels.size() > 2 ? 3 : 2, rows = (panels.size() + columns - 1) / columns;
    const double top = 26.0 + 19.0 * static_cast<double>(lines.size()) + 12,
                 bottom = 62;  // pixels for title and legend
    const double panel_height = (height - top - bottom) / static_cast<double>(rows) / height;
    std::string out =
        "# Error against bits per weight, drawn by `gnuplot curves.gp` (5.4 or later): curves.svg and "
        "curves.png.\n"
        "# Written by `fewbit curves`; the data stand below.\n";
    out +=
        "if (!exists(\"svg_file\")) svg_file = \"curves.svg\"\nif (!exists(\"png_file\")) png_file = "
        "\"curves.png\"\n\n";
    out += data + panel_style;
    out += fmt::format(
        "\ndo for [kind in \"svg png\"] {{\n"
        "if (kind eq \"svg\") {{ set terminal svg noenhanced size 1200,{0} dynamic background rgb \"white\" "
        "font \"DejaVu Sans,Helvetica,Arial,sans-serif,12\"; set output svg_file }}\n"
        "if (kind eq \"png\") {{ set terminal pngcairo noenhanced size 1200,{0} background rgb \"white\" "
        "font \"DejaVu Sans,9.5\"; set output png_file }}\n"
        "set multiplot\n"
        "unset key; set border 3 lw 1 lc rgb \"#444444\"; set grid lw 1 lc rgb \"#dddddd\" lt 1\n"
        "set tics nomirror out scale 0.6 textcolor rgb \"#222222\"\n",
        height);
    out += fmt::format("set label 1 {} at screen 0.5, screen {:.5f} center font \",{}\"\n", in_quotes(title),
                       1 - 20.0 / height, 14);
    for (std::size_t i = 0; i < lines.size(); ++i)
        out += fmt::format("set label {} {} at screen 0.5, screen {:.5f} center textcolor rgb \"#444444\"\n",
                           i + 2, in_quotes(lines[i]), 1 - (42.0 + 18.0 * static_cast<double>(i)) / height);
    for (std::size_t i = 0; i < panels.size(); ++i) {
        const Panel& panel = panels[i];
        const auto column = static_cast<double>(i % columns), row = static_cast<double>(i / columns);
        out += fmt::format("\nset origin {:.5f},{:.5f}; set size {:.5f},{:.5f}\n",
                           column / static_cast<double>(columns), 1 - top / height - (row + 1) * panel_height,
                           1.0 / static_cast<double>(columns), panel_height);
        out += fmt::format(
            "set title {} offset 0,-0.4; set xlabel \"effective bits per weight\" offset 0,0.4; set ylabel "
            "{} offset 0.6,0\n",
            in_quotes(panel.title), in_quotes(panel.y_label));
        out += fmt::format(
            "set xrange [{:.1f}:{:.1f}]; set xtics nomirror 1; unset logscale y; set format y \"%g\"; set "
            "yrange [*:*]; set ytics nomirror autofreq\n{}\n",
            panel.x_low, panel.x_high, panel.y_settings);
        out += "plot " + panel.plot + '\n';
        if (i == 0)
            for (std::size_t label = 1; label <= lines.size() + 1; ++label)
                out += fmt::format("unset label {}\n", label);
    }
    out += fmt::format(
        "\nunset title; unset xlabel; unset ylabel; unset border; unset tics; unset grid; unset logscale y\n"
        "set xrange [0:1]; set yrange [0:1]; set lmargin 0; set rmargin 0; set tmargin 0; set bmargin 0\n"
        "set origin 0,0; set size 1,{:.5f}\n",
        bottom / height);
    out += legend();
    out += "plot NaN notitle\nunset label\nunset arrow\n";
    return out +
           "unset multiplot\nset output\n"
           "unset lmargin; unset rmargin; unset tmargin; unset bmargin\n}\n";
}

}  // namespace

std::string gnuplot_script(const Curves& curves) {
    std::string data;
    std::vector<Panel> panels;
    std::vector<std::string> lines;
    std::string title = "Error against bits per weight";
    const auto limit = [](double shift) {
        return fmt::format("20*log10(2)*x + {} with lines lc rgb \"black\" lw 1.5 notitle, ", shift);
    };
    if (curves.model) {
        const ModelCurves& model = *curves.model;
        double low = 1e9, high = 0;
        std::vector<ModelPoint> exact, rounded;
        for (const ModelPoint& point : model.points) {
            (point.activations == exact_activations() ? exact : rounded).push_back(point);
            low = std::min(low, point.bits_per_weight);
            high = std::max(high, point.bits_per_weight);
        }
        const auto row = [](const ModelPoint& point) {
            const evaluate::Divergence& d = point.divergence;
            return fmt::format("{} {} {} {} {}\n", number(point.bits_per_weight), positive(d.kld.mean),
                               positive(d.model.perplexity), number(point.sqnr_db),
                               number(point.quantized_bits_per_weight));
        };
        data += datablock("exact", exact, row) + datablock("rounded", rounded, row);
        title = fmt::format("{}: error against bits per weight", file_name(model.model));
        lines.push_back(fmt::format(
            "text: {}, {} predictions per point. f32 model: perplexity {:.3f}. {} parameters: {}.",
            file_name(model.text), grouped(model.reference.tokens), model.reference.perplexity,
            grouped(model.parameters), model.what_is_quantized()));
        lines.push_back(
            "Bits per weight count scales and zero points and, in the upper row, the whole model with "
            "embedding, head and norms.");
        const std::string log_axis = "set logscale y";
        panels.push_back({"KL divergence from the f32 model, f32 activations", "nats per prediction (mean)",
                          log_axis, curves_of("exact", 1, 2)});
        const std::string kind = rounded.empty() ? "" : name(rounded.front().activations);
        panels.push_back({fmt::format("The same, with {} activations", kind), "nats per prediction (mean)",
                          log_axis, curves_of("rounded", 1, 2)});
        const double worst =
            30 * model.reference.perplexity;  // beyond it a model babbles, and how much tells nothing
        panels.push_back({"Perplexity, f32 activations (grey: f32 model)", "perplexity",
                          fmt::format("set logscale y; set yrange [{}:{}]; set ytics nomirror ({})",
                                      number(0.85 * model.reference.perplexity), number(worst),
                                      round_numbers(0.85 * model.reference.perplexity, worst)),
                          fmt::format("{} with lines lc rgb \"#888888\" lw 2 notitle, ",
                                      number(model.reference.perplexity)) +
                              curves_of("exact", 1, 3)});
        for (Panel& panel : panels) {
            panel.x_low = std::floor(low * 2 - 0.4) / 2;
            panel.x_high = std::ceil(high * 2 + 0.2) / 2;
        }
        panels.push_back({"Weights of the model: signal to quantization noise", "SQNR in dB", "",
                          limit(0) + curves_of("exact", 5, 4)});
    } else {
        lines.push_back(
            "Bits per weight count scales and zero points. No model was given: fewbit curves --model MODEL "
            "--text FILE draws its curves too.");
    }
    for (const MatrixCurves& matrix : curves.matrices) {
        const bool gaussian = matrix.data == "gaussian";
        const std::string block = gaussian ? "gaussian" : "student";
        data += datablock(block, matrix.points, [](const MatrixPoint& point) {
            return fmt::format("{} {}\n", number(point.bits_per_weight), number(point.sqnr_db));
        });
        std::string plot = limit(matrix.bound_db);
        if (gaussian) {
            data += "$lloyd << EOD\n";
            for (const auto& [bits, db] : lloyd_max_points())
                data += fmt::format("{} {}\n", bits, number(db));
            data += "EOD\n";
            plot += "$lloyd using 1:2 with points pt 5 ps 1.1 lc rgb \"black\" notitle, ";
        }
        panels.push_back({fmt::format("{}, {} x {}", matrix.title, matrix.rows, matrix.cols), "SQNR in dB",
                          "", plot + curves_of(block, 1, 2)});
    }
    return script_of(data, title, lines, panels, curves.model ? 900 : 640);
}

#if defined(__unix__) || defined(__APPLE__)

bool has_gnuplot() {
    const char* path = std::getenv("PATH");
    std::string_view rest = path == nullptr ? "" : path;
    while (!rest.empty()) {
        const std::size_t colon = rest.find(':');
        const std::string candidate = fmt::format("{}/gnuplot", rest.substr(0, colon));
        if (access(candidate.c_str(), X_OK) == 0) return true;
        rest = colon == std::string_view::npos ? std::string_view{} : rest.substr(colon + 1);
    }
    return false;
}

void draw(const std::filesystem::path& folder) {
    // gnuplot writes beside the targets, which change only when everything was drawn.
    const std::array<std::filesystem::path, 2> targets{folder / "curves.svg", folder / "curves.png"};
    std::array<std::filesystem::path, 2> drafts;
    std::string names;
    for (std::size_t i = 0; i < targets.size(); ++i) {
        drafts[i] = folder / fmt::format(".curves-{}.{}", getpid(), i == 0 ? "svg" : "png");
        std::string path;
        for (const char c : drafts[i].string()) path += c == '\'' ? "''" : std::string(1, c);
        names += fmt::format("{}_file = '{}'; ", i == 0 ? "svg" : "png", path);
    }
    const auto discard = [&] {
        std::error_code ignored;
        for (const auto& draft : drafts) std::filesystem::remove(draft, ignored);
    };
    std::string script = (folder / "curves.gp").string();
    if (script.starts_with('-')) script = "./" + script;
    std::array<std::string, 4> words{"gnuplot", "-e", names, script};
    std::array<char*, 5> arguments{words[0].data(), words[1].data(), words[2].data(), words[3].data(),
                                   nullptr};
    pid_t child = 0;
    int status = 0;
    const int error = posix_spawnp(&child, "gnuplot", nullptr, nullptr, arguments.data(), environ);
    if (error == 0)
        while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
        }
    std::error_code missing;
    const bool drawn = error == 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0 &&
                       std::all_of(drafts.begin(), drafts.end(), [&](const auto& draft) {
                           return std::filesystem::file_size(draft, missing) > 0 && !missing;
                       });
    if (!drawn) {
        discard();
        throw Failure(fmt::format("gnuplot could not draw '{}'; the numbers are written", script));
    }
    for (std::size_t i = 0; i < targets.size(); ++i) {
        std::error_code failed;
        std::filesystem::rename(drafts[i], targets[i], failed);
        if (failed) {
            discard();
            throw Failure(fmt::format("cannot write '{}': {}", targets[i].string(), failed.message()));
        }
    }
}

#else

bool has_gnuplot() { return false; }
void draw(const std::filesystem::path&) {}

#endif

}  // namespace fewbit::cli
