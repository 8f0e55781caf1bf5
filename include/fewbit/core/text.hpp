// Sentences out of values, for error messages. The library depends on nothing but the standard library,
// and g++ 12 has no std::format; programs use fmt.
#pragma once

#include <charconv>
#include <string>
#include <string_view>
#include <type_traits>

#include "fewbit/core/result.hpp"

namespace fewbit::inline v0 {
namespace detail {

template <class T>
void append(std::string& out, const T& part) {
    if constexpr (std::is_same_v<T, bool>) {
        out += part ? "true" : "false";
    } else if constexpr (std::is_same_v<T, char>) {
        out += part;
    } else if constexpr (std::is_arithmetic_v<T>) {
        char digits[64];
        const auto end = std::to_chars(digits, digits + sizeof digits, part);  // shortest, round-trips
        out.append(digits, end.ptr);
    } else {
        out += std::string_view(part);
    }
}

}  // namespace detail

/// The parts one after another; numbers as the shortest text that reads back to the same value.
template <class... Parts>
[[nodiscard]] std::string text(const Parts&... parts) {
    std::string out;
    (detail::append(out, parts), ...);
    return out;
}

/// `return fail(ErrorKind::io, "cannot open '", path, "'")`.
template <class... Parts>
[[nodiscard]] Unexpected<Error> fail(ErrorKind kind, const Parts&... parts) {
    return unexpected(kind, text(parts...));
}

}  // namespace fewbit::inline v0
