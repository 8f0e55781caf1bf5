// Memory in large pages, for what is read from end to end again and again: with pages of 4 KiB a core also waits for
// their addresses, which costs 10 to 25 % of its bandwidth.
#pragma once

#include <cstddef>
#include <memory>

#include "fewbit/core/config.hpp"
#include "fewbit/core/tensor.hpp"

namespace fewbit::inline v0 {

/// As allocate_host(). From 128 KiB on the system is asked for large pages, which what is allocated shares until it is large
/// itself; it may say no, and then this is ordinary memory. Pages that are given back return to the system at once, addresses when
/// all around them is free. (fewbit::headers does not ask.)
#if defined(FEWBIT_HEADER_ONLY)
[[nodiscard]] inline std::shared_ptr<std::byte> allocate_large(std::size_t bytes) {
    return allocate_host(bytes);
}
#else
[[nodiscard]] FEWBIT_API std::shared_ptr<std::byte> allocate_large(std::size_t bytes);
#endif

}  // namespace fewbit::inline v0
