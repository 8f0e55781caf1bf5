// Tensor: typed bytes with a shape, an owner that keeps them alive (heap, mapped file, device) and the memory
// space in which they lie. Views: MatrixView<T>, a strided window on host memory.
//
// A Tensor is contiguous and row-major (last index fastest) and cheap to copy: copies share the bytes.
// Bytes that came from a mapped file are read-only; mutable_bytes() of those is empty.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "fewbit/core/checked.hpp"
#include "fewbit/core/result.hpp"
#include "fewbit/core/scalar_type.hpp"
#include "fewbit/core/text.hpp"

namespace fewbit::inline v0 {

/// Where bytes lie. CPU code may only touch `host`.
enum class MemorySpace : std::uint8_t { host, cuda };

/// A strided matrix that somebody else owns. Row r starts at data + r * stride_elements.
template <class T>
struct MatrixView {
    T* data = nullptr;
    std::size_t rows = 0;
    std::size_t cols = 0;
    std::size_t stride_elements = 0;

    MatrixView() = default;
    MatrixView(T* data_, std::size_t rows_, std::size_t cols_) : MatrixView(data_, rows_, cols_, cols_) {}
    MatrixView(T* data_, std::size_t rows_, std::size_t cols_, std::size_t stride)
        : data(data_), rows(rows_), cols(cols_), stride_elements(stride) {}
    /// A view of mutable elements is also a view of constant ones.
    template <class U>
    requires(std::is_same_v<const U, T> && !std::is_same_v<U, T>) MatrixView(const MatrixView<U>& other)
        : MatrixView(other.data, other.rows, other.cols, other.stride_elements) {}

    [[nodiscard]] std::span<T> row(std::size_t r) const noexcept {
        return {data + r * stride_elements, cols};
    }
    [[nodiscard]] T& operator()(std::size_t r, std::size_t c) const noexcept {
        return data[r * stride_elements + c];
    }
    [[nodiscard]] MatrixView rows_from(std::size_t first, std::size_t count) const noexcept {
        return {data + first * stride_elements, count, cols, stride_elements};
    }
};

/// Bytes that a packed layout starts at: one cache line, and the widest vector register.
inline constexpr std::size_t buffer_alignment_bytes = 64;

/// Uninitialized host memory of at least one byte, aligned to `alignment_bytes` (a power of two);
/// null when there is none to be had.
[[nodiscard]] inline std::shared_ptr<std::byte> allocate_host(
    std::size_t bytes, std::size_t alignment_bytes = buffer_alignment_bytes) {
    const std::align_val_t alignment{alignment_bytes};
    auto* memory = static_cast<std::byte*>(::operator new(bytes == 0 ? 1 : bytes, alignment, std::nothrow));
    if (memory == nullptr) return nullptr;
    return {memory, [alignment](std::byte* p) { ::operator delete(p, alignment); }};
}

[[nodiscard]] inline std::string shape_text(std::span<const std::size_t> shape) {
    std::string out = "(";
    for (std::size_t i = 0; i < shape.size(); ++i) out += text(i == 0 ? "" : ", ", shape[i]);
    return out + ")";
}

class Tensor {
public:
    using Shape = std::vector<std::size_t>;

    Tensor() = default;

    /// Uninitialized host memory of the given shape, of the kind that `memory_of(bytes)` gives (null: none left). Error: the
    /// size overflows, or memory is exhausted.
    [[nodiscard]] static Result<Tensor> allocate(
        Scalar type, Shape shape,
        std::shared_ptr<std::byte> (*memory_of)(std::size_t) = [](std::size_t bytes) {
            return allocate_host(bytes);
        }) {
        const auto bytes = bytes_of(type, shape);
        if (!bytes)
            return fail(ErrorKind::bad_input, "a tensor of shape ", shape_text(shape),
                        " is larger than memory can address");
        auto memory = memory_of(*bytes);
        if (!memory)
            return fail(ErrorKind::out_of_memory, "no memory for ", *bytes, " bytes (tensor of shape ",
                        shape_text(shape), ")");
        std::byte* const data = memory.get();  // before the pointer is moved from
        return Tensor(type, std::move(shape), data, data, std::move(memory), MemorySpace::host);
    }

    /// Read-only bytes that `owner` keeps alive (a mapped file, say). Error: `bytes` is shorter than the
    /// shape needs.
    [[nodiscard]] static Result<Tensor> borrow(Scalar type, Shape shape, std::span<const std::byte> bytes,
                                               std::shared_ptr<const void> owner) {
        const auto needed = bytes_of(type, shape);
        if (!needed || *needed > bytes.size())
            return fail(ErrorKind::bad_input, "a ", name(type), " tensor of shape ", shape_text(shape),
                        " does not fit into ", bytes.size(), " bytes");
        return Tensor(type, std::move(shape), bytes.data(), nullptr, std::move(owner), MemorySpace::host);
    }

    /// Memory of the given shape in another space, which `owner` keeps alive. Precondition: it is large enough. Only what
    /// knows the space may touch its bytes.
    [[nodiscard]] static Tensor adopt(Scalar type, Shape shape, std::byte* memory,
                                      std::shared_ptr<const void> owner, MemorySpace space) {
        return Tensor(type, std::move(shape), memory, memory, std::move(owner), space);
    }

    [[nodiscard]] Scalar type() const noexcept { return type_; }
    [[nodiscard]] const Shape& shape() const noexcept { return shape_; }
    [[nodiscard]] MemorySpace space() const noexcept { return space_; }
    [[nodiscard]] std::size_t elements() const noexcept {
        std::size_t product = shape_.empty() && data_ == nullptr ? 0 : 1;
        for (const std::size_t extent : shape_) product *= extent;
        return product;
    }
    [[nodiscard]] std::size_t size_bytes() const noexcept { return elements() * fewbit::size_bytes(type_); }

    [[nodiscard]] std::span<const std::byte> bytes() const noexcept { return {data_, size_bytes()}; }
    /// Empty when the bytes are read-only.
    [[nodiscard]] std::span<std::byte> mutable_bytes() noexcept {
        return mutable_data_ ? std::span{mutable_data_, size_bytes()} : std::span<std::byte>{};
    }

    /// The bytes as elements of T. Precondition: T is the C++ type of type(), and the bytes are aligned for
    /// it (always so for allocate(); a mapped file may break it: use load_float there).
    template <class T>
    [[nodiscard]] std::span<const T> as() const noexcept {
        return {reinterpret_cast<const T*>(data_), elements()};
    }
    template <class T>
    [[nodiscard]] std::span<T> as_mutable() noexcept {
        return {reinterpret_cast<T*>(mutable_data_), mutable_data_ ? elements() : 0};
    }

private:
    Tensor(Scalar type, Shape shape, const std::byte* data, std::byte* mutable_data,
           std::shared_ptr<const void> owner, MemorySpace space)
        : type_(type),
          space_(space),
          shape_(std::move(shape)),
          data_(data),
          mutable_data_(mutable_data),
          owner_(std::move(owner)) {}

    [[nodiscard]] static std::optional<std::size_t> bytes_of(Scalar type, const Shape& shape) {
        const auto bytes = checked_product(shape, fewbit::size_bytes(type));
        return bytes && *bytes <= static_cast<std::size_t>(PTRDIFF_MAX) ? bytes : std::nullopt;
    }

    Scalar type_ = Scalar::f32;
    MemorySpace space_ = MemorySpace::host;
    Shape shape_;
    const std::byte* data_ = nullptr;
    std::byte* mutable_data_ = nullptr;  // null when read-only
    std::shared_ptr<const void> owner_;
};

/// An f32 matrix on the heap, zero-initialized: the plain container of examples and results.
class Matrix {
public:
    Matrix() = default;
    Matrix(std::size_t rows, std::size_t cols) : rows_(rows), cols_(cols), values_(rows * cols) {}

    [[nodiscard]] std::size_t rows() const noexcept { return rows_; }
    [[nodiscard]] std::size_t cols() const noexcept { return cols_; }
    [[nodiscard]] std::span<float> values() noexcept { return values_; }
    [[nodiscard]] std::span<const float> values() const noexcept { return values_; }
    [[nodiscard]] std::span<float> row(std::size_t r) noexcept { return {values_.data() + r * cols_, cols_}; }
    [[nodiscard]] std::span<const float> row(std::size_t r) const noexcept {
        return {values_.data() + r * cols_, cols_};
    }
    [[nodiscard]] float& operator()(std::size_t r, std::size_t c) noexcept { return values_[r * cols_ + c]; }
    [[nodiscard]] float operator()(std::size_t r, std::size_t c) const noexcept {
        return values_[r * cols_ + c];
    }

    [[nodiscard]] MatrixView<float> view() noexcept { return {values_.data(), rows_, cols_}; }
    [[nodiscard]] MatrixView<const float> view() const noexcept { return {values_.data(), rows_, cols_}; }
    operator MatrixView<float>() noexcept { return view(); }
    operator MatrixView<const float>() const noexcept { return view(); }
    operator MatrixView<const float>() noexcept { return view(); }

private:
    std::size_t rows_ = 0;
    std::size_t cols_ = 0;
    std::vector<float> values_;
};

}  // namespace fewbit::inline v0
