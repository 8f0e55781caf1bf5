// Quantizing and packing on a GPU: the bytes of the CPU, for every format, type and odd shape; what cannot be quantized is said; and
// what dequantize() makes of the codes.
#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "fewbit/cuda/quantize.hpp"
#include "fewbit/formats/format_name.hpp"
#include "fewbit/quantize/rtn.hpp"
#include "gpu/gpu_support.hpp"
#include "support/random.hpp"

namespace fewbit::testing {
namespace {

/// (A tensor that was never made has no bytes, but its copy on a device is one number.)
bool same(const Tensor& device, const Tensor& host, const std::string& what) {
    const Tensor copy = must(cuda::to_host(device), what);
    return copy.shape() == host.shape() && copy.type() == host.type() &&
           (host.bytes().empty() || std::ranges::equal(copy.bytes(), host.bytes()));
}

void expect_same(const Mma16Matrix& got, const Mma16Matrix& wanted, const std::string& what) {
    expect(got.format == wanted.format && got.n == wanted.n && got.k == wanted.k &&
               got.groups == wanted.groups && got.halves_per_group == wanted.halves_per_group,
           what + ": another matrix");
    expect(same(got.scales, wanted.scales, what), what + ": other scales");
    expect(same(got.offsets, wanted.offsets, what), what + ": other offsets");
    expect(same(got.codes, wanted.codes, what), what + ": other codes");
}

/// Groups that are hard: of zeros, constant, tiny, with one outlier, negative, ties, over many powers of two.
Matrix hard_weights(std::size_t n, std::size_t k, std::uint64_t seed) {
    Matrix w = gaussian_matrix(n, k, seed);
    for (std::size_t c = 0; c < k; ++c) {
        if (n > 1) w(1, c) = 0;
        if (n > 2) w(2, c) = -0.75f;
        if (n > 3) w(3, c) *= 1e-7f;
        if (n > 4) w(4, c) = -std::fabs(w(4, c));
        if (n > 5) w(5, c) = static_cast<float>(c % 29) - 14.5f;
        if (n > 6) w(6, c) = c % 2 == 0 ? -0.0f : 0.0f;
        if (n > 7)  // down to what small floats hold with fewer bits
            w(7, c) = std::ldexp(1 + 0.125f * static_cast<float>(c % 8), -static_cast<int>(c % 19));
    }
    if (n > 0 && k > 0) w(0, k / 2) = 50;
    return w;
}

void check_one(const Format& format, Scalar type, std::size_t n, std::size_t k, std::uint64_t seed) {
    const std::string what = text("quantizing ", n, " x ", k, " of ", name(type), " to ", name(format));
    const std::size_t stride = k + seed % 4;
    const Matrix drawn = hard_weights(n, k, seed);
    std::vector<float> padded(n * stride, 1e30f);  // what stands behind a row is nobody's weight
    for (std::size_t r = 0; r < n; ++r) std::copy_n(drawn.row(r).data(), k, padded.data() + r * stride);
    const Tensor host = tensor_of(padded, type, {n, stride});
    const std::vector<float> rounded = floats_of(host);
    Matrix w(n, k);
    for (std::size_t r = 0; r < n; ++r)
        for (std::size_t c = 0; c < k; ++c) w(r, c) = rounded[r * stride + c];
    Tensor device = must(cuda::to_device(host), what);
    const auto quantized = must(quantize_rtn(w.view(), format), what);
    const QuantizedMatrix& matrix = quantized.linear.weights;
    const Mma16Matrix wanted = must(pack_mma16(matrix), what);
    expect_same(must(cuda::pack(matrix), what), wanted, "packing, " + what);
    if (format.double_quantized() || format.is_block()) {
        expect(!cuda::quantize({device.mutable_bytes().data(), type, n, k, stride}, format),
               what + ": refused");
        return;
    }
    const Mma16Matrix got =
        must(cuda::quantize({device.mutable_bytes().data(), type, n, k, stride}, format), what);
    expect_same(got, wanted, what);
    if (n == 0 || k == 0) return;
    Tensor y = must(cuda::allocate(Scalar::f32, {n, k}), what);
    const auto done = cuda::dequantize(got, {y.mutable_bytes().data(), Scalar::f32, n, k, k}, {});
    expect(done.has_value(), what + ": " + (done ? std::string() : done.error().message));
    const std::vector<float> back = floats_of(must(cuda::to_host(y), what));
    std::vector<float> row(k);
    double worst = 0;
    for (std::size_t r = 0; r < n; ++r) {
        matrix.dequantize(r, 0, row);
        float most = 1e-30f;
        for (const float value : row) most = std::max(most, std::fabs(value));
        // A product and a sum, each rounded, of numbers at most twice as large as the largest of the row.
        for (std::size_t c = 0; c < k; ++c)
            worst = std::max(
                worst, static_cast<double>(std::fabs(back[r * k + c] - row[c]) / (4 * 0x1p-24f * most)));
    }
    expect(worst <= 1, text(what, ": back within ", worst, " times what is allowed"));
}

void check_refused(const char* format, float value, const char* word) {
    const std::string what = text("quantizing ", value, " to ", format);
    std::vector<float> w(3 * 64, 0.5f);
    w[1 * 64 + 40] = value;
    Tensor device = must(cuda::to_device(tensor_of(w, Scalar::f32, {3, 64})), what);
    const auto got =
        cuda::quantize({device.mutable_bytes().data(), Scalar::f32, 3, 64, 64}, *parse_format(format));
    expect(!got && got.error().message.find(word) != std::string::npos &&
               got.error().message.find("row 1, group 1") != std::string::npos,
           what + ": " + (got ? "taken" : got.error().message));
}

}  // namespace

void check_quantize(bool small) {
    std::uint64_t seed = 1;
    const std::vector<std::pair<std::size_t, std::size_t>> sizes =
        small ? std::vector<std::pair<std::size_t, std::size_t>>{{9, 100}, {17, 32}, {3, 0}, {0, 64}}
              : std::vector<std::pair<std::size_t, std::size_t>>{
                    {1, 1}, {9, 100}, {17, 32}, {3, 0}, {0, 64}, {33, 1000}, {513, 4096}, {100, 4097}};
    for (const char* format : {"int4-g128",
                               "int4-g32",
                               "int4-g64-asym",
                               "int4-g96-fzero",
                               "int4-channel-narrow",
                               "int4-g32-sbf16",
                               "int3-g64",
                               "int2-g32-asym",
                               "int8-channel",
                               "int8-tensor",
                               "int8-g32-asym",
                               "int5-channel-asym",
                               "int6-g64-fzero-sf32",
                               "nf4-g64",
                               "nf4-g64-dq",
                               "e2m1-g32-se8m0",
                               "iq4-g32-sbf16",
                               "nf4-tensor",
                               "fp8-e4m3-channel",
                               "fp8-e4m3-tensor",
                               "fp8-e4m3-g32-se8m0",
                               "q4_k",
                               "q8_0",
                               "mxfp4"})
        for (const Scalar type : {Scalar::f32, Scalar::f16, Scalar::bf16})
            for (const auto& [n, k] : sizes)
                if (validate_columns(*parse_format(format), k))
                    check_one(*parse_format(format), type, n, k, ++seed);
    check_refused("int4-g32", std::numeric_limits<float>::quiet_NaN(), "NaN");
    check_refused("int4-g32", -std::numeric_limits<float>::infinity(), "NaN or infinite");
    check_refused("int4-g32-sf16", 1e7f, "f16");
}

}  // namespace fewbit::testing
