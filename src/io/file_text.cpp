#include "src/io/file_text.hpp"

#include <cstddef>

namespace fewbit::inline v0::io::detail {
namespace {

/// Bytes of the UTF-8 sequence at the start of `text`; 0 when it is malformed. Precondition: not empty.
std::size_t utf8_length(std::string_view text) noexcept {
    const auto byte = [text](std::size_t i) { return static_cast<unsigned char>(text[i]); };
    const unsigned first = byte(0);
    if (first < 0x80) return 1;
    const std::size_t length = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2;
    if (first < 0xC2 || first > 0xF4 || text.size() < length) return 0;
    for (std::size_t i = 1; i < length; ++i)
        if ((byte(i) & 0xC0) != 0x80) return 0;
    const unsigned second = byte(1);
    if (first == 0xE0 && second < 0xA0) return 0;  // overlong
    if (first == 0xED && second > 0x9F) return 0;  // surrogates
    if (first == 0xF0 && second < 0x90) return 0;  // overlong
    if (first == 0xF4 && second > 0x8F) return 0;  // beyond U+10FFFF
    return length;
}

void append_hex(std::string& out, std::string_view prefix, unsigned char byte) {
    constexpr const char* digits = "0123456789abcdef";
    out += prefix;
    out += digits[byte >> 4];
    out += digits[byte & 15];
}

}  // namespace

bool is_utf8(std::string_view text) noexcept {
    while (!text.empty()) {
        const std::size_t length = utf8_length(text);
        if (length == 0) return false;
        text.remove_prefix(length);
    }
    return true;
}

void append_json_string(std::string& out, std::string_view text) {
    out += '"';
    for (const char c : text) {
        switch (c) {
            case '"': out += "\\\""; break;
            case '\\': out += "\\\\"; break;
            case '\b': out += "\\b"; break;
            case '\f': out += "\\f"; break;
            case '\n': out += "\\n"; break;
            case '\r': out += "\\r"; break;
            case '\t': out += "\\t"; break;
            default:
                if (static_cast<unsigned char>(c) < 0x20)
                    append_hex(out, "\\u00", static_cast<unsigned char>(c));
                else
                    out += c;
        }
    }
    out += '"';
}

std::string in_quotes(std::string_view name) {
    constexpr std::size_t longest_bytes = 120;
    std::string out = "'";
    std::string_view rest = name;
    while (!rest.empty()) {
        if (name.size() - rest.size() >= longest_bytes) return out + text("...' (", name.size(), " bytes)");
        const std::size_t length = utf8_length(rest);
        const auto first = static_cast<unsigned char>(rest[0]);
        if (length == 0 || first < 0x20 || first == 0x7F)
            append_hex(out, "\\x", first);
        else
            out += rest.substr(0, length);
        rest.remove_prefix(length == 0 ? 1 : length);
    }
    return out + "'";
}

}  // namespace fewbit::inline v0::io::detail
