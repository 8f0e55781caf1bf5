// QuantizedMatrix and Linear: shapes of the parameters, decoding by hand, assembling from parts, bits.
#include "fewbit/formats/quantized_matrix.hpp"

#include <cmath>
#include <vector>

#include "fewbit/formats/linear.hpp"
#include "support/all_formats.hpp"
#include "support/catch.hpp"
#include "support/random.hpp"

using namespace fewbit;

TEST_CASE("quantized matrix: parameters of every format have the documented shapes", "[formats][matrix]") {
    auto formats = testing::all_formats({8, 37});
    const auto others = testing::codebook_and_dq_formats({8, 37});
    formats.insert(formats.end(), others.begin(), others.end());
    for (const Format& format : formats)
        for (const auto& [n, k] :
             std::vector<std::pair<std::size_t, std::size_t>>{{3, 40}, {1, 1}, {0, 5}, {5, 0}, {0, 0}}) {
            INFO(name(format) << " " << n << " x " << k);
            auto matrix = QuantizedMatrix::allocate(format, n, k);
            REQUIRE(matrix);
            const std::size_t scales = format.scales(n, k);
            CHECK(matrix->scale_rows() * matrix->scale_cols() == scales);
            CHECK(matrix->scales.elements() == scales);
            CHECK(matrix->zeros.rows() * matrix->zeros.cols() ==
                  (format.offset == Offset::integer && !format.is_float() ? scales : 0));
            CHECK(matrix->row_scales.elements() == (format.double_quantized() && scales != 0 ? n : 0));
            CHECK(matrix->offsets.elements() ==
                  (format.offset == Offset::real && !format.is_float() ? scales : 0));
            // Zeroed, so every value decodes to a finite number.
            std::vector<float> row(k);
            for (std::size_t r = 0; r < n; ++r) {
                matrix->dequantize(r, 0, row);
                for (const float value : row)  // e8m0 has no 0: its smallest number
                    CHECK(std::abs(value) <= (format.scale == Scalar::e8m0 ? 0x1p-127f : 0.0f));
            }
            // Taking it apart and putting it together changes nothing.
            CHECK(QuantizedMatrix::assemble(format, n, k, matrix->codes, matrix->scales, matrix->zeros,
                                            matrix->offsets, matrix->row_scales));
        }
}

TEST_CASE("quantized matrix: codebooks and doubly quantized scales decode to scale * table[code]",
          "[formats][matrix]") {
    testing::Random random(4);
    for (const Format& format : testing::codebook_and_dq_formats({8, 300})) {
        INFO(name(format));
        const std::size_t n = 3, k = 613;
        auto matrix = QuantizedMatrix::allocate(format, n, k);
        REQUIRE(matrix);
        std::vector<std::uint8_t> codes(k);
        for (auto& code : codes)
            code = static_cast<std::uint8_t>(random.below(static_cast<std::size_t>(format.max_code()) + 1));
        for (std::size_t r = 0; r < n; ++r) matrix->codes.pack_row(r, codes);
        for (std::size_t r = 0; r < matrix->scale_rows(); ++r) {
            if (format.double_quantized()) matrix->set_row_scale(r, 0.125f);
            for (std::size_t g = 0; g < matrix->scale_cols(); ++g)
                matrix->set_scale(r, g, std::ldexp(1.0f, static_cast<int>((r + g) % 5)));
        }
        std::size_t wrong = 0;
        for (const std::size_t first : {0, 1, 255, 300, 612}) {
            std::vector<float> out(k - first);
            matrix->dequantize(n - 1, first, out);
            for (std::size_t i = 0; i < out.size(); ++i) {
                const std::size_t g =
                    format.granularity == Granularity::tensor ? 0 : (first + i) / format.group_elements(k);
                const std::size_t r = format.granularity == Granularity::tensor ? 0 : n - 1;
                const float scale = std::ldexp(1.0f, static_cast<int>((r + g) % 5));
                const float level = format.is_codebook()
                                        ? format.codebook()[codes[first + i]]
                                        : static_cast<float>(codes[first + i] - matrix->zero(n - 1, g));
                const float expected = scale * level;
                wrong += !(out[i] == expected || (std::isnan(out[i]) && std::isnan(expected)));
                wrong += matrix->scale(n - 1, g) != scale;
            }
        }
        CHECK(wrong == 0);
    }
}

TEST_CASE("quantized matrix: decodes as the head of format.hpp says, from any offset", "[formats][matrix]") {
    testing::Random random(3);
    for (const Format& format : testing::all_formats({8, 300})) {
        if (format.is_float()) continue;
        INFO(name(format));
        const std::size_t n = 3, k = 613;
        auto matrix = QuantizedMatrix::allocate(format, n, k);
        REQUIRE(matrix);
        std::vector<std::vector<std::uint8_t>> codes(n, std::vector<std::uint8_t>(k));
        for (std::size_t r = 0; r < n; ++r) {
            for (auto& code : codes[r])
                code =
                    static_cast<std::uint8_t>(random.below(static_cast<std::size_t>(format.max_code()) + 1));
            matrix->codes.pack_row(r, codes[r]);
        }
        for (std::size_t r = 0; r < matrix->scale_rows(); ++r) {
            std::vector<std::uint8_t> zeros(matrix->scale_cols());
            for (std::size_t g = 0; g < matrix->scale_cols(); ++g) {
                zeros[g] =
                    static_cast<std::uint8_t>(random.below(static_cast<std::size_t>(format.max_code()) + 1));
                matrix->set_scale(r, g, static_cast<float>(random.uniform(0.01, 2)));
                if (format.offset == Offset::real)
                    matrix->set_offset(r, g, static_cast<float>(random.gaussian()));
            }
            if (format.offset == Offset::integer) matrix->zeros.pack_row(r, zeros);
        }
        std::size_t wrong = 0;
        for (std::size_t r = 0; r < n; ++r)
            for (const std::size_t first : {0, 1, 7, 256, 299, 301, 612}) {
                std::vector<float> out(k - first);
                matrix->dequantize(r, first, out);
                for (std::size_t i = 0; i < out.size(); ++i) {
                    const std::size_t g = (first + i) / format.group_elements(k);
                    const double scale = matrix->scale(r, g), code = codes[r][first + i];
                    const double expected = format.offset == Offset::real
                                                ? scale * code + matrix->offset(r, g)
                                                : scale * (code - matrix->zero(r, g));
                    wrong += std::abs(out[i] - expected) > std::ldexp(std::abs(expected) + scale * code, -23);
                }
            }
        CHECK(wrong == 0);
    }
}

TEST_CASE("quantized matrix: parts that do not fit are refused", "[formats][matrix]") {
    const Format format = *parse_format("int4-g32-asym");
    const auto whole = *QuantizedMatrix::allocate(format, 4, 70);
    const auto other = *QuantizedMatrix::allocate(*parse_format("int4-g16-asym"), 4, 70);
    const auto real = *QuantizedMatrix::allocate(*parse_format("int4-g16-fzero"), 4, 70);
    const auto refuses = [](const Result<QuantizedMatrix>& result, const char* what) {
        REQUIRE(!result);
        CHECK(result.error().message.find(what) != std::string::npos);
    };
    refuses(QuantizedMatrix::assemble(format, 5, 70, whole.codes, whole.scales, whole.zeros, {}), "codes");
    refuses(QuantizedMatrix::assemble(format, 4, 70, BitMatrix(), whole.scales, whole.zeros, {}), "codes");
    refuses(QuantizedMatrix::assemble(format, 4, 70, whole.codes, other.scales, whole.zeros, {}), "scales");
    refuses(QuantizedMatrix::assemble(format, 4, 70, whole.codes, whole.scales, other.zeros, {}),
            "zero points");
    refuses(QuantizedMatrix::assemble(real.format(), 4, 70, real.codes, real.scales, {}, {}), "offsets");
    Format impossible = format;
    impossible.bits = 12;
    refuses(QuantizedMatrix::assemble(impossible, 4, 70, whole.codes, whole.scales, whole.zeros, {}),
            "12 bits");
    CHECK(!QuantizedMatrix::allocate(format, std::size_t{1} << 40, std::size_t{1} << 40));
}

TEST_CASE("quantized matrix: float elements keep their bits", "[formats][matrix]") {
    const auto w = testing::gaussian_matrix(3, 41, 5);
    for (const Scalar type : {Scalar::f32, Scalar::f16, Scalar::bf16}) {
        auto matrix = float_matrix(w, type);
        REQUIRE(matrix);
        std::vector<float> out(40);
        for (std::size_t r = 0; r < 3; ++r) {
            matrix->dequantize(r, 1, out);
            for (std::size_t c = 0; c < 40; ++c) {
                const float x = w(r, c + 1);
                CHECK(out[c] == (type == Scalar::f32   ? x
                                 : type == Scalar::f16 ? float_from_f16(f16_from_float(x))
                                                       : float_from_bf16(bf16_from_float(x))));
            }
        }
    }
}

TEST_CASE("linear: everything optional counts in the bits", "[formats][linear]") {
    Linear linear;
    linear.weights = *QuantizedMatrix::allocate(*parse_format("int4-g32"), 64, 256);
    CHECK(std::abs(linear.bits_per_weight() - 4.5) < 1e-12);
    linear.bias.resize(64);
    CHECK(std::abs(linear.bits_per_weight() - (4.5 + 32.0 * 64 / (64 * 256))) < 1e-12);
    linear.transform.channel_scales.resize(256);
    linear.transform.permutation.resize(256);
    linear.columns.channels = {3, 9};
    linear.columns.values = *QuantizedMatrix::allocate(float_format(Scalar::f16), 64, 2);
    const double bits = 4.5 * 64 * 256 + 32.0 * (64 + 256 + 256 + 2) + 16.0 * 64 * 2;
    CHECK(std::abs(linear.total_bits() - bits) < 1e-6);
    CHECK(Linear().bits_per_weight() == 0.0);
}
