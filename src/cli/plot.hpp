// Pictures: gnuplot scripts with their data inside, and running them. A page is a grid of panels under a title
// and a few lines, with one legend for all panels below them, where it covers nothing.
#pragma once

#include <cmath>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace fewbit::cli {

/// Text in a double-quoted gnuplot string; the terminals run without markup.
[[nodiscard]] std::string in_quotes(std::string_view text);
/// "?", which datablocks use for what is missing, when not finite.
[[nodiscard]] std::string plot_number(double value);
/// The same for logarithmic axes, which have no place for 0.
[[nodiscard]] std::string positive_number(double value);
/// 1, 2, 5, 10, 20, ... from low to high, for tics.
[[nodiscard]] std::string round_numbers(double low, double high);

struct Panel {
    std::string title, y_label;
    std::string settings;  ///< gnuplot commands before `plot`, on top of the page's defaults
    std::string plot;      ///< what follows `plot`
    double x_low = 0, x_high = 1;
};

struct LegendItem {
    std::string text;
    std::string line, marker;  ///< as gnuplot writes them; empty: none
};

struct Page {
    std::string name;  ///< files are NAME.gp, NAME.svg, NAME.png
    std::string title;
    std::vector<std::string> lines;  ///< below the title
    std::string data;                ///< datablocks and arrays
    std::string x_label;
    std::string x_tics = "1";  ///< a step, or a list in parentheses
    std::vector<Panel> panels;
    std::size_t columns = 3;
    int height = 900;                             ///< pixels, of 1200 wide
    std::vector<std::vector<LegendItem>> legend;  ///< rows, each centred
};

/// A script that draws the page as SVG and PNG; `drawn_by` names the command for its head.
[[nodiscard]] std::string gnuplot_script(const Page& page, std::string_view drawn_by);

[[nodiscard]] bool has_gnuplot();
/// Draws FOLDER/NAME.svg and .png from FOLDER/NAME.gp, both or neither. Throws Failure.
void draw(const std::filesystem::path& folder, const std::string& name);

}  // namespace fewbit::cli
