// Definitions of plot.hpp.
#include "src/cli/plot.hpp"

#include <array>
#include <cerrno>
#include <cstdlib>
#include <system_error>

#include "src/cli/command.hpp"

#if defined(__unix__) || defined(__APPLE__)
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>
extern char** environ;
#endif

namespace fewbit::cli {
namespace {

/// Rows, centred, in a strip of which gnuplot's screen coordinates 0..1 are the width.
std::string legend_of(const std::vector<std::vector<LegendItem>>& rows) {
    constexpr double sample = 44, gap = 8, between = 26, character = 6.8, whole = 1200;  // pixels
    std::string out;
    for (std::size_t r = 0; r < rows.size(); ++r) {
        const auto width_of = [&](const LegendItem& item) {
            return (item.line.empty() ? sample / 2 : sample) + gap + between +
                   character * static_cast<double>(item.text.size());
        };
        double x = whole + between;
        for (const LegendItem& item : rows[r]) x -= width_of(item);
        x /= 2;
        const double y = rows.size() == 1
                             ? 0.5
                             : 0.70 - 0.38 * static_cast<double>(r) / static_cast<double>(rows.size() - 1);
        for (const LegendItem& item : rows[r]) {
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

}  // namespace

std::string in_quotes(std::string_view text) {
    std::string out = "\"";
    for (const char c : text) {
        if (c == '"' || c == '\\') out += '\\';
        out += c == '\n' ? ' ' : c;
    }
    return out + '"';
}

std::string plot_number(double value) { return std::isfinite(value) ? fmt::format("{}", value) : "?"; }

std::string positive_number(double value) { return value > 0 ? plot_number(value) : "?"; }

std::string round_numbers(double low, double high) {
    std::string out;
    for (double decade = std::pow(10, std::floor(std::log10(low))); decade <= high; decade *= 10)
        for (const double mantissa : {1.0, 2.0, 5.0})
            if (const double value = mantissa * decade; value >= low && value <= high)
                out += fmt::format("{}{:g}", out.empty() ? "" : ", ", value);
    return out;
}

std::string gnuplot_script(const Page& page, std::string_view drawn_by) {
    const auto& [name, title, lines, data, x_label, x_tics, panels, columns, height, legend] = page;
    const std::size_t rows = (panels.size() + columns - 1) / columns;
    const double top = 26.0 + 19.0 * static_cast<double>(lines.size()) + 12;      // pixels
    const double bottom = 18.0 + 22.0 * static_cast<double>(page.legend.size());  // pixels
    const double panel_height = (height - top - bottom) / static_cast<double>(rows) / height;
    std::string out = fmt::format(
        "# Written by `{1}`, data included; `gnuplot {0}.gp` (5.4 or later) draws {0}.svg and {0}.png.\n"
        "if (!exists(\"svg_file\")) svg_file = \"{0}.svg\"\n"
        "if (!exists(\"png_file\")) png_file = \"{0}.png\"\n\n"
        "set encoding utf8\nset datafile missing \"?\"\n",
        name, drawn_by);
    out += data;
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
            "set title {} offset 0,-0.4; set xlabel {} offset 0,0.4; set ylabel {} offset 0.6,0\n",
            in_quotes(panel.title), in_quotes(x_label), in_quotes(panel.y_label));
        out += fmt::format(
            "set xrange [{:.2f}:{:.2f}]; set xtics nomirror {}; unset logscale y; set format y \"%g\"; set "
            "yrange [*:*]; set ytics nomirror autofreq\n{}\n",
            panel.x_low, panel.x_high, x_tics, panel.settings);
        out += "plot " + panel.plot + '\n';
        if (i == 0)
            for (std::size_t label = 1; label <= lines.size() + 1; ++label)
                out += fmt::format("unset label {}\n", label);
    }
    out += fmt::format(
        "\nunset title; unset xlabel; unset ylabel; unset border; unset tics; unset grid; unset logscale\n"
        "set xrange [0:1]; set yrange [0:1]; set lmargin 0; set rmargin 0; set tmargin 0; set bmargin 0\n"
        "set origin 0,0; set size 1,{:.5f}\n",
        bottom / height);
    out += legend_of(legend);
    out += "plot NaN notitle\nunset label\nunset arrow\n";
    return out +
           "unset multiplot\nset output\n"
           "unset lmargin; unset rmargin; unset tmargin; unset bmargin\n}\n";
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

void draw(const std::filesystem::path& folder, const std::string& name) {
    // gnuplot writes beside the targets, which change only when everything was drawn.
    const std::array<std::filesystem::path, 2> targets{folder / (name + ".svg"), folder / (name + ".png")};
    std::array<std::filesystem::path, 2> drafts;
    std::string names;
    for (std::size_t i = 0; i < targets.size(); ++i) {
        drafts[i] = folder / fmt::format(".{}-{}.{}", name, getpid(), i == 0 ? "svg" : "png");
        std::string path;
        const std::string plain = drafts[i].string();
        for (const char c : plain) path += c == '\'' ? "''" : std::string(1, c);
        names += fmt::format("{}_file = '{}'; ", i == 0 ? "svg" : "png", path);
    }
    const auto discard = [&] {
        std::error_code ignored;
        for (const auto& draft : drafts) std::filesystem::remove(draft, ignored);
    };
    std::string script = (folder / (name + ".gp")).string();
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
void draw(const std::filesystem::path&, const std::string&) {}

#endif

}  // namespace fewbit::cli
