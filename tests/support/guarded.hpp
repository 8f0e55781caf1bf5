// Memory between two pages that nobody may touch: a kernel that reads or writes one byte too many crashes.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstring>
#include <memory>
#include <span>

namespace fewbit::testing {

/// `bytes` bytes that end (or, with at_start, begin) exactly at a guard page. Contents: zero.
class Guarded {
public:
    explicit Guarded(std::size_t bytes, bool at_start = false) : bytes_(bytes) {
        const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
        const std::size_t inner = (bytes / page + 1) * page;
        const std::size_t total = inner + 2 * page;
        void* map = mmap(nullptr, total, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (map == MAP_FAILED) return;
        auto* base = static_cast<std::byte*>(map);
        mprotect(base + page, inner, PROT_READ | PROT_WRITE);
        owner_ = std::shared_ptr<std::byte>(base, [total](std::byte* p) { munmap(p, total); });
        between_ = {base + page, inner};
        data_ = at_start ? base + page : base + page + inner - bytes;
    }

    [[nodiscard]] std::byte* data() const { return data_; }
    [[nodiscard]] std::size_t size() const { return bytes_; }
    /// All that lies between the two pages.
    [[nodiscard]] std::span<std::byte> between() const { return between_; }
    [[nodiscard]] const std::shared_ptr<std::byte>& owner() const { return owner_; }
    template <class T>
    [[nodiscard]] T* as() const {
        return reinterpret_cast<T*>(data_);
    }

private:
    std::size_t bytes_;
    std::shared_ptr<std::byte> owner_;
    std::byte* data_ = nullptr;
    std::span<std::byte> between_;
};

}  // namespace fewbit::testing
