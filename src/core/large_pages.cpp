// Asks Linux for large pages; elsewhere memory is as it comes.
//
// Most matrices of a small model are not many large pages long, and what remains of each after its last whole one would
// lie in small pages. So they share slabs, one after another. What is given back leaves a hole that costs nothing: its
// pages return to the system, and only addresses stay taken until all of the slab is free.
#include "fewbit/core/large_pages.hpp"

// Where a sanitizer watches addresses, memory that is read beyond its end shall not be the next matrix.
#if defined(__SANITIZE_ADDRESS__)
#define FEWBIT_SEPARATE_MEMORY 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define FEWBIT_SEPARATE_MEMORY 1
#endif
#endif

#if defined(__linux__) && !defined(FEWBIT_SEPARATE_MEMORY)
#include <sys/mman.h>
#include <unistd.h>

#include <mutex>

#include "fewbit/core/checked.hpp"
#endif

namespace fewbit::inline v0 {

#if defined(__linux__) && defined(MADV_HUGEPAGE)

namespace {

constexpr std::size_t large_page_bytes = std::size_t{2} << 20;

/// Memory that is asked for in large pages, as far as they are whole: after the last one nobody would use the rest.
std::shared_ptr<std::byte> allocate_pages(std::size_t bytes) {
    auto memory = allocate_host(bytes, large_page_bytes);
    if (memory)
        static_cast<void>(madvise(memory.get(), bytes / large_page_bytes * large_page_bytes, MADV_HUGEPAGE));
    return memory;
}

/// The slab that is being filled. It lives as long as any memory in it does.
class Slab {
public:
    static constexpr std::size_t bytes = 32 * large_page_bytes;

    std::shared_ptr<std::byte> allocate(std::size_t wanted) {
        static const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
        const std::size_t whole = round_up(wanted, page);
        const std::lock_guard lock(mutex_);
        auto slab = slab_.lock();
        if (slab == nullptr || bytes - used_ < whole) {
            slab = allocate_pages(bytes);
            if (slab == nullptr) return nullptr;
            slab_ = slab;
            used_ = 0;
        }
        std::byte* const memory = slab.get() + used_;
        used_ += whole;
        return {memory,
                [slab, whole](std::byte* at) { static_cast<void>(madvise(at, whole, MADV_DONTNEED)); }};
    }

private:
    std::mutex mutex_;
    std::weak_ptr<std::byte> slab_;
    std::size_t used_ = 0;
};

}  // namespace

std::shared_ptr<std::byte> allocate_large(std::size_t bytes) {
    constexpr std::size_t small = 128 << 10, large = Slab::bytes / 2;
    static Slab slab;
    if (bytes < small) return allocate_host(bytes);
    if (auto memory = bytes < large ? slab.allocate(bytes) : allocate_pages(bytes)) return memory;
    return allocate_host(bytes);
}

#else

std::shared_ptr<std::byte> allocate_large(std::size_t bytes) { return allocate_host(bytes); }

#endif

}  // namespace fewbit::inline v0
