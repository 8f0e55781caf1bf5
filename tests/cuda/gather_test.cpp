// Rows of packed matrices as floats, the kernel run on the host lane by lane, against what the format says.
#include <cmath>
#include <limits>
#include <vector>

#include "cuda/host_product.hpp"

using namespace fewbit;
using namespace fewbit::testing;

TEST_CASE("cuda embed: rows are what the matrix says, tokens that are none become NaN", "[cuda]") {
    std::uint64_t seed = 1;
    for (const char* format : {"int4-g128",
                               "int4-g32-asym",
                               "int4-g96-fzero-sbf16",
                               "int4-channel-narrow",
                               "int8-g32",
                               "int8-channel-asym",
                               "int8-tensor-fzero",
                               "nf4-g64",
                               "e2m1-g32-se8m0",
                               "int3-g32",
                               "int5-channel-asym",
                               "q5_1",
                               "q4_k",
                               "int4-g64-dq",
                               "q4_0",
                               "q4_1",
                               "q8_0",
                               "iq4_nl",
                               "mxfp4",
                               "fp8-e4m3-channel",
                               "mxfp8"})
        for (const std::size_t k : {std::size_t{1}, std::size_t{100}, std::size_t{320}, std::size_t{512}}) {
            if (!validate_columns(*parse_format(format), k)) continue;
            INFO(format << ", " << k << " columns");
            const std::size_t n = 37;
            const Matrix drawn = gaussian_matrix(n, k, ++seed);
            const auto quantized = quantize_rtn(drawn.view(), *parse_format(format));
            REQUIRE(quantized);
            const QuantizedMatrix& matrix = quantized->linear.weights;
            const auto packed = pack_mma16(matrix);
            REQUIRE(packed);
            const bool all = seed % 2 == 0;  // without tokens: the first rows
            const std::vector<std::int32_t> tokens =
                all ? std::vector<std::int32_t>{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17}
                    : std::vector<std::int32_t>{36, 0, 8, 8, 15, 16, -1, 37, 2147483647, 23};
            std::vector<float> y(tokens.size() * (k + 3), -12345.0f);
            decoding::GatherCall call{};
            call.codes = packed->codes.bytes().data(), call.scales = packed->scales.bytes().data(),
            call.offsets = packed->offsets.bytes().data();
            call.rows = all ? nullptr : tokens.data(), call.y = y.data(), call.y_stride = k + 3;
            call.n = static_cast<std::uint32_t>(n), call.k = static_cast<std::uint32_t>(k);
            call.chunks = static_cast<std::uint32_t>(packed->chunks),
            call.groups = static_cast<std::uint32_t>(packed->groups);
            call.halves_per_group = mma16::Divisor::of(static_cast<std::uint32_t>(packed->halves_per_group));
            call.kind = packed->kind();
            call.zero = packed->format.offset == Offset::integer ? decoding::Zero::integer
                        : packed->format.offset == Offset::real  ? decoding::Zero::real
                                                                 : decoding::Zero::middle;
            const Scalar scale = packed->scales.type();
            call.scale_type = scale == Scalar::f32    ? decoding::Number::f32
                              : scale == Scalar::f16  ? decoding::Number::f16
                              : scale == Scalar::bf16 ? decoding::Number::bf16
                                                      : decoding::Number::e8m0;
            call.y_type = decoding::Number::f32;
            if (call.kind == mma16::Codes::table4) std::ranges::copy(packed->format.codebook(), call.table);
            for (unsigned b = 0; b < tokens.size(); ++b) decoding::gather_row(call, HostBlock(b, 1));
            std::vector<float> row(k);
            for (std::size_t t = 0; t < tokens.size(); ++t) {
                const float* const got = y.data() + t * (k + 3);
                for (std::size_t i = k; i < k + 3; ++i) CHECK(got[i] == -12345.0f);
                if (tokens[t] < 0 || tokens[t] >= static_cast<std::int32_t>(n)) {
                    for (std::size_t i = 0; i < k; ++i) CHECK(std::isnan(got[i]));
                    continue;
                }
                matrix.dequantize(static_cast<std::size_t>(tokens[t]), 0, row);
                std::size_t wrong = 0;
                // A product and a sum, each rounded, of numbers at most twice as large as the largest of the row.
                float most = 0;
                for (const float value : row) most = std::max(most, std::fabs(value));
                for (std::size_t i = 0; i < k; ++i)
                    wrong += !(std::fabs(got[i] - row[i]) <= 4 * 0x1p-24f * most);
                CHECK(wrong == 0);
            }
        }
}
