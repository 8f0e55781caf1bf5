// Output: stdout and stderr, tables, progress.
#include "src/cli/print.hpp"

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstring>

#include "src/cli/command.hpp"

#if defined(__unix__) || defined(__APPLE__)
#include <sys/ioctl.h>
#include <unistd.h>
#endif

namespace fewbit::cli {
namespace {

[[noreturn]] void write_failed(int error) {
    if (error == EPIPE) throw BrokenPipe{};
    throw Failure(fmt::format("cannot write to standard output: {}", std::strerror(error)));
}

bool stderr_is_terminal() {
#if defined(__unix__) || defined(__APPLE__)
    return isatty(STDERR_FILENO) == 1;
#else
    return false;
#endif
}

std::size_t terminal_columns() {
#if defined(__unix__) || defined(__APPLE__)
    winsize size{};
    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col >= 20) return size.ws_col;
#endif
    return 80;
}

std::string padded(const std::string& text, std::size_t width, Table::Align align) {
    const std::size_t columns = columns_of(text);
    const std::string blanks(width > columns ? width - columns : 0, ' ');
    return align == Table::Align::left ? text + blanks : blanks + text;
}

}  // namespace

void write_out(std::string_view text) {
    if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size()) write_failed(errno);
}

void flush_out() {
    if (std::fflush(stdout) != 0) write_failed(errno);
}

void write_err(std::string_view text) noexcept {
    std::fwrite(text.data(), 1, text.size(), stderr);
    std::fflush(stderr);
}

std::size_t columns_of(std::string_view utf8) {
    return static_cast<std::size_t>(std::count_if(
        utf8.begin(), utf8.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
}

std::string wrapped(std::string_view text, std::size_t width, std::size_t indent) {
    std::string out;
    std::size_t column = indent;
    bool fresh = true;  // nothing on this line yet
    const auto new_line = [&] {
        out += '\n' + std::string(indent, ' ');
        column = indent;
        fresh = true;
    };
    while (!text.empty()) {
        const std::size_t end = std::min(text.find_first_of(" \n"), text.size());
        const std::string_view word = text.substr(0, end);
        const std::size_t columns = columns_of(word);
        if (!fresh && column + 1 + columns > width) new_line();
        if (!fresh) {
            out += ' ';
            ++column;
        }
        out += word;
        column += columns;
        fresh = false;
        if (end < text.size() && text[end] == '\n') new_line();
        text.remove_prefix(std::min(end + 1, text.size()));
    }
    return out;
}

std::string shortened(std::string_view text, std::size_t width) {
    if (columns_of(text) <= width) return std::string(text);
    std::string out;
    std::size_t columns = 0;
    for (const char c : text) {
        if ((static_cast<unsigned char>(c) & 0xC0) != 0x80 && ++columns >= width) break;
        out += c;
    }
    return out + "…";
}

std::string grouped(std::size_t value) {
    std::string digits = std::to_string(value);
    for (std::size_t at = digits.size(); at > 3;) digits.insert(at -= 3, ",");
    return digits;
}

std::string bytes_text(double bytes) {
    if (bytes < 1e3) return fmt::format("{:.0f} B", bytes);
    if (bytes < 1e6) return fmt::format("{:.1f} kB", bytes / 1e3);
    if (bytes < 1e9) return fmt::format("{:.1f} MB", bytes / 1e6);
    return fmt::format("{:.2f} GB", bytes / 1e9);
}

std::string seconds_text(double seconds) {
    if (seconds < 1e-3) return fmt::format("{:.3g} us", seconds * 1e6);
    if (seconds < 1.0) return fmt::format("{:.3g} ms", seconds * 1e3);
    if (seconds < 100.0) return fmt::format("{:.1f} s", seconds);
    const auto whole = static_cast<long long>(std::lround(seconds));
    return whole < 3600 ? fmt::format("{} min {:02} s", whole / 60, whole % 60)
                        : fmt::format("{} h {:02} min", whole / 3600, whole / 60 % 60);
}

std::string Table::text() const {
    std::vector<std::size_t> widths;
    for (const Column& column : columns_) widths.push_back(columns_of(column.title));
    for (const auto& row : rows_)
        for (std::size_t c = 0; c < row.size(); ++c) widths[c] = std::max(widths[c], columns_of(row[c]));
    const auto line = [&](auto cell) {
        std::string out;
        for (std::size_t c = 0; c < columns_.size(); ++c)
            out += (c == 0 ? "" : "  ") + padded(cell(c), widths[c], columns_[c].align);
        return out.erase(out.find_last_not_of(' ') + 1) + '\n';
    };
    std::size_t whole = 2 * (columns_.size() - 1);
    for (const std::size_t width : widths) whole += width;
    std::string rule;
    for (std::size_t i = 0; i < whole; ++i) rule += "─";
    std::string out = line([&](std::size_t c) { return columns_[c].title; }) + rule + '\n';
    for (const auto& row : rows_)
        out += row.empty() ? rule + '\n'
                           : line([&](std::size_t c) { return c < row.size() ? row[c] : std::string(); });
    return out;
}

std::string Table::markdown() const {
    std::string out = "|", rule = "|";
    for (const Column& column : columns_) {
        out += ' ' + column.title + " |";
        rule += column.align == Align::left ? "---|" : "--:|";
    }
    out += '\n' + rule + '\n';
    for (const auto& row : rows_) {
        if (row.empty()) continue;
        out += '|';
        for (const std::string& cell : row) out += ' ' + cell + " |";
        out += '\n';
    }
    return out;
}

Progress::Progress(std::string label) : label_(std::move(label)), on_terminal_(stderr_is_terminal()) {}

void Progress::update(std::size_t done, std::size_t total, std::string_view detail) {
    if (!on_terminal_ || total == 0) return;
    const auto now = Clock::now();
    const double elapsed = std::chrono::duration<double>(now - start_).count();
    if (elapsed < 0.5 || now - drawn_at_ < std::chrono::milliseconds(100)) return;
    drawn_at_ = now;
    drawn_ = true;
    done = std::min(done, total);
    const double share = static_cast<double>(done) / static_cast<double>(total);
    std::string tail = fmt::format(" {:3.0f} %", 100.0 * share);
    if (done > skipped_ && done < total)
        tail += fmt::format("  {} left", seconds_text(std::ceil(elapsed * static_cast<double>(total - done) /
                                                                static_cast<double>(done - skipped_))));
    if (!detail.empty()) tail += fmt::format("  {}", detail);
    const std::size_t columns = terminal_columns() - 1;
    const std::size_t used = columns_of(label_) + 1 + columns_of(tail);
    const std::size_t width = std::clamp<std::size_t>(columns > used ? columns - used : 0, 0, 30);
    std::string bar;
    const double filled = share * static_cast<double>(width);
    for (std::size_t i = 0; i < width; ++i) bar += static_cast<double>(i) + 0.5 < filled ? "█" : "░";
    write_err("\r\x1b[K" + shortened(label_ + ' ' + bar + tail, columns));
}

void Progress::skip(std::size_t done) {
    skipped_ = done;
    start_ = Clock::now();
}

void Progress::clear() {
    if (drawn_) write_err("\r\x1b[K");
    drawn_ = false;
}

}  // namespace fewbit::cli
