// What only a GPU can show of fewbit::cuda: the answers against sums in double precision, the same bits on every run,
// what lies beside y, graphs, refusals. Needs nothing but the CUDA runtime; scripts/gpu-check runs it.
// usage: fewbit_gpu_test [--small]     --small: shapes for compute-sanitizer and for the emulation (emulated/)
// Status: 0 all is right, 1 something is not, 77 there is no device.
#include <cuda_runtime_api.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "fewbit/cuda/matmul.hpp"
#include "fewbit/cuda/w8a8.hpp"
#include "fewbit/formats/format_name.hpp"
#include "fewbit/quantize/rtn.hpp"
#include "gpu/gpu_support.hpp"
#include "support/random.hpp"

using namespace fewbit;
using namespace fewbit::testing;

namespace {

double worst_nmse = 0;

struct Size {
    std::size_t m, n, k;
};

struct Case {
    const char* format;
    Scalar x = Scalar::f16, y = Scalar::f32;
    std::size_t m = 1, n = 16, k = 64;
    std::size_t x_padding = 0, y_padding = 0;  ///< elements behind each row
    int repeats = 2;
};

constexpr float poison = -12345.0f;

void check(const Case& c, std::uint64_t seed) {
    const std::string what = text(c.format, ", x ", name(c.x), ", y ", name(c.y), ", ", c.m, " x ", c.n,
                                  " x ", c.k, ", padded by ", c.x_padding, " and ", c.y_padding);
    const Matrix values = testing::gaussian_matrix(c.n, c.k, seed);
    const auto quantized = must(quantize_rtn(values.view(), *parse_format(c.format)), what);
    const QuantizedMatrix& w = quantized.linear.weights;
    const auto weights = must(cuda::to_device(must(pack_mma16(w), what)), what);
    const auto product = must(cuda::Product::create(weights, c.x, c.m), what);
    auto workspace = must(cuda::Workspace::create(product), what);

    const Matrix drawn = testing::gaussian_matrix(c.m, c.k, seed + 1);
    const std::size_t x_stride = c.k + c.x_padding, y_stride = c.n + c.y_padding;
    std::vector<float> x(c.m * x_stride, poison), bias(c.n);
    for (std::size_t t = 0; t < c.m; ++t) std::copy_n(drawn.row(t).data(), c.k, x.data() + t * x_stride);
    for (std::size_t r = 0; r < c.n; ++r) bias[r] = 0.25f * static_cast<float>(r % 5);
    const Tensor x_host = tensor_of(x, c.x, {c.m, x_stride});
    x = floats_of(x_host);  // as they were rounded
    Tensor x_device = must(cuda::to_device(x_host), what),
           bias_device = must(cuda::to_device(tensor_of(bias, Scalar::f32, {c.n})), what);

    Tensor first;
    for (int round = 0; round < c.repeats; ++round) {
        Tensor y_device =
            must(cuda::to_device(tensor_of(std::vector<float>(c.m * y_stride, poison), c.y, {c.m, y_stride})),
                 what);
        const auto report = product.run({x_device.mutable_bytes().data(), c.x, c.m, c.k, x_stride},
                                        {y_device.mutable_bytes().data(), c.y, c.m, c.n, y_stride},
                                        bias_device.as<float>().data(), workspace, {});
        if (!report) return expect(false, what + ": " + report.error().message);
        const Tensor y = must(cuda::to_host(y_device), what);
        if (round == 0) first = y;
        expect(std::memcmp(first.bytes().data(), y.bytes().data(), y.size_bytes()) == 0,
               text(what, ": run ", round, " gave other bits than the first"));
    }

    const std::vector<float> y = floats_of(first);
    std::vector<std::uint8_t> codes(c.k);
    const double unit = c.y == Scalar::f32 ? 0 : c.y == Scalar::f16 ? 0x1p-11 : 0x1p-8;  // of rounding y
    const double rounded_table = w.format().element == Element::nf4 ? 0x1p-11 : 0;  // nf4's numbers as f16
    double lost = 0, all = 0, worst = 0;
    for (std::size_t r = 0; r < c.n; ++r) {
        w.unpack(r, 0, codes);
        for (std::size_t t = 0; t < c.m; ++t) {
            double exact = static_cast<double>(bias[r]), magnitude = std::fabs(exact);
            for (std::size_t i = 0; i < c.k; ++i) {
                const std::size_t g = i / w.group_elements();
                const auto scale = static_cast<double>(w.scale(r, g)),
                           offset = static_cast<double>(w.offset(r, g));
                const double level = scale * static_cast<double>(w.level(r, g, codes[i])),
                             value = static_cast<double>(x[t * x_stride + i]);
                exact += (level + offset) * value;
                magnitude += (std::fabs(level) + std::fabs(offset)) * std::fabs(value);
            }
            const double error = static_cast<double>(y[t * y_stride + r]) - exact;
            // As in tests/cuda/decode_test.cpp; tensor cores round sums toward zero, which is twice as much.
            const double roundings =
                static_cast<double>(c.k) / 8 + 2 * static_cast<double>(weights.groups) + 20;
            const double allowed =
                (roundings * 0x1p-23 + rounded_table) * magnitude + unit * std::fabs(exact) + 0x1p-24;
            worst = std::max(worst, std::fabs(error) / allowed);
            lost += error * error;
            all += exact * exact;
        }
        for (std::size_t t = 0; t < c.m && r + 1 == c.n; ++t)
            for (std::size_t i = c.n; i < y_stride; ++i)
                if (y[t * y_stride + i] != floats_of(tensor_of({poison}, c.y, {1}))[0])
                    expect(false, what + ": wrote behind a row of y");
    }
    expect(worst <= 1, text(what, ": ", worst, " times the error that is allowed"));
    if (c.y == Scalar::f32 && all > 0) worst_nmse = std::max(worst_nmse, lost / all);
    expect(c.y != Scalar::f32 || all == 0 || lost / all <= 1e-6, text(what, ": NMSE ", lost / all));
}

/// W8A8: rows rounded as the CPU does it, exact sums of integers; of fp8 what tensor cores lose is at most 1e-6 of the square.
void check_w8a8(const char* format, Scalar type, const Size& size, std::uint64_t seed) {
    const auto [m, n, k] = size;
    const std::string what = text("W8A8 ", format, ", x ", name(type), ", ", m, " x ", n, " x ", k);
    const Matrix values = testing::gaussian_matrix(n, k, seed),
                 drawn = testing::gaussian_matrix(m, k, seed + 1);
    const auto quantized = must(quantize_rtn(values.view(), *parse_format(format)), what);
    const QuantizedMatrix& w = quantized.linear.weights;
    const auto weights = must(cuda::to_device(must(pack_mma16(w), what)), what);
    const auto product = must(cuda::W8A8Product::create(weights, m), what);
    const bool fp8 = product.activations() == Scalar::fp8_e4m3;
    auto workspace = must(cuda::Workspace::create(product), what);
    auto rows = must(cuda::RoundedRows::create(m, k, product.activations()), what);
    const std::size_t x_stride = k + seed % 3, y_stride = n + seed % 2 * 3;
    std::vector<float> x(m * x_stride, poison), bias(n);
    for (std::size_t t = 0; t < m; ++t) std::copy_n(drawn.row(t).data(), k, x.data() + t * x_stride);
    for (std::size_t r = 0; r < n; ++r) bias[r] = 0.25f * static_cast<float>(r % 5);
    const Tensor x_host = tensor_of(x, type, {m, x_stride});
    x = floats_of(x_host);
    Tensor x_device = must(cuda::to_device(x_host), what),
           bias_device = must(cuda::to_device(tensor_of(bias, Scalar::f32, {n})), what);
    Tensor first;
    for (int round = 0; round < 3; ++round) {
        Tensor y = must(
            cuda::to_device(tensor_of(std::vector<float>(m * y_stride, poison), Scalar::f32, {m, y_stride})),
            what);
        const auto rounded = rows.quantize({x_device.mutable_bytes().data(), type, m, k, x_stride}, {});
        if (!rounded) return expect(false, what + ": " + rounded.error().message);
        const auto report = product.run(rows, {y.mutable_bytes().data(), Scalar::f32, m, n, y_stride},
                                        bias_device.as<float>().data(), workspace, {});
        if (!report) return expect(false, what + ": " + report.error().message);
        const Tensor got = must(cuda::to_host(y), what);
        if (round == 0) first = got;
        expect(std::memcmp(first.bytes().data(), got.bytes().data(), got.size_bytes()) == 0,
               text(what, ": run ", round, " gave other bits than the first"));
    }
    const std::vector<float> y = floats_of(first);
    std::vector<std::uint8_t> codes(k);
    std::vector<double> numbers(m * k);  // of x, rounded, unscaled
    std::vector<float> scales(m);
    for (std::size_t t = 0; t < m; ++t) {
        float largest = 0;
        for (std::size_t i = 0; i < k; ++i) largest = std::max(largest, std::fabs(x[t * x_stride + i]));
        scales[t] = largest / (fp8 ? 448.0f : 127.0f);
        for (std::size_t i = 0; i < k && scales[t] > 0; ++i) {
            const float ratio = x[t * x_stride + i] / scales[t];
            numbers[t * k + i] = static_cast<double>(fp8 ? float_from_fp8_e4m3(fp8_e4m3_from_float(ratio))
                                                         : std::nearbyint(ratio));
        }
    }
    double worst = 0, lost = 0, all = 0;
    for (std::size_t r = 0; r < n; ++r) {
        w.unpack(r, 0, codes);
        for (std::size_t t = 0; t < m; ++t) {
            double sum = 0, of_x = 0;
            for (std::size_t i = 0; i < k; ++i) {
                sum += static_cast<double>(w.level(r, 0, codes[i])) * numbers[t * k + i];
                of_x += numbers[t * k + i];
            }
            const auto scale = k == 0 ? 0 : static_cast<double>(w.scale(r, 0)),
                       offset = k == 0 ? 0 : static_cast<double>(w.offset(r, 0)),
                       of_row = static_cast<double>(scales[t]), b = static_cast<double>(bias[r]);
            const double exact = of_row * (scale * sum + offset * of_x) + b;
            const double size_of =
                of_row * (scale * std::fabs(sum) + std::fabs(offset * of_x)) + std::fabs(b);
            const double error = std::fabs(static_cast<double>(y[t * y_stride + r]) - exact);
            if (!fp8) worst = std::max(worst, error / (5 * 0x1p-24 * size_of + 1e-30));
            lost += error * error, all += exact * exact;
        }
    }
    expect(worst <= 1, text(what, ": ", worst, " times the error that is allowed"));
    expect(all == 0 || lost / all <= 1e-6, text(what, ": NMSE ", lost / all));
    for (std::size_t t = 0; t < m; ++t)
        for (std::size_t i = n; i < y_stride; ++i)
            expect(y[t * y_stride + i] == poison, what + ": wrote behind a row of y");
}

void check_graph() {
    const Matrix values = testing::gaussian_matrix(256, 1024, 5),
                 drawn = testing::gaussian_matrix(4, 1024, 6);
    const auto weights = must(
        cuda::to_device(must(
            pack_mma16(quantize_rtn(values.view(), *parse_format("int4-g128"))->linear.weights), "graph")),
        "graph");
    const auto product = must(cuda::Product::create(weights, Scalar::f16, 4), "graph");
    auto workspace = must(cuda::Workspace::create(product), "graph");
    const std::vector<float> x(drawn.values().begin(), drawn.values().end());
    Tensor x_device = must(cuda::to_device(tensor_of(x, Scalar::f16, {4, 1024})), "graph");
    Tensor plain = must(cuda::allocate(Scalar::f32, {4, 256}), "graph"),
           replayed = must(cuda::allocate(Scalar::f32, {4, 256}), "graph");
    cudaStream_t stream = nullptr;
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t ready = nullptr;
    expect(cudaStreamCreate(&stream) == cudaSuccess, "graph: a stream");
    const auto run = [&](Tensor& y) {
        expect(product
                   .run({x_device.mutable_bytes().data(), Scalar::f16, 4, 1024, 1024},
                        {y.mutable_bytes().data(), Scalar::f32, 4, 256, 256}, nullptr, workspace,
                        cuda::Stream{stream})
                   .has_value(),
               "graph: run");
    };
    run(plain);
    expect(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal) == cudaSuccess, "graph: begin");
    for (int i = 0; i < 8; ++i) run(replayed);
    expect(cudaStreamEndCapture(stream, &graph) == cudaSuccess, "graph: end");
    expect(cudaGraphInstantiate(&ready, graph, 0) == cudaSuccess, "graph: instantiate");
    for (int i = 0; i < 3; ++i) expect(cudaGraphLaunch(ready, stream) == cudaSuccess, "graph: launch");
    expect(cudaStreamSynchronize(stream) == cudaSuccess, "graph: synchronize");
    const Tensor a = must(cuda::to_host(plain), "graph"), b = must(cuda::to_host(replayed), "graph");
    expect(std::memcmp(a.bytes().data(), b.bytes().data(), a.size_bytes()) == 0,
           "a graph gives the bits of a call");
    cudaGraphExecDestroy(ready), cudaGraphDestroy(graph), cudaStreamDestroy(stream);
}

/// Products of other shapes and numbers of rows take turns with one workspace, made for the largest: each gives the bits that it
/// gives with a workspace of its own.
void check_shared_workspace(bool small) {
    struct One {
        std::size_t m, n, k;
        cuda::Product product;
        Tensor x, y;
    };
    std::vector<One> all;
    const std::vector<Size> sizes =
        small ? std::vector<Size>{{70, 272, 640}, {1, 48, 1024}, {33, 256, 512}, {12, 256, 128}}
              : std::vector<Size>{{200, 8192, 1024}, {1, 48, 4096}, {33, 1024, 2048}, {12, 4096, 512}};
    for (const auto& [m, n, k] : sizes) {
        const Matrix values = testing::gaussian_matrix(n, k, n), drawn = testing::gaussian_matrix(m, k, m);
        const auto weights =
            must(cuda::to_device(
                     must(pack_mma16(quantize_rtn(values.view(), *parse_format("int4-g64"))->linear.weights),
                          "shared")),
                 "shared");
        const std::vector<float> x(drawn.values().begin(), drawn.values().end());
        all.push_back({m, n, k, must(cuda::Product::create(weights, Scalar::f16, m), "shared"),
                       must(cuda::to_device(tensor_of(x, Scalar::f16, {m, k})), "shared"),
                       must(cuda::allocate(Scalar::f32, {m, n}), "shared")});
    }
    const auto run = [](One& one, cuda::Workspace& workspace) {
        const auto report = one.product.run({one.x.mutable_bytes().data(), Scalar::f16, one.m, one.k, one.k},
                                            {one.y.mutable_bytes().data(), Scalar::f32, one.m, one.n, one.n},
                                            nullptr, workspace, {});
        expect(report.has_value(), "shared workspace: " + (report ? std::string() : report.error().message));
        return must(cuda::to_host(one.y), "shared");
    };
    std::vector<Tensor> alone;
    for (One& one : all) {
        auto own = must(cuda::Workspace::create(one.product), "shared");
        alone.push_back(run(one, own));
    }
    auto shared = must(cuda::Workspace::create(all[0].product), "shared");
    for (int round = 0; round < 3; ++round)
        for (std::size_t i = 0; i < all.size(); ++i) {
            const Tensor y = run(all[i], shared);
            expect(std::memcmp(y.bytes().data(), alone[i].bytes().data(), y.size_bytes()) == 0,
                   text("shared workspace: product ", i, " gave other bits in round ", round));
        }
}

/// Whether this device and build multiply fp8; where not, that has to be said.
bool has_fp8() {
    const auto w = must(QuantizedMatrix::allocate(*parse_format("fp8-e4m3-channel"), 16, 32), "fp8");
    const auto product =
        cuda::W8A8Product::create(must(cuda::to_device(must(pack_mma16(w), "fp8")), "fp8"), 1);
    expect(product || product.error().message.find("sm_89") != std::string::npos,
           "where there is no fp8, the device is named");
    return product.has_value();
}

void check_refusals() {
    const auto weights =
        must(cuda::to_device(must(pack_mma16(*QuantizedMatrix::allocate(*parse_format("int4-g128"), 32, 128)),
                                  "refusals")),
             "refusals");
    const auto other = cuda::Product::create(weights, Scalar::f32, 1);
    expect(!other && other.error().message.find("f32") != std::string::npos,
           "x of f32 is refused, not rounded");
    auto product = must(cuda::Product::create(weights, Scalar::bf16, 2), "refusals");
    auto workspace = must(cuda::Workspace::create(product), "refusals");
    Tensor memory = must(cuda::allocate(Scalar::f32, {1024}), "refusals");
    void* const at = memory.mutable_bytes().data();
    expect(!product.run({at, Scalar::f16, 1, 128, 128}, {at, Scalar::f32, 1, 32, 32}, nullptr, workspace, {}),
           "x of another type");
    expect(
        !product.run({at, Scalar::bf16, 3, 128, 128}, {at, Scalar::f32, 3, 32, 32}, nullptr, workspace, {}),
        "too many rows");
    expect(!product.run({at, Scalar::bf16, 1, 64, 64}, {at, Scalar::f32, 1, 32, 32}, nullptr, workspace, {}),
           "another K");
    expect(!product.run({at, Scalar::bf16, 1, 128, 128}, {at, Scalar::u8, 1, 32, 32}, nullptr, workspace, {}),
           "y of integers");
    expect(!cuda::W8A8Product::create(weights, 1), "W8A8 with codes of 4 bits");
    expect(!cuda::RoundedRows::create(1, 100000), "W8A8 with rows whose sums leave int32");
    expect(!cuda::RoundedRows::create(1, 128, Scalar::f16), "rows rounded to f16");
    const auto empty =
        product.run({at, Scalar::bf16, 0, 128, 128}, {at, Scalar::f32, 0, 32, 32}, nullptr, workspace, {});
    expect(empty.has_value(), "no rows are no work");
}

}  // namespace

int main(int argc, char** argv) {
    const bool small = argc > 1 && std::strcmp(argv[1], "--small") == 0;
    const auto device = cuda::current_device();
    if (!device) {
        std::printf("SKIPPED: %s\n", device.error().message.c_str());
        return 77;
    }
    std::printf("%s, sm_%d%d, %d multiprocessors\n", device->name.c_str(), device->major, device->minor,
                device->multiprocessors);
    std::uint64_t seed = 1;
    const std::vector<Size> sizes =
        small ? std::vector<Size>{{1, 17, 100}, {9, 40, 700}, {70, 40, 320}}
              : std::vector<Size>{{1, 1, 1},        {1, 16, 64},     {3, 17, 100},    {8, 130, 1000},
                                  {2, 33, 0},       {9, 40, 4097},   {16, 257, 4096}, {5, 2048, 512},
                                  {17, 300, 1000},  {64, 513, 4096}, {40, 100, 200},  {65, 270, 1000},
                                  {300, 513, 4096}, {129, 40, 97},   {70, 33, 0}};
    for (const char* format : {"int4-g128",
                               "int4-g32",
                               "int4-g96-sbf16",
                               "int4-g64-asym",
                               "int4-g128-fzero",
                               "int4-channel",
                               "int8-g128",
                               "int8-channel",
                               "int8-g32-asym",
                               "int8-tensor",
                               "int8-g64-fzero-sbf16",
                               "nf4-g64",
                               "iq4-g32-sbf16",
                               "e2m1-g32-se8m0",
                               "q4_0",
                               "mxfp4",
                               "int3-g64",
                               "int5-channel-asym",
                               "q5_1",
                               "fp8-e4m3-channel",
                               "mxfp8"})
        for (const Scalar x : {Scalar::f16, Scalar::bf16})
            for (const auto& [m, n, k] : sizes) {
                if (!validate_columns(*parse_format(format), k)) continue;
                if (x == Scalar::bf16 && parse_format(format)->element == Element::nf4) continue;  // refused
                check({format, x,
                       seed % 3 == 0   ? Scalar::f16
                       : seed % 3 == 1 ? Scalar::f32
                                       : Scalar::bf16,
                       m, n, k, seed % 2 * 5, seed % 2 * 3},
                      seed);
                ++seed;
            }
    const std::vector<Size> w8a8_sizes =
        small ? std::vector<Size>{{1, 17, 100}, {70, 40, 96}, {140, 20, 300}, {2, 16, 0}}
              : std::vector<Size>{{1, 1, 1},        {3, 17, 100},     {64, 256, 512},
                                  {129, 300, 1000}, {300, 530, 4096}, {2, 16, 0}};
    for (const char* format :
         {"int8-channel", "int8-tensor", "int8-channel-asym", "int8-channel-fzero-sbf16", "fp8-e4m3-channel"})
        for (const Scalar x : {Scalar::f32, Scalar::f16, Scalar::bf16})
            for (const Size& size : w8a8_sizes) {
                ++seed;
                if (parse_format(format)->is_codebook() && !has_fp8()) continue;
                check_w8a8(format, x, size, seed);
            }
    if (!small) {
        check({"int4-g128", Scalar::f16, Scalar::f32, 1, 4096, 4096, 0, 0, 100}, ++seed);
        check({"int4-g32-asym", Scalar::bf16, Scalar::f32, 16, 4096, 2048, 8, 0, 100}, ++seed);
        check({"int8-channel", Scalar::f16, Scalar::f32, 7, 1024, 14336, 0, 0, 100}, ++seed);
        check({"int4-g128", Scalar::f16, Scalar::f32, 512, 1024, 4096, 0, 0, 100}, ++seed);
    }
    check_graph();
    check_shared_workspace(small);
    check_refusals();
    check_quantize(small);
    check_operators(small);
    check_transformer(small);
    std::printf("%d checks, %d failed; largest NMSE with y of f32 %.2e\n", checks, failures, worst_nmse);
    return failures == 0 ? 0 : 1;
}
