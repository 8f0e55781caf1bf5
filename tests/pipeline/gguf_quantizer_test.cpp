// Quantizing into GGUF in pieces: the bytes of the whole matrix, its report, importance of experts, and what is
// refused.
#include <cmath>
#include <filesystem>
#include <limits>
#include <random>
#include <vector>

#include "fewbit/core/thread_pool.hpp"
#include "fewbit/formats/block_conversion.hpp"
#include "fewbit/pipeline/gguf_quantizer.hpp"
#include "support/catch.hpp"
#include "support/random.hpp"

using namespace fewbit;
using testing::gaussian_matrix;
using namespace fewbit::pipeline;

namespace {

/// An input of f32 rows that lie in memory.
GgufInput input_of(const Matrix& w, std::vector<std::size_t> sizes) {
    GgufInput input;
    input.source = {"blk.0.ffn_up.weight", io::gguf_tensor_type("f32"), std::move(sizes),
                    [&w](auto sink) { return sink(std::as_bytes(w.values())); }};
    input.decode = [&w](std::size_t r, std::span<float> out) { std::ranges::copy(w.row(r), out.begin()); };
    return input;
}

std::vector<std::byte> produced(const io::GgufSource& source) {
    std::vector<std::byte> bytes;
    const auto done = source.produce([&](std::span<const std::byte> piece) -> Result<void> {
        bytes.insert(bytes.end(), piece.begin(), piece.end());
        return {};
    });
    INFO((done ? "" : done.error().message));
    REQUIRE(done);
    return bytes;
}

}  // namespace

TEST_CASE("pieces of rows give the bytes and the report of the whole matrix, for any number of threads") {
    // 4 Mi weights to a piece: two whole ones and a rest.
    const bool quick = fewbit_test::sampled();
    const Matrix w = gaussian_matrix(quick ? 300 : 4500, 2048, 1);
    const GgufInput input = input_of(w, {2048, w.rows()});
    ThreadPool pool(3);
    for (const char* format : {"q4_0", "q8_0", "int4-g32", "f16", "tq2_0"}) {
        INFO(format);
        QuantizeReport one, three;
        const GgufQuantization how{*parse_format(format), RtnOptions{}, {}, {}};
        const auto bytes = produced(*quantized_source(input, how, one));
        CHECK(bytes == produced(*quantized_source(input, {how.format, how.method, {}, ExecutionContext(pool)},
                                                  three)));
        const auto whole = quantize_rtn(w.view(), how.format);
        REQUIRE(whole);
        const QuantizedMatrix& q = whole->linear.weights;
        const Tensor expected = q.format().is_float() ? q.codes.bytes() : to_blocks(q)->blocks;
        CHECK(std::ranges::equal(bytes, expected.bytes()));
        const QuantizeReport& all = whole->report;
        // The same terms, summed in other groups: each sum is right to count * 2^-53.
        const double close = 1e-9;
        CHECK(std::fabs(one.mean_square_error - all.mean_square_error) <= close * all.mean_square_error);
        CHECK(std::fabs(one.relative_error - all.relative_error) <= close * all.relative_error);
        CHECK(std::fabs(one.sqnr_db - all.sqnr_db) <= 1e-6);
        CHECK(one.max_abs_error == all.max_abs_error);
        CHECK(one.groups == all.groups);
        CHECK(std::fabs(one.bits_per_weight - all.bits_per_weight) <= 1e-9);
        CHECK(one.mean_square_error == three.mean_square_error);
    }
}

TEST_CASE("each expert is encoded with its own importance") {
    const std::size_t k = 256, experts = 3, rows = 5;
    const Matrix w = gaussian_matrix(experts * rows, k, 2);
    std::mt19937 random(3);
    std::vector<float> importance(experts * k);
    for (float& value : importance) value = static_cast<float>(random() % 100);
    QuantizeReport report;
    const auto bytes = produced(
        *quantized_source(input_of(w, {k, rows, experts}),
                          {block_format(ggml::BlockType::q4_k), RtnOptions{}, importance, {}}, report));
    const std::size_t row_bytes = ggml::row_bytes(ggml::BlockType::q4_k, k);
    for (std::size_t r = 0; r < w.rows(); ++r) {
        RtnOptions options;
        options.importance = std::span(importance).subspan(r / rows * k, k);
        const auto row = quantize_rtn(MatrixView<const float>(w.row(r).data(), 1, k),
                                      block_format(ggml::BlockType::q4_k), options);
        const auto expected = row->linear.weights.blocks.bytes();
        CHECK(std::ranges::equal(std::span(bytes).subspan(r * row_bytes, row_bytes), expected));
    }
}

TEST_CASE("integer formats become blocks of the same weights, or the nearest type is named") {
    const Matrix w = gaussian_matrix(7, 512, 4);
    std::size_t exact = 0;
    for (const char* name :
         {"int4-g32", "int4-g32-narrow", "int5-g32", "int8-g32", "int4-g32-fzero", "int5-g32-fzero",
          "int2-g256-narrow", "int2-g64-narrow", "iq4-g32", "e2m1-g32-se8m0"}) {
        INFO(name);
        const auto q = quantize_mse(w.view(), *parse_format(name));
        REQUIRE(q);
        const auto blocks = to_blocks(q->linear.weights);
        REQUIRE(blocks);
        std::vector<float> a(512), b(512);
        for (std::size_t r = 0; r < 7; ++r) {
            q->linear.weights.dequantize(r, 0, a);
            blocks->dequantize(r, 0, b);
            exact += a == b;
        }
    }
    CHECK(exact == 10 * 7);
    for (const auto& [name, nearest] : {std::pair{"int4-g128", "q4_0"},
                                        {"int4-g32-asym", "q4_1"},
                                        {"int4-g32-sbf16", "q4_0"},
                                        {"int3-g32", "q3_k"},
                                        {"int2-g64", "q2_k"},
                                        {"int6-g16", "q6_k"},
                                        {"int8-channel", "q8_0"},
                                        {"nf4-g64", "iq4_nl"},
                                        {"e2m1-g32", "mxfp4"},
                                        {"mxfp8", "q8_0"},
                                        {"int4-g32-dq", "q4_0"}}) {
        const auto type = gguf_type_of(*parse_format(name));
        REQUIRE_FALSE(type);
        CHECK(type.error().message.ends_with(text("the nearest is ", nearest)));
        CHECK_FALSE(to_blocks(*QuantizedMatrix::allocate(*parse_format(name), 1, 512)));
    }
}

TEST_CASE("what cannot be quantized is said with its place") {
    Matrix w = gaussian_matrix(6, 64, 5);
    w(4, 9) = std::numeric_limits<float>::quiet_NaN();
    GgufInput input = input_of(w, {64, 6});
    QuantizeReport report;
    const auto source =
        quantized_source(input, {block_format(ggml::BlockType::q8_0), RtnOptions{}, {}, {}}, report);
    REQUIRE(source);
    const auto done = source->produce([](std::span<const std::byte>) -> Result<void> { return {}; });
    REQUIRE_FALSE(done);
    CHECK(done.error().message == "tensor 'blk.0.ffn_up.weight': weight [4, 9] is nan");
    const auto message = [&](const char* format, std::span<const float> importance = {}) {
        const auto made =
            quantized_source(input, {*parse_format(format), RtnOptions{}, importance, {}}, report);
        return made ? std::string() : made.error().message;
    };
    CHECK(message("q4_k") ==
          "tensor 'blk.0.ffn_up.weight': K = 64: q4_k in a GGUF file needs a multiple of 256");
    const std::vector<float> odd(63, 1.0f);
    CHECK(message("q4_0", odd).find("the importance has 63 values") != std::string::npos);
    input.decode = nullptr;
    input.source.type = io::gguf_tensor_type("iq2_xxs");
    CHECK(message("q4_0") == "tensor 'blk.0.ffn_up.weight': fewbit does not decode iq2_xxs");
}
