// fewbit::headers: the library without its library. Only generic kernels, which a query must allow.
#include <cmath>
#include <vector>

#include "fewbit/fewbit.hpp"
#include "fewbit/formats/ggml/blocks.hpp"
#include "fewbit/formats/ggml/encode.hpp"
#include "fewbit/matmul/reference.hpp"
#include "support/catch.hpp"

using namespace fewbit;

TEST_CASE("the header-only catalogue holds generic kernels alone") {
    CHECK(!kernel_catalog().empty());
    for (const KernelInfo& info : kernel_catalog()) CHECK(info.isa == Isa::generic);
}

TEST_CASE("a product needs an allowed fallback, and is right") {
    const Format format = *parse_format("int4-g32-asym");
    auto w = *QuantizedMatrix::allocate(format, 5, 70);
    for (std::size_t n = 0; n < 5; ++n) {
        std::vector<std::uint8_t> codes(70), zeros(3, static_cast<std::uint8_t>(n));
        for (std::size_t k = 0; k < 70; ++k) codes[k] = static_cast<std::uint8_t>((3 * n + 7 * k) % 16);
        w.codes.pack_row(n, codes);
        w.zeros.pack_row(n, zeros);
        for (std::size_t g = 0; g < 3; ++g) w.set_scale(n, g, 0.25f * static_cast<float>(g + 1));
    }
    Matrix x(3, 70), y(3, 5);
    for (std::size_t i = 0; i < x.values().size(); ++i) x.values()[i] = static_cast<float>(i % 13) - 6.0f;
    CHECK(!select_kernel({format, exact_activations(), 3, 5, 70}));
    const auto kernel = select_kernel({format, exact_activations(), 3, 5, 70, Fallback::allow});
    REQUIRE(kernel);
    REQUIRE(matmul(*kernel, x.view(), *pack(w, kernel->layout()), y.view()));
    const auto truth = reference::matmul(x.view(), w, exact_activations());
    // All numbers are small multiples of 1/4: every product and sum is exact.
    for (std::size_t i = 0; i < truth.size(); ++i) CHECK(static_cast<double>(y.values()[i]) == truth[i]);
}

TEST_CASE("ggml's blocks need no library") {
    std::vector<float> x(256), back(256);
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i % 32) * 0.5f - 8.0f;
    for (const ggml::BlockType type : {ggml::BlockType::q5_0, ggml::BlockType::q4_k}) {
        std::vector<std::uint8_t> bytes(ggml::row_bytes(type, x.size()));
        ggml::encode_row(type, x, {}, bytes);
        const ggml::BlockTraits& t = ggml::traits(type);
        for (std::size_t b = 0; b < x.size() / t.elements; ++b)
            ggml::dequantize_block(type, bytes.data() + b * t.bytes, back.data() + b * t.elements);
        // q5_0 holds these weights exactly (32 codes of 0.5); q4_k has half as many codes.
        for (std::size_t i = 0; i < x.size(); ++i)
            CHECK(std::fabs(back[i] - x[i]) <= (type == ggml::BlockType::q5_0 ? 0.0f : 1.0f));
    }
}
