// Checked arithmetic, Result, text, Tensor and views.
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "fewbit/core/checked.hpp"
#include "fewbit/core/config.hpp"
#include "fewbit/core/result.hpp"
#include "fewbit/core/tensor.hpp"
#include "fewbit/core/text.hpp"
#include "support/catch.hpp"

using namespace fewbit;

TEST_CASE("checked: all pairs of 8 bits against wider arithmetic", "[core][checked]") {
    std::size_t wrong = 0;
    for (unsigned a = 0; a < 256; ++a)
        for (unsigned b = 0; b < 256; ++b) {
            const auto sum = checked_add(static_cast<std::uint8_t>(a), static_cast<std::uint8_t>(b));
            const auto product = checked_multiply(static_cast<std::uint8_t>(a), static_cast<std::uint8_t>(b));
            wrong += sum.has_value() != (a + b < 256) || (sum && *sum != a + b);
            wrong += product.has_value() != (a * b < 256) || (product && *product != a * b);
            if (b != 0) {
                wrong += ceil_div(a, b) * b < a || ceil_div(a, b) * b >= a + b;
                wrong += round_up(a, b) % b != 0 || round_up(a, b) < a || round_up(a, b) >= a + b;
            }
        }
    CHECK(wrong == 0);
    constexpr std::size_t most = std::numeric_limits<std::size_t>::max();
    CHECK(ceil_div(most, 2) == most / 2 + 1);  // a + b - 1 would overflow
    CHECK(!checked_add<std::size_t>(most, 1));
    CHECK(checked_add<std::size_t>(most, 0) == most);
    CHECK(!checked_multiply<std::size_t>(most / 2 + 1, 2));
}

TEST_CASE("checked: a zero does not hide an overflow", "[core][checked]") {
    const std::size_t huge = std::size_t{1} << 40;
    CHECK(!checked_product({huge, huge, 0}));
    CHECK(!checked_product({0, huge, huge}));
    CHECK(checked_product({huge, 0}) == 0u);
    CHECK(checked_product({}) == 1u);
    CHECK(checked_product({3, 5, 7}) == 105u);
}

TEST_CASE("checked: casts keep value and sign or refuse", "[core][checked]") {
    CHECK(checked_cast<std::int8_t>(127) == std::int8_t{127});
    CHECK(!checked_cast<std::int8_t>(128));
    CHECK(!checked_cast<std::uint32_t>(-1));
    CHECK(!checked_cast<std::uint64_t>(std::int64_t{-1}));
    CHECK(!checked_cast<std::int64_t>(std::numeric_limits<std::uint64_t>::max()));
    CHECK(!checked_cast<std::uint32_t>(std::uint64_t{1} << 32));
    CHECK(checked_cast<std::uint64_t>(std::int32_t{7}) == 7u);
}

TEST_CASE("result: value, error, chains, void", "[core][result]") {
    const auto half = [](int x) -> Result<int> {
        if (x % 2 != 0) return fail(ErrorKind::bad_input, "cannot halve ", x);
        return x / 2;
    };
    CHECK(*half(4) == 2);
    CHECK(half(3).error().message == "cannot halve 3");
    CHECK(half(3).error().kind == ErrorKind::bad_input);
    CHECK(half(3).value_or(-1) == -1);
    CHECK(*half(8).and_then(half) == 2);
    CHECK(half(6).and_then(half).error().message == "cannot halve 3");
    CHECK(*half(6).transform([](int x) { return std::to_string(x); }) == "3");
    CHECK(half(5).error().within("reading 'a'").message == "reading 'a': cannot halve 5");

    Result<void> good;
    CHECK(good.has_value());
    Result<void> bad = fail(ErrorKind::io, "disk full");
    CHECK(!bad);
    CHECK(bad.error().message == "disk full");
    // A Result of what cannot be copied is moved.
    Result<std::unique_ptr<int>> pointer = std::make_unique<int>(5);
    const std::unique_ptr<int> taken = *std::move(pointer);
    CHECK(*taken == 5);
}

TEST_CASE("text: numbers are the shortest that read back", "[core][text]") {
    CHECK(text("a", 1, 'c', true, 0.1f, " ", -3, " ", std::string("s")) == "a1ctrue0.1 -3 s");
    CHECK(text(std::numeric_limits<std::uint64_t>::max()) == "18446744073709551615");
    CHECK(text() == "");
}

TEST_CASE("tensor: shapes that overflow are refused, also behind a zero", "[core][tensor]") {
    const std::size_t huge = std::size_t{1} << 40;
    for (const Tensor::Shape& shape :
         {Tensor::Shape{huge, huge}, Tensor::Shape{0, huge, huge}, Tensor::Shape{huge, huge, 0},
          Tensor::Shape{std::numeric_limits<std::size_t>::max()},
          Tensor::Shape{std::size_t{1} << 61}}) {  // 2^63 bytes of f32
        const auto tensor = Tensor::allocate(Scalar::f32, shape);
        REQUIRE(!tensor);
        CHECK(tensor.error().kind == ErrorKind::bad_input);
        CHECK(tensor.error().message ==
              "a tensor of shape " + shape_text(shape) + " is larger than memory can address");
    }
}

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define FEWBIT_TEST_SANITIZED 1
#endif
#elif defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define FEWBIT_TEST_SANITIZED 1
#endif

TEST_CASE("tensor: more memory than there is is an error, not an exception", "[core][tensor]") {
#if defined(FEWBIT_TEST_SANITIZED)
    FEWBIT_SKIP("sanitizers end the program at an allocation that a plain build refuses");
#else
    const auto tensor = Tensor::allocate(Scalar::u8, {std::size_t{1} << 62});
    REQUIRE(!tensor);
    CHECK(tensor.error().kind == ErrorKind::out_of_memory);
#endif
}

TEST_CASE("tensor: allocated memory is there, aligned, shared by copies", "[core][tensor]") {
    auto tensor = Tensor::allocate(Scalar::f32, {3, 5});
    REQUIRE(tensor);
    CHECK(tensor->elements() == 15);
    CHECK(tensor->size_bytes() == 60);
    REQUIRE(tensor->bytes().data() != nullptr);
    CHECK(reinterpret_cast<std::uintptr_t>(tensor->bytes().data()) % buffer_alignment_bytes == 0);
    std::memset(tensor->mutable_bytes().data(), 0, 60);
    const Tensor copy = *tensor;
    tensor->as_mutable<float>()[14] = 2.5f;
    CHECK(copy.as<float>()[14] == 2.5f);

    const auto empty = Tensor::allocate(Scalar::f32, {4, 0});
    REQUIRE(empty);
    CHECK(empty->elements() == 0);
    CHECK(empty->bytes().empty());
    CHECK(Tensor().elements() == 0);
    CHECK(Tensor::allocate(Scalar::f64, {})->elements() == 1);  // a scalar
}

TEST_CASE("tensor: borrowed bytes are read-only, checked, and kept alive", "[core][tensor]") {
    auto owner = std::make_shared<std::vector<std::byte>>(16, std::byte{0});
    const std::weak_ptr<std::vector<std::byte>> watch = owner;
    const std::span<const std::byte> bytes(*owner);
    CHECK(!Tensor::borrow(Scalar::f32, {5}, bytes, owner));
    CHECK(Tensor::borrow(Scalar::f32, {5}, bytes, owner).error().message ==
          "a f32 tensor of shape (5) does not fit into 16 bytes");
    CHECK(!Tensor::borrow(Scalar::f32, {std::size_t{1} << 62, 4}, bytes, owner));
    {
        auto tensor = Tensor::borrow(Scalar::f32, {2, 2}, bytes, owner);
        REQUIRE(tensor);
        owner.reset();
        CHECK(!watch.expired());
        CHECK(tensor->mutable_bytes().empty());
        CHECK(tensor->as_mutable<float>().empty());
        CHECK(tensor->as<float>()[3] == 0.0f);
    }
    CHECK(watch.expired());
}

TEST_CASE("views: strides, rows, windows", "[core][tensor]") {
    std::vector<float> memory(3 * 7);
    for (std::size_t i = 0; i < memory.size(); ++i) memory[i] = static_cast<float>(i);
    const MatrixView<float> view(memory.data() + 1, 3, 5, 7);
    CHECK(view(2, 4) == 19.0f);
    CHECK(view.row(1).size() == 5);
    CHECK(view.row(1)[0] == 8.0f);
    const MatrixView<const float> tail = view.rows_from(1, 2);
    CHECK(tail.rows == 2);
    CHECK(tail(1, 0) == 15.0f);

    Matrix matrix(2, 3);
    CHECK(matrix(1, 2) == 0.0f);
    matrix(1, 2) = 4.0f;
    CHECK(matrix.view()(1, 2) == 4.0f);
    CHECK(matrix.row(1)[2] == 4.0f);
}
