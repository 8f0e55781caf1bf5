// What the writers of files share about the system: its reasons as words, the size of one transfer, and names for
// temporary files that no other process or thread takes.
#pragma once

#include <atomic>
#include <cstddef>
#include <filesystem>
#include <string>
#include <string_view>
#include <system_error>

#include "fewbit/core/text.hpp"

#if defined(_WIN32)
#include <process.h>
#else
#include <unistd.h>
#endif

namespace fewbit::inline v0::io::detail {

// One call takes at most this much: Linux stops below 2 GiB, others refuse more.
inline constexpr std::size_t largest_transfer_bytes = std::size_t{1} << 30;

inline std::string system_reason(int code) { return std::generic_category().message(code); }

/// ".fewbit-<process>-<n><suffix>", with another n each time. A process of another machine may use the same folder, so
/// files are made with O_EXCL, and another name is asked for when this one is taken.
inline std::filesystem::path temporary_name(std::string_view suffix) {
    static std::atomic<unsigned> counter{0};
#if defined(_WIN32)
    const int process = ::_getpid();
#else
    const auto process = static_cast<long long>(::getpid());
#endif
    return text(".fewbit-", process, "-", counter++, suffix);
}

}  // namespace fewbit::inline v0::io::detail
