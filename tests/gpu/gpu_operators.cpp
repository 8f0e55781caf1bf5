// The operators of fewbit::cuda on a GPU: a decoder's row of them, token after token, against double precision; the same bits on every
// run, what lies behind rows, a graph that is replayed for the next token, refusals.
#include <cuda_runtime_api.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "fewbit/core/text.hpp"
#include "fewbit/cuda/operators.hpp"
#include "fewbit/formats/format_name.hpp"
#include "fewbit/quantize/rtn.hpp"
#include "gpu/gpu_support.hpp"
#include "support/random.hpp"

namespace fewbit::testing {
namespace {

constexpr float poison = -12345.0f;

/// Rows on the device with something behind them, and what they are as floats.
struct Rows {
    Scalar type;
    std::size_t rows, cols, stride;
    Tensor tensor;

    Rows(Scalar a_type, std::size_t a_rows, std::size_t a_cols, std::size_t padding,
         const Matrix* values = nullptr)
        : type(a_type), rows(a_rows), cols(a_cols), stride(a_cols + padding) {
        std::vector<float> floats(rows * stride, poison);
        for (std::size_t r = 0; values != nullptr && r < rows; ++r)
            std::copy_n(values->row(r).data(), cols, floats.data() + r * stride);
        tensor = must(cuda::to_device(tensor_of(floats, type, {rows, stride})), "rows");
    }
    cuda::View view() { return {tensor.mutable_bytes().data(), type, rows, cols, stride}; }
    [[nodiscard]] std::vector<float> floats() const { return floats_of(must(cuda::to_host(tensor), "rows")); }
};

void expect_done(const Result<void>& result, const std::string& what) {
    expect(result.has_value(), what + (result ? "" : ": " + result.error().message));
}
/// y (rows, stride) against exact values, allowed (relative, absolute), with poison behind rows.
void expect_near(const Rows& y, const std::vector<double>& exact, double relative, double absolute,
                 const std::string& what) {
    const std::vector<float> got = y.floats();
    const float behind = floats_of(tensor_of({poison}, y.type, {1}))[0];
    double worst = 0;
    for (std::size_t r = 0; r < y.rows; ++r) {
        for (std::size_t i = 0; i < y.cols; ++i) {
            const double e = exact[r * y.cols + i];
            worst = std::max(worst, std::fabs(static_cast<double>(got[r * y.stride + i]) - e) /
                                        (relative * std::fabs(e) + absolute));
        }
        for (std::size_t i = y.cols; i < y.stride; ++i)
            expect(got[r * y.stride + i] == behind, what + ": wrote behind a row");
    }
    expect(worst <= 1, text(what, ": ", worst, " times the error that is allowed"));
}

void check_norm_and_gate(std::size_t m, std::size_t n) {
    const Matrix h = gaussian_matrix(m, n, 1), d = gaussian_matrix(m, n, 2), g = gaussian_matrix(1, n, 3);
    Rows residual(Scalar::f32, m, n, 3, &h), delta(Scalar::f16, m, n, 1, &d), y(Scalar::f16, m, n, 2);
    const Rows gain(Scalar::f32, 1, n, 0, &g);
    const std::string what = text("norm of ", m, " x ", n);
    const cuda::View delta_view = delta.view();
    expect_done(
        cuda::rms_norm(residual.view(), &delta_view, gain.tensor.as<float>().data(), 1e-5f, y.view(), {}),
        what);
    const std::vector<float> rounded = delta.floats(), sums = residual.floats();
    std::vector<double> exact(m * n), gated(m * n);
    for (std::size_t r = 0; r < m; ++r) {
        double squares = 0;
        for (std::size_t i = 0; i < n; ++i) {
            const float sum = h(r, i) + rounded[r * delta.stride + i];
            expect(sums[r * residual.stride + i] == sum, what + ": the residual");
            squares += static_cast<double>(sum) * static_cast<double>(sum);
        }
        for (std::size_t i = 0; i < n; ++i) {
            exact[r * n + i] = static_cast<double>(sums[r * residual.stride + i]) /
                               std::sqrt(squares / static_cast<double>(n) + 1e-5) *
                               static_cast<double>(g(0, i));
            const auto x = static_cast<double>(h(r, i));
            gated[r * n + i] = x / (1 + std::exp(-x)) * static_cast<double>(d(r, i));
        }
    }
    expect_near(y, exact, 0x1p-11 + 1e-5, 0x1p-24, what);
    Rows gate(Scalar::f32, m, n, 0, &h), up(Scalar::f32, m, n, 5, &d), out(Scalar::bf16, m, n, 1);
    expect_done(cuda::silu_multiply(gate.view(), up.view(), out.view(), {}), text("SwiGLU of ", m, " x ", n));
    expect_near(out, gated, 0x1p-8 + 1e-6, 1e-30, text("SwiGLU of ", m, " x ", n));
}

/// Rows of a prompt, then single tokens, each by the same captured graph.
void check_attention(Scalar type, std::size_t heads, std::size_t kv_heads, std::size_t d, std::size_t prompt,
                     std::size_t tokens) {
    const std::string what = text("attention over ", name(type), ", ", heads, " over ", kv_heads,
                                  " heads of ", d, ", ", prompt, " + ", tokens);
    const std::size_t all = prompt + tokens, positions = all + 2, layers = 2, layer = 1;
    const Matrix q = gaussian_matrix(all, heads * d, 11), k = gaussian_matrix(all, kv_heads * d, 12),
                 v = gaussian_matrix(all, kv_heads * d, 13);
    auto cache = must(cuda::KvCache::create({layers, kv_heads, d, positions}, type), what);
    const Tensor turns = must(cuda::rope_turns(positions, d, 10000.0f), what);
    auto attention = must(cuda::Attention::create(cache, heads, std::max<std::size_t>(1, prompt)), what);

    // What the cache holds and what is asked, in double precision over rounded numbers.
    std::vector<double> queries(all * heads * d), keys(all * kv_heads * d), values = keys;
    const auto turn = [&](const Matrix& x, std::size_t p, std::size_t i) {
        const double angle = static_cast<double>(p) *
                             std::pow(10000.0, -static_cast<double>(i % d / 2 * 2) / static_cast<double>(d));
        const auto even = static_cast<double>(x(p, i / 2 * 2)),
                   odd = static_cast<double>(x(p, i / 2 * 2 + 1));
        return i % 2 == 0 ? even * std::cos(angle) - odd * std::sin(angle)
                          : even * std::sin(angle) + odd * std::cos(angle);
    };
    for (std::size_t p = 0; p < all; ++p) {
        for (std::size_t i = 0; i < heads * d; ++i) queries[p * heads * d + i] = turn(q, p, i);
        for (std::size_t i = 0; i < kv_heads * d; ++i)
            keys[p * kv_heads * d + i] = turn(k, p, i),
                                    values[p * kv_heads * d + i] = static_cast<double>(v(p, i));
    }
    std::vector<double> exact(all * heads * d);
    for (std::size_t p = 0; p < all; ++p)
        for (std::size_t h = 0; h < heads; ++h) {
            const std::size_t kv = h / (heads / kv_heads);
            std::vector<double> scores(p + 1);
            for (std::size_t s = 0; s <= p; ++s)
                for (std::size_t i = 0; i < d; ++i)
                    scores[s] += queries[p * heads * d + h * d + i] * keys[s * kv_heads * d + kv * d + i] /
                                 std::sqrt(static_cast<double>(d));
            const double most = *std::max_element(scores.begin(), scores.end());
            double sum = 0;
            for (double& s : scores) s = std::exp(s - most), sum += s;
            for (std::size_t s = 0; s <= p; ++s)
                for (std::size_t i = 0; i < d; ++i)
                    exact[p * heads * d + h * d + i] +=
                        scores[s] / sum * values[s * kv_heads * d + kv * d + i];
        }

    cudaStream_t stream = nullptr;
    expect(cudaStreamCreate(&stream) == cudaSuccess, what);
    const auto part_of = [](const Matrix& x, std::size_t first, std::size_t count) {
        Matrix out(count, x.cols());
        for (std::size_t r = 0; r < count; ++r)
            std::copy_n(x.row(first + r).data(), x.cols(), out.row(r).data());
        return out;
    };
    const auto step = [&](Rows& qs, Rows& ks, Rows& vs, Rows& rotated, Rows& out) {
        expect_done(cuda::rotate_and_store(qs.view(), ks.view(), vs.view(), turns, rotated.view(), cache,
                                           layer, cuda::Stream{stream}),
                    what);
        expect_done(attention.run(rotated.view(), cache, layer, positions, out.view(), cuda::Stream{stream}),
                    what);
        expect_done(cache.advance(qs.rows, cuda::Stream{stream}), what);
    };
    // f16 keeps 2^-11, bf16 2^-8, int8 1/254 of the largest of a head; scores add that up over a head.
    const double allowed = type == Scalar::f16 ? 4e-3 : type == Scalar::bf16 ? 3e-2 : 6e-2;
    std::vector<float> first;
    for (int round = 0; round < 2; ++round) {
        expect_done(cache.rewind(0, cuda::Stream{stream}), what);
        std::vector<float> got;
        if (prompt > 0) {
            const Matrix a = part_of(q, 0, prompt), b = part_of(k, 0, prompt), c = part_of(v, 0, prompt);
            Rows qs(Scalar::f32, prompt, heads * d, 1, &a), ks(Scalar::f32, prompt, kv_heads * d, 0, &b),
                vs(Scalar::f32, prompt, kv_heads * d, 2, &c), rotated(Scalar::f32, prompt, heads * d, 3),
                out(Scalar::f32, prompt, heads * d, 1);
            step(qs, ks, vs, rotated, out);
            expect(cudaStreamSynchronize(stream) == cudaSuccess, what);
            expect_near(out, {exact.begin(), exact.begin() + static_cast<std::ptrdiff_t>(prompt * heads * d)},
                        0, allowed, what + ", prompt");
            got = out.floats();
        }
        Rows qs(Scalar::f32, 1, heads * d, 0), ks(Scalar::f32, 1, kv_heads * d, 0),
            vs(Scalar::f32, 1, kv_heads * d, 0), rotated(Scalar::f32, 1, heads * d, 0),
            out(Scalar::f32, 1, heads * d, 0);
        cudaGraph_t graph = nullptr;
        cudaGraphExec_t ready = nullptr;
        expect(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal) == cudaSuccess, what);
        step(qs, ks, vs, rotated, out);
        expect(cudaStreamEndCapture(stream, &graph) == cudaSuccess, what);
        expect(cudaGraphInstantiate(&ready, graph, 0) == cudaSuccess, what);
        for (std::size_t t = prompt; t < all; ++t) {
            for (const auto& [to, from] : {std::pair{&qs, &q}, {&ks, &k}, {&vs, &v}})
                expect(
                    cudaMemcpyAsync(to->tensor.mutable_bytes().data(), from->row(t).data(),
                                    to->cols * sizeof(float), cudaMemcpyHostToDevice, stream) == cudaSuccess,
                    what);
            expect(cudaGraphLaunch(ready, stream) == cudaSuccess, what);
            expect(cudaStreamSynchronize(stream) == cudaSuccess, what);
            const auto at = exact.begin() + static_cast<std::ptrdiff_t>(t * heads * d);
            expect_near(out, {at, at + static_cast<std::ptrdiff_t>(heads * d)}, 0, allowed,
                        text(what, ", token ", t));
            const std::vector<float> floats = out.floats();
            got.insert(got.end(), floats.begin(), floats.end());
        }
        cudaGraphExecDestroy(ready), cudaGraphDestroy(graph);
        expect(round == 0 || std::memcmp(first.data(), got.data(), got.size() * sizeof(float)) == 0,
               what + ": the second run gave other bits");
        first = got;
    }
    cudaStreamDestroy(stream);
}

void check_embedding(const char* format) {
    const std::size_t n = 300, k = 640;
    const Matrix drawn = gaussian_matrix(n, k, 21);
    const auto quantized = must(quantize_rtn(drawn.view(), *parse_format(format)), format);
    const auto weights = must(cuda::to_device(must(pack_mma16(quantized.linear.weights), format)), format);
    const std::vector<std::int32_t> tokens{299, 0, 17, 17, -1, 300};
    Tensor host = must(Tensor::allocate(Scalar::i32, {tokens.size()}), format);
    std::copy(tokens.begin(), tokens.end(), host.as_mutable<std::int32_t>().begin());
    const Tensor device = must(cuda::to_device(host), format);
    Rows y(Scalar::f32, tokens.size(), k, 3);
    expect_done(cuda::embed(weights, device.as<std::int32_t>().data(), y.view(), {}), format);
    const std::vector<float> got = y.floats();
    std::vector<float> row(k);
    for (std::size_t t = 0; t < tokens.size(); ++t) {
        const bool there = tokens[t] >= 0 && tokens[t] < static_cast<std::int32_t>(n);
        if (there) quantized.linear.weights.dequantize(static_cast<std::size_t>(tokens[t]), 0, row);
        bool fine = true;
        for (std::size_t i = 0; i < k; ++i) {
            const float value = got[t * y.stride + i];
            fine = fine &&
                   (there ? std::fabs(value - row[i]) <= 1e-6f * (1 + std::fabs(row[i])) : std::isnan(value));
        }
        expect(fine, text("embedding of ", format, ", token ", tokens[t]));
    }
}

void check_refusals() {
    expect(!cuda::KvCache::create({1, 1, 12, 8}, Scalar::f16), "heads of 12");
    expect(!cuda::KvCache::create({1, 1, 8, 8}, Scalar::f32), "a cache of f32");
    auto cache = must(cuda::KvCache::create({1, 2, 8, 8}, Scalar::f16), "refusals");
    expect(!cuda::Attention::create(cache, 3, 1), "3 heads over 2");
    expect(!cache.rewind(9, {}), "a position behind the cache");
    Rows x(Scalar::f32, 1, 16, 0), other(Scalar::f16, 1, 16, 0), narrow(Scalar::f32, 1, 15, 1);
    const Tensor turns = must(cuda::rope_turns(8, 8, 10000.0f), "refusals");
    expect(!cuda::rotate_and_store(x.view(), x.view(), other.view(), turns, x.view(), cache, 0, {}),
           "q and v of two types");
    expect(!cuda::rotate_and_store(x.view(), x.view(), x.view(), turns, x.view(), cache, 1, {}),
           "a layer that is not there");
    expect(!cuda::silu_multiply(x.view(), narrow.view(), x.view(), {}), "gate and up of two shapes");
    expect(!cuda::rms_norm(other.view(), nullptr, turns.as<float>().data(), 1e-5f, x.view(), {}),
           "a residual of f16");
}

}  // namespace

void check_operators(bool small) {
    if (small) {
        check_norm_and_gate(2, 40);
        check_attention(Scalar::f16, 2, 1, 16, 3, 2);
        check_attention(Scalar::i8, 2, 2, 8, 2, 1);
        return;
    }
    for (const char* format : {"int4-g128", "int4-g32-asym", "int8-channel", "nf4-g64"})
        check_embedding(format);
    for (const std::size_t n : {std::size_t{1}, std::size_t{1000}, std::size_t{5632}})
        check_norm_and_gate(3, n);
    for (const Scalar type : {Scalar::f16, Scalar::bf16, Scalar::i8}) {
        check_attention(type, 32, 4, 64, 70, 3);
        check_attention(type, 10, 1, 128, 1, 2);
        check_attention(type, 4, 2, 200, 0, 5);
        check_attention(type, 8, 2, 64, 1100, 2);  // rows of one and of two runs
    }
    check_refusals();
}

}  // namespace fewbit::testing
