// Result<T>: a value, or a sentence that says what went wrong and names the values.
//
// The shape is std::expected's (C++23), so that it can become it, less value(), whose job there is to
// throw: fewbit neither throws nor aborts. Ask first (`if (!r)`), then use `*r`, `r->` or `r.error()`.
#pragma once

#include <memory>
#include <string>
#include <type_traits>
#include <utility>
#include <variant>

namespace fewbit::inline v0 {

/// What kind of failure it was; the message says the rest.
enum class ErrorKind {
    bad_input,    ///< a file, a matrix or a name holds what cannot be right
    unsupported,  ///< well-formed, but this library, build or CPU cannot do it
    io,           ///< the operating system refused to open, read, write or rename
    out_of_memory,
    no_kernel,        ///< no kernel fits the query; see SelectionError
    fallback_refused  ///< what would run is a fallback, and the query refuses those
};

struct Error {
    ErrorKind kind = ErrorKind::bad_input;
    std::string message;  ///< one or more sentences, no trailing newline

    /// The same error, told from one level further out: "reading 'a.bin': <message>".
    [[nodiscard]] Error within(const std::string& context) const { return {kind, context + ": " + message}; }
};

template <class E>
struct Unexpected {
    E error;
};
template <class E>
Unexpected(E) -> Unexpected<E>;

/// Shorthand for returning a failure: `return fail(ErrorKind::io, "cannot open '", path, "'")` is spelled
/// with the variadic version in text.hpp; this one takes a finished sentence.
[[nodiscard]] inline Unexpected<Error> unexpected(ErrorKind kind, std::string message) {
    return {Error{kind, std::move(message)}};
}

template <class T, class E = Error>
class [[nodiscard]] Result {
public:
    using value_type = T;
    using error_type = E;

    template <class U = T>
    requires(std::is_constructible_v<T, U&&> && !std::is_same_v<std::remove_cvref_t<U>, Result>)
        Result(U&& value)
        : state_(std::in_place_index<0>, std::forward<U>(value)) {}
    template <class F>
    requires std::is_constructible_v<E, F&&> Result(Unexpected<F> failure)
        : state_(std::in_place_index<1>, std::move(failure.error)) {}

    [[nodiscard]] bool has_value() const noexcept { return state_.index() == 0; }
    explicit operator bool() const noexcept { return has_value(); }

    // Precondition of the next two groups: has_value(), or !has_value() for error().
    T& operator*() & noexcept { return *std::get_if<0>(&state_); }
    const T& operator*() const& noexcept { return *std::get_if<0>(&state_); }
    T&& operator*() && noexcept { return std::move(*std::get_if<0>(&state_)); }
    T* operator->() noexcept { return std::get_if<0>(&state_); }
    const T* operator->() const noexcept { return std::get_if<0>(&state_); }
    E& error() & noexcept { return *std::get_if<1>(&state_); }
    const E& error() const& noexcept { return *std::get_if<1>(&state_); }
    E&& error() && noexcept { return std::move(*std::get_if<1>(&state_)); }

    template <class U>
    T value_or(U&& fallback) const& {
        return has_value() ? **this : static_cast<T>(std::forward<U>(fallback));
    }
    /// f: T -> Result<U, E>
    template <class F>
    auto and_then(F&& f) && -> std::invoke_result_t<F, T&&> {
        if (!has_value()) return Unexpected{std::move(*this).error()};
        return std::forward<F>(f)(*std::move(*this));
    }
    /// f: T -> U
    template <class F>
    auto transform(F&& f) && -> Result<std::invoke_result_t<F, T&&>, E> {
        if (!has_value()) return Unexpected{std::move(*this).error()};
        return std::forward<F>(f)(*std::move(*this));
    }

private:
    std::variant<T, E> state_;
};

template <class E>
class [[nodiscard]] Result<void, E> {
public:
    using value_type = void;
    using error_type = E;

    Result() = default;
    template <class F>
    requires std::is_constructible_v<E, F&&> Result(Unexpected<F> failure)
        : error_(std::make_unique<E>(std::move(failure.error))) {}

    [[nodiscard]] bool has_value() const noexcept { return error_ == nullptr; }
    explicit operator bool() const noexcept { return has_value(); }
    E& error() & noexcept { return *error_; }
    const E& error() const& noexcept { return *error_; }
    E&& error() && noexcept { return std::move(*error_); }

private:
    std::unique_ptr<E> error_;
};

}  // namespace fewbit::inline v0
