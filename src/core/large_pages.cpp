// Asks Linux for large pages; elsewhere memory is as it comes.
#include "fewbit/core/large_pages.hpp"

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace fewbit::inline v0 {

std::shared_ptr<std::byte> allocate_large(std::size_t bytes) {
    constexpr std::size_t page_bytes = std::size_t{2} << 20;
    if (bytes < 2 * page_bytes) return allocate_host(bytes);
    auto memory = allocate_host(bytes, page_bytes);
#if defined(__linux__) && defined(MADV_HUGEPAGE)
    // Whole pages only: what follows the last one would be memory that nobody uses.
    if (memory) static_cast<void>(madvise(memory.get(), bytes / page_bytes * page_bytes, MADV_HUGEPAGE));
#endif
    return memory;
}

}  // namespace fewbit::inline v0
