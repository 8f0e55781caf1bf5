// Buffer: numbers on the heap, aligned for vector registers, whose allocation can fail without an exception.
#pragma once

#include <algorithm>
#include <cstddef>
#include <memory>
#include <span>
#include <type_traits>
#include <utility>

#include "fewbit/core/checked.hpp"
#include "fewbit/core/result.hpp"
#include "fewbit/core/tensor.hpp"

namespace fewbit::inline v0 {

/// Copies share the numbers.
template <class T>
requires std::is_trivially_copyable_v<T>
class Buffer {
public:
    Buffer() = default;

    /// `count` zeros. Error: no memory; `what` names the buffer.
    [[nodiscard]] static Result<Buffer> zeros(std::size_t count, const char* what) {
        const auto bytes = checked_product({count, sizeof(T)});
        auto memory = bytes ? allocate_host(*bytes) : nullptr;
        if (!memory)
            return fail(ErrorKind::out_of_memory, "no memory for ", count, " numbers of ", sizeof(T),
                        " bytes (", what, ")");
        Buffer buffer;
        buffer.numbers_ = {reinterpret_cast<T*>(memory.get()), count};
        std::fill(buffer.numbers_.begin(), buffer.numbers_.end(), T(0));
        buffer.memory_ = std::move(memory);
        return buffer;
    }

    [[nodiscard]] std::span<T> span() const noexcept { return numbers_; }
    [[nodiscard]] std::size_t size() const noexcept { return numbers_.size(); }
    [[nodiscard]] T* data() const noexcept { return numbers_.data(); }
    /// Keeps the numbers alive.
    [[nodiscard]] const std::shared_ptr<std::byte>& owner() const noexcept { return memory_; }

private:
    std::span<T> numbers_;
    std::shared_ptr<std::byte> memory_;
};

}  // namespace fewbit::inline v0
