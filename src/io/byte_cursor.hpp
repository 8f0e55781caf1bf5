// A place in a file's bytes that only moves forward: what readers of binary formats read through. After a
// failure it gives zeros and moves no more; the first failure is kept.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "fewbit/core/result.hpp"
#include "fewbit/core/text.hpp"

namespace fewbit::inline v0::io::detail {

class ByteCursor {
public:
    explicit ByteCursor(std::span<const std::byte> file) : file_(file) {}

    [[nodiscard]] std::size_t place() const noexcept { return place_; }
    [[nodiscard]] std::size_t left() const noexcept { return file_.size() - place_; }
    [[nodiscard]] bool failed() const noexcept { return failure_.has_value(); }
    /// Precondition: failed().
    [[nodiscard]] Unexpected<Error> failure() const { return Unexpected{*failure_}; }
    /// `sentence` goes on after "at byte N: ".
    template <class... Parts>
    void fail_with(const Parts&... sentence) {
        if (!failure_)
            failure_ = Error{ErrorKind::bad_input, text("at byte ", place_, ": ", text(sentence...))};
    }

    /// The next bytes; `what` they are, for the message.
    std::span<const std::byte> take(std::uint64_t bytes, std::string_view what) {
        if (failed()) return {};
        if (bytes > left()) {
            fail_with(what, " takes ", bytes, " bytes, but only ", left(), " are left");
            return {};
        }
        place_ += static_cast<std::size_t>(bytes);
        return file_.subspan(place_ - static_cast<std::size_t>(bytes), static_cast<std::size_t>(bytes));
    }
    /// A little-endian number of 1 to 8 bytes.
    std::uint64_t number(std::size_t bytes, std::string_view what) {
        std::uint64_t value = 0, shift = 0;
        for (const std::byte byte : take(bytes, what)) {
            value |= static_cast<std::uint64_t>(byte) << shift;
            shift += 8;
        }
        return value;
    }
    /// As many characters as are said.
    std::string_view characters(std::uint64_t length, std::string_view what) {
        const auto bytes = take(length, what);
        return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
    }
    /// `given`, the number of things that take at least `least_bytes` each, if the file can hold them; else 0.
    std::size_t count(std::uint64_t given, std::size_t least_bytes, std::string_view what) {
        if (failed()) return 0;
        if (given > left() / least_bytes) {
            fail_with("there are ", left(), " bytes left, too few for ", given, " ", what);
            return 0;
        }
        return static_cast<std::size_t>(given);
    }

private:
    std::span<const std::byte> file_;
    std::size_t place_ = 0;
    std::optional<Error> failure_;
};

}  // namespace fewbit::inline v0::io::detail
