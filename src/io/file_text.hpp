// Words that files and messages are made of: JSON strings, UTF-8, names from strangers, and the one place
// where exceptions of the standard library (no memory) become errors.
#pragma once

#include <exception>
#include <new>
#include <string>
#include <string_view>

#include "fewbit/core/result.hpp"
#include "fewbit/core/text.hpp"

namespace fewbit::inline v0::io::detail {

/// Well-formed UTF-8: no overlong forms, no surrogates, nothing above U+10FFFF.
[[nodiscard]] bool is_utf8(std::string_view text) noexcept;

/// Appends "text" as a JSON string the way serde_json does: short escapes, \u00xx in lower case for the other
/// control characters, everything else as it is. Precondition: is_utf8(text).
void append_json_string(std::string& out, std::string_view text);

/// 'name' for a message: control characters and bytes that are not ASCII made visible where needed, cut to a
/// readable length (the name comes from a file and may be anything).
[[nodiscard]] std::string in_quotes(std::string_view name);

/// Runs `work`, which returns a Result; an exception of the standard library that it lets out becomes an
/// error.
template <class F>
[[nodiscard]] auto without_exceptions(F&& work) -> decltype(work()) {
#if defined(__cpp_exceptions)
    try {
        return work();
    } catch (const std::bad_alloc&) {
        return unexpected(ErrorKind::out_of_memory, "no memory left");
    } catch (const std::exception& problem) {
        return unexpected(ErrorKind::io, problem.what());
    }
#else
    return work();
#endif
}

}  // namespace fewbit::inline v0::io::detail
