// Output of the program. Results go to stdout through say(), which notices a full disk and a closed pipe;
// what is only for eyes (progress, notes, speed) goes to stderr through note().
#pragma once

#include <fmt/format.h>

#include <chrono>
#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace fewbit::cli {

/// Nobody reads stdout any more (`fewbit ... | head`): main leaves without a word.
struct BrokenPipe {};

/// Writes to stdout. Throws BrokenPipe, or a Failure when the write fails (a full disk).
void write_out(std::string_view text);
void flush_out();
/// Writes to stderr, come what may.
void write_err(std::string_view text) noexcept;

template <class... Args>
void say(fmt::format_string<Args...> format, Args&&... args) {
    write_out(fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
void note(fmt::format_string<Args...> format, Args&&... args) {
    write_err(fmt::format(format, std::forward<Args>(args)...));
}

/// Columns of a terminal that a text takes (code points; no wide characters are used here).
[[nodiscard]] std::size_t columns_of(std::string_view utf8);
/// Breaks at blanks so that no line is longer than `width`; lines after the first start with `indent` blanks,
/// and the first one is taken to stand as far in.
[[nodiscard]] std::string wrapped(std::string_view text, std::size_t width, std::size_t indent = 0);
/// Cut to `width` columns, with a mark where something is missing.
[[nodiscard]] std::string shortened(std::string_view text, std::size_t width);

/// 1234567 -> "1,234,567".
[[nodiscard]] std::string grouped(std::size_t value);
/// 12345678 -> "12.3 MB".
[[nodiscard]] std::string bytes_text(double bytes);
/// 0.00123 -> "1.23 ms".
[[nodiscard]] std::string seconds_text(double seconds);

/// A table of text: widths fit the content, numbers stand right. Print it with text().
class Table {
public:
    enum class Align { left, right };
    struct Column {
        std::string title;
        Align align = Align::left;
    };
    explicit Table(std::vector<Column> columns) : columns_(std::move(columns)) {}

    void add(std::vector<std::string> cells) { rows_.push_back(std::move(cells)); }
    /// A thin line between the rows before and after.
    void add_rule() { rows_.emplace_back(); }
    [[nodiscard]] std::string text() const;
    [[nodiscard]] std::string markdown() const;

private:
    std::vector<Column> columns_;
    std::vector<std::vector<std::string>> rows_;
};

/// A bar on stderr with the time left; silent where stderr is no terminal or the work is short.
class Progress {
public:
    explicit Progress(std::string label);
    ~Progress() { clear(); }
    Progress(const Progress&) = delete;
    Progress& operator=(const Progress&) = delete;

    /// Cheap; call it as often as you like, from one thread. `detail` stands behind the bar ("layer 3 of 5").
    void update(std::size_t done, std::size_t total, std::string_view detail = {});
    /// So much was done before, and says nothing about how long the rest takes, which begins now.
    void skip(std::size_t done);
    /// Takes the bar off the screen.
    void clear();

private:
    using Clock = std::chrono::steady_clock;
    std::string label_;
    Clock::time_point start_ = Clock::now();
    Clock::time_point drawn_at_{};
    std::size_t skipped_ = 0;
    bool on_terminal_ = false;
    bool drawn_ = false;
};

}  // namespace fewbit::cli
