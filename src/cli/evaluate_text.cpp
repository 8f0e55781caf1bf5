// Pieces of a text, made harmless.
#include "src/cli/evaluate_text.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

namespace fewbit::cli {
namespace {

struct Character {
    std::size_t bytes = 1;
    std::string shown;
    std::size_t columns = 0;
};

/// Code point and length of the character at the beginning; length 0: that byte is no UTF-8.
std::pair<char32_t, std::size_t> decoded(std::string_view text) {
    const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
    if (byte(0) < 0x80) return {byte(0), 1};
    const std::size_t length = byte(0) >= 0xF0 ? 4 : byte(0) >= 0xE0 ? 3 : 2;
    if (byte(0) < 0xC2 || byte(0) > 0xF4 || text.size() < length) return {0, 0};
    char32_t code = byte(0) & (0xFF >> (length + 1));
    for (std::size_t i = 1; i < length; ++i) {
        if ((byte(i) & 0xC0) != 0x80) return {0, 0};
        code = code << 6 | (byte(i) & 0x3F);
    }
    constexpr char32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    if (code < least[length] || code > 0x10FFFF || (code >= 0xD800 && code <= 0xDFFF)) return {0, 0};
    return {code, length};
}

/// Characters that would move the cursor, turn the direction of a line or take no room.
bool is_invisible(char32_t c) {
    return c < 0x20 || (c >= 0x7F && c < 0xA0) || (c >= 0x200B && c <= 0x200F) ||
           (c >= 0x2028 && c <= 0x202E) || (c >= 0x2060 && c <= 0x206F) || c == 0xFEFF;
}

std::vector<Character> characters(std::string_view text) {
    std::vector<Character> out;
    while (!text.empty()) {
        const auto [code, length] = decoded(text);
        Character c;
        c.bytes = std::max<std::size_t>(1, length);
        if (length == 0)
            c.shown = fmt::format("\\x{:02X}", static_cast<unsigned char>(text[0]));
        else if (code == '\n')
            c.shown = "\\n";
        else if (code == '\t')
            c.shown = "\\t";
        else if (code == '\r')
            c.shown = "\\r";
        else if (code == '"' || code == '\\')
            c.shown = fmt::format("\\{}", text[0]);
        else if (is_invisible(code))
            c.shown = code < 0x80 ? fmt::format("\\x{:02X}", static_cast<unsigned>(code))
                                  : fmt::format("\\u{{{:X}}}", static_cast<unsigned>(code));
        else
            c.shown = text.substr(0, length);
        const bool as_it_is = length != 0 && c.shown.size() == length;
        c.columns = !as_it_is ? c.shown.size() : code >= 0x1100 ? 2 : 1;
        out.push_back(std::move(c));
        text.remove_prefix(out.back().bytes);
    }
    return out;
}

/// How many of the characters from `begin` on fit; where not all do, a column is kept for the mark.
template <class Iterator>
std::size_t fitting(Iterator begin, Iterator end, std::size_t columns) {
    std::size_t whole = 0;
    for (Iterator c = begin; c != end; ++c) whole += c->columns;
    if (whole <= columns) return static_cast<std::size_t>(end - begin);
    std::size_t used = 1, count = 0;
    for (Iterator c = begin; used + c->columns <= columns; ++c, ++count) used += c->columns;
    return count;
}

}  // namespace

std::string quoted_tail(std::string_view text, std::size_t columns) {
    const std::vector<Character> all = characters(text);
    const std::size_t count = fitting(all.rbegin(), all.rend(), columns);
    std::string out = count < all.size() ? "\"…" : "\"";
    for (std::size_t i = all.size() - count; i < all.size(); ++i) out += all[i].shown;
    return out + '"';
}

std::string quoted_head(std::string_view text, std::size_t columns) {
    const std::vector<Character> all = characters(text);
    const std::size_t count = fitting(all.begin(), all.end(), columns);
    std::string out = "\"";
    for (std::size_t i = 0; i < count; ++i) out += all[i].shown;
    return out + (count < all.size() ? "…\"" : "\"");
}

std::string_view last_characters(std::string_view text, std::size_t count) {
    const std::vector<Character> all = characters(text);
    std::size_t bytes = 0;
    for (std::size_t i = all.size() - std::min(count, all.size()); i < all.size(); ++i) bytes += all[i].bytes;
    return text.substr(text.size() - bytes);
}

}  // namespace fewbit::cli
