// Pieces of a text as `fewbit evaluate` shows them: whatever bytes they are, the terminal gets one line of
// harmless characters. Control characters, directions and bytes that are no UTF-8 become escapes (\n, \x1B,
// \u{202E}), and so do \ and ", so that two texts that differ look different.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace fewbit::cli {

/// The end of a text in quotes, at most `columns` within them, with "…" where something is missing. No escape
/// is cut. Characters from U+1100 up count as two columns, which is true of most.
[[nodiscard]] std::string quoted_tail(std::string_view text, std::size_t columns);
/// The same of its beginning.
[[nodiscard]] std::string quoted_head(std::string_view text, std::size_t columns);

/// The last `count` characters, as they are; a byte that is no UTF-8 counts as one.
[[nodiscard]] std::string_view last_characters(std::string_view text, std::size_t count);

}  // namespace fewbit::cli
