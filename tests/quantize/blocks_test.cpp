// ggml's blocks as formats: rtn is the reference encoder, mse is never worse, and both say what they cannot do.
#include <array>
#include <cmath>
#include <limits>
#include <random>

#include "support/catch.hpp"
#include "support/random.hpp"

#include "fewbit/core/thread_pool.hpp"
#include "fewbit/formats/ggml/encode.hpp"
#include "fewbit/quantize/quantize.hpp"

using namespace fewbit;
using testing::gaussian_matrix;

namespace {

std::vector<float> importance_of(std::size_t k, unsigned seed) {
    std::mt19937 random(seed);
    std::vector<float> v(k);
    for (float& value : v) value = static_cast<float>(random() % 1000) / 100.0f;
    return v;
}

/// sum v (w - w^)^2 of one block.
double block_error(const Matrix& w, const QuantizedMatrix& q, std::size_t r, std::size_t first,
                   std::size_t count, std::span<const float> importance) {
    std::vector<float> values(count);
    q.dequantize(r, first, values);
    double sum = 0;
    for (std::size_t i = 0; i < count; ++i) {
        const double e = static_cast<double>(w(r, first + i)) - static_cast<double>(values[i]);
        sum += (importance.empty() ? 1.0 : static_cast<double>(importance[first + i])) * e * e;
    }
    return sum;
}

QuantizedMatrix quantized(const Matrix& w, ggml::BlockType type, const Method& method,
                          ExecutionContext context = {}) {
    auto result = quantize(w.view(), {}, block_format(type), method, context);
    REQUIRE(result);
    return result->linear.weights;
}

}  // namespace

TEST_CASE("rtn in blocks is the reference encoder, for any number of threads") {
    ThreadPool pool(3);
    const Matrix w = gaussian_matrix(70, 512, 1);
    const std::vector<float> importance = importance_of(512, 2);
    for (const ggml::BlockTraits& t : ggml::block_types)
        for (const bool weighted : {false, true}) {
            INFO(t.name << (weighted ? " with importance" : ""));
            RtnOptions options;
            if (weighted) options.importance = importance;
            const QuantizedMatrix one = quantized(w, t.type, options);
            const QuantizedMatrix three = quantized(w, t.type, options, pool);
            CHECK(std::ranges::equal(one.blocks.bytes(), three.blocks.bytes()));
            std::vector<std::uint8_t> row(ggml::row_bytes(t.type, 512));
            for (std::size_t r = 0; r < 70; ++r) {
                ggml::encode_row(t.type, w.row(r), options.importance, row);
                const auto bytes = std::as_bytes(std::span(row));
                CHECK(std::ranges::equal(one.blocks.bytes().subspan(r * row.size(), row.size()), bytes));
            }
        }
}

TEST_CASE("mse in blocks: no block is worse than rtn's, and no single code could be better") {
    ThreadPool pool(3);
    const Matrix w = gaussian_matrix(8, 768, 3);
    const std::vector<float> importance = importance_of(768, 4);
    for (const ggml::BlockTraits& t : ggml::block_types)
        for (const bool weighted : {false, true}) {
            INFO(t.name << (weighted ? " with importance" : ""));
            RtnOptions plain;
            MseOptions searched;
            if (weighted) plain.importance = searched.importance = importance;
            const QuantizedMatrix rtn = quantized(w, t.type, plain), mse = quantized(w, t.type, searched);
            CHECK(
                std::ranges::equal(mse.blocks.bytes(), quantized(w, t.type, searched, pool).blocks.bytes()));
            double before = 0, after = 0;
            for (std::size_t r = 0; r < 8; ++r)
                for (std::size_t k = 0; k < 768; k += t.elements) {
                    const double old = block_error(w, rtn, r, k, t.elements, plain.importance);
                    const double now = block_error(w, mse, r, k, t.elements, plain.importance);
                    // The bound of two double sums of the same terms.
                    CHECK(now <= old * (1 + 1e-12));
                    before += old;
                    after += now;
                }
            // Gaussian weights leave something to find, but in q8_k, which has no f16 number, and in q1_0,
            // whose mean magnitude is the best already.
            if (t.type != ggml::BlockType::q8_k && (weighted || t.type != ggml::BlockType::q1_0))
                CHECK(after < before);

            std::vector<std::uint8_t> codes(768);
            for (std::size_t r = 0; r < 8; ++r) {
                mse.unpack(r, 0, codes);
                std::size_t worse = 0;
                for (std::size_t k = 0; k < 768 && t.type != ggml::BlockType::q8_k; ++k) {
                    const std::size_t g = k / t.group;
                    const auto value = [&](int code) {
                        return static_cast<double>(mse.scale(r, g)) *
                                   static_cast<double>(mse.level(r, g, static_cast<std::uint8_t>(code))) +
                               static_cast<double>(mse.offset(r, g));
                    };
                    const auto x = static_cast<double>(w(r, k));
                    const double chosen = std::fabs(value(codes[k]) - x);
                    for (int other = 0; other < (1 << t.bits); ++other) {
                        if (t.type == ggml::BlockType::tq1_0 || t.type == ggml::BlockType::tq2_0)
                            if (other == 3) continue;  // no value of the type
                        worse += std::fabs(value(other) - x) < chosen * (1 - 1e-6) - 1e-9;
                    }
                }
                CHECK(worse == 0);
            }
        }
}

TEST_CASE("blocks of nothing, of one value and of tiny values are stored without harm") {
    for (const ggml::BlockTraits& t : ggml::block_types)
        for (const float value : {0.0f, -0.0f, 1.0f, -3.0f, 1e-30f, 1e-42f, 6e-6f})
            for (const Method& method : {Method(RtnOptions{}), Method(MseOptions{})}) {
                INFO(t.name << " " << value << " " << name(method));
                Matrix w(2, t.elements);
                for (float& each : w.values()) each = value;
                const auto result = quantize(w.view(), {}, block_format(t.type), method);
                REQUIRE(result);
                CHECK(result->report.zero_groups == (value == 0 ? result->report.groups : 0));
                std::vector<float> back(t.elements);
                result->linear.weights.dequantize(1, 0, back);
                // Scales below the normal range of f16 are off by up to 2^-25, which codes of up to 2^7
                // multiply.
                for (const float each : back) CHECK(std::fabs(each - value) <= std::fabs(value) + 0x1p-18f);
            }
}

TEST_CASE("what blocks cannot hold is said in a sentence") {
    const Format q4_k = block_format(ggml::BlockType::q4_k), q8_0 = block_format(ggml::BlockType::q8_0);
    const auto message = [](const Matrix& w, const Format& format, const RtnOptions& options) {
        const auto result = quantize_rtn(w.view(), format, options);
        return result ? std::string("no error") : result.error().message;
    };
    CHECK(message(Matrix(2, 172), q4_k, {.tensor = "wq"}) ==
          "tensor 'wq': K = 172: q4_k is stored in blocks of 256 weights and needs a multiple of 256");
    Matrix w(2, 256);
    w(1, 7) = std::numeric_limits<float>::infinity();
    CHECK(message(w, q4_k, {}) == "weight [1, 7] is infinity");
    w(1, 7) = 1e9f;
    CHECK(message(w, q8_0, {.tensor = "wq"}).starts_with("tensor 'wq': weight [1, "));
    CHECK(quantize_mse(w.view(), q8_0).error().message.find("is too large for its type") !=
          std::string::npos);
    w(1, 7) = 1;
    const std::vector<float> short_one(255, 1.0f);
    CHECK(message(w, q4_k, {.tensor = {}, .importance = short_one}) ==
          "the importance has 255 values for 256 input channels");
    std::vector<float> bad(256, 1.0f);
    for (const float value :
         {-1.0f, std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
        bad[9] = value;
        CHECK(message(w, q4_k, {.tensor = {}, .importance = bad})
                  .starts_with("the importance of input channel 9 is "));
    }
    CHECK(quantize_rtn(Matrix(0, 256).view(), q4_k));
    CHECK(quantize_rtn(Matrix(3, 0).view(), q4_k));
}
