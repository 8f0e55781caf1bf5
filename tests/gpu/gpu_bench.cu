// fewbit::cuda against cuBLAS in FP16 and against the memory of the device, in one run: every product is checked first,
// weights rotate over 4 GB so that nothing stays in L2, times are medians of graphs of 64 products (8 from 256 rows on), gaps included.
// usage: fewbit_gpu_bench [JSON]
// Status: 0 done, 1 an answer was wrong or a call failed, 77 there is no device.
#include <cublas_v2.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "fewbit/cuda/matmul.hpp"
#include "fewbit/cuda/quantize.hpp"
#include "fewbit/cuda/w8a8.hpp"
#include "fewbit/formats/format_name.hpp"
#include "gpu/gpu_bench_model.hpp"
#include "gpu/random_codes.hpp"
#include "support/random.hpp"

using namespace fewbit;

namespace {

void need(bool fine, const char* what) {
    if (fine) return;
    std::printf("FAILED: %s (%s)\n", what, cudaGetErrorString(cudaGetLastError()));
    std::exit(1);
}
template <class T>
T must(Result<T> result) {
    return testing::must(std::move(result), "the benchmark");
}

constexpr int products_per_graph = 64, repetitions = 11;
std::size_t rotated_bytes = std::size_t{4} << 30;

struct Timing {
    double median = 0, spread = 0;  ///< seconds of one product; (largest - smallest) / median
};

/// Median time of one of `count` things that enqueue(i) puts on a stream, as a graph.
template <class Enqueue>
Timing time_of(cudaStream_t stream, int count, Enqueue&& enqueue) {
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t ready = nullptr;
    need(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal) == cudaSuccess, "capturing");
    for (int i = 0; i < count; ++i) enqueue(i);
    need(cudaStreamEndCapture(stream, &graph) == cudaSuccess, "ending a capture");
    need(cudaGraphInstantiate(&ready, graph, 0) == cudaSuccess, "a graph");
    cudaEvent_t begin = nullptr, end = nullptr;
    need(cudaEventCreate(&begin) == cudaSuccess && cudaEventCreate(&end) == cudaSuccess, "events");
    need(cudaGraphLaunch(ready, stream) == cudaSuccess, "warming up");
    std::vector<double> seconds;
    for (int r = 0; r < repetitions; ++r) {
        need(cudaEventRecord(begin, stream) == cudaSuccess && cudaGraphLaunch(ready, stream) == cudaSuccess &&
                 cudaEventRecord(end, stream) == cudaSuccess && cudaEventSynchronize(end) == cudaSuccess,
             "running a graph");
        float milliseconds = 0;
        need(cudaEventElapsedTime(&milliseconds, begin, end) == cudaSuccess, "a time");
        seconds.push_back(static_cast<double>(milliseconds) * 1e-3 / count);
    }
    cudaEventDestroy(begin), cudaEventDestroy(end), cudaGraphExecDestroy(ready), cudaGraphDestroy(graph);
    std::sort(seconds.begin(), seconds.end());
    const double median = seconds[seconds.size() / 2];
    return {median, (seconds.back() - seconds.front()) / median};
}

__global__ void read_all(const uint4* from, std::size_t count, unsigned* out) {
    unsigned sum = 0;
    const std::size_t step = std::size_t{gridDim.x} * blockDim.x;
    std::size_t i = blockIdx.x * std::size_t{blockDim.x} + threadIdx.x;
    for (; i + 3 * step < count; i += 4 * step) {
        const uint4 a = __ldcs(from + i), b = __ldcs(from + i + step), c = __ldcs(from + i + 2 * step),
                    d = __ldcs(from + i + 3 * step);
        sum ^= a.x ^ a.y ^ a.z ^ a.w ^ b.x ^ b.y ^ b.z ^ b.w ^ c.x ^ c.y ^ c.z ^ c.w ^ d.x ^ d.y ^ d.z ^ d.w;
    }
    for (; i < count; i += step) sum ^= __ldcs(from + i).x;
    if (sum == 0x12345678u) *out = sum;  // never, but the compiler does not know
}

/// Bytes per second, the best of several grids.
double read_bandwidth(cudaStream_t stream, const cuda::Device& device) {
    Tensor memory = must(cuda::allocate(Scalar::u8, {rotated_bytes})),
           out = must(cuda::allocate(Scalar::u32, {1}));
    double best = 0;
    for (const int blocks_per_multiprocessor : {2, 4, 8, 16}) {
        const Timing timing = time_of(stream, 1, [&](int) {
            read_all<<<static_cast<unsigned>(device.multiprocessors * blocks_per_multiprocessor), 512, 0,
                       stream>>>(reinterpret_cast<const uint4*>(memory.bytes().data()), rotated_bytes / 16,
                                 reinterpret_cast<unsigned*>(out.mutable_bytes().data()));
        });
        best = std::max(best, static_cast<double>(rotated_bytes) / timing.median);
    }
    return best;
}

/// A tensor of the device, as often as fills the memory that is to be rotated over.
std::vector<Tensor> copies_of(const Tensor& tensor) {
    std::vector<Tensor> out{tensor};
    const std::size_t count =
        std::clamp<std::size_t>(rotated_bytes / std::max<std::size_t>(1, tensor.size_bytes()), 2, 512);
    while (out.size() < count) {
        out.push_back(must(cuda::allocate(tensor.type(), tensor.shape())));
        need(cudaMemcpy(out.back().mutable_bytes().data(), tensor.bytes().data(), tensor.size_bytes(),
                        cudaMemcpyDeviceToDevice) == cudaSuccess,
             "copying weights");
    }
    return out;
}

struct Row {
    std::string format, activations;
    std::string_view kernel;
    std::size_t m = 0, n = 0, k = 0;
    std::size_t weight_bytes = 0;
    Timing ours, cublas;
    double share = 0;  ///< of the read bandwidth, weights alone
};

/// One matrix, quantized and in FP16, as often as fills the memory that is rotated over.
struct Layer {
    std::string format;
    std::size_t n, k, weight_bytes;
    std::vector<Mma16Matrix> weights;
    std::vector<Tensor> halves;

    Layer(const char* format_name, std::size_t rows, std::size_t cols)
        : format(format_name), n(rows), k(cols) {
        const QuantizedMatrix w =
            testing::random_codes(*parse_format(format_name), n, k, 1 / std::sqrt(static_cast<float>(k)));
        const Mma16Matrix packed = must(cuda::pack(w));
        weight_bytes = packed.size_bytes();
        const std::vector<Tensor> codes = copies_of(packed.codes), scales = copies_of(packed.scales);
        for (std::size_t i = 0; i < codes.size(); ++i) {
            weights.push_back(packed);
            weights.back().codes = codes[i];
            weights.back().scales = scales[i % scales.size()];
        }
        Tensor half = must(cuda::allocate(Scalar::f16, {n, k}));
        need(cuda::dequantize(packed, {half.mutable_bytes().data(), Scalar::f16, n, k, k}, {}).has_value() &&
                 cudaDeviceSynchronize() == cudaSuccess,
             "weights in FP16");
        halves = copies_of(half);
    }
};

class Bench {
public:
    explicit Bench(const cuda::Device& device) {
        need(cudaStreamCreate(&stream_) == cudaSuccess, "a stream");
        need(cublasCreate(&cublas_) == CUBLAS_STATUS_SUCCESS &&
                 cublasSetStream(cublas_, stream_) == CUBLAS_STATUS_SUCCESS,
             "cuBLAS");
        cublas_workspace_ = must(cuda::allocate(Scalar::u8, {std::size_t{64} << 20}));
        need(cublasSetWorkspace(cublas_, cublas_workspace_.mutable_bytes().data(),
                                cublas_workspace_.size_bytes()) == CUBLAS_STATUS_SUCCESS,
             "a workspace for cuBLAS");
        bandwidth_ = read_bandwidth(stream_, device);
        std::printf("%s, sm_%d%d, %d multiprocessors; reads %.0f GB/s over %.1f GB\n", device.name.c_str(),
                    device.major, device.minor, device.multiprocessors, bandwidth_ * 1e-9,
                    static_cast<double>(rotated_bytes) * 1e-9);
        std::printf("%-12s %-8s %5s %6s %6s %10s %7s %6s %10s %6s\n", "weights", "x", "m", "n", "k", "us",
                    "GB/s", "share", "cuBLAS us", "ratio");
    }
    ~Bench() { cublasDestroy(cublas_), cudaStreamDestroy(stream_); }
    Bench(const Bench&) = delete;
    Bench& operator=(const Bench&) = delete;

    /// x of f16 as it is.
    void weights_alone(const Layer& layer, std::size_t m) {
        std::vector<cuda::Product> products;
        for (const Mma16Matrix& one : layer.weights)
            products.push_back(must(cuda::Product::create(one, Scalar::f16, m)));
        auto workspace = must(cuda::Workspace::create(products[0]));
        compare(layer, "f16", m, 1e-5, [&](const cuda::View& x, const cuda::View& y, int i) {
            return products[static_cast<std::size_t>(i) % products.size()].run(x, y, nullptr, workspace,
                                                                               cuda::Stream{stream_});
        });
    }
    /// x rounded to int8 or fp8 within the time; nothing where the device has no fp8.
    void rounded_rows(const Layer& layer, std::size_t m) {
        std::vector<cuda::W8A8Product> products;
        for (const Mma16Matrix& one : layer.weights) {
            auto product = cuda::W8A8Product::create(one, m);
            if (!product && one.format.is_codebook()) {
                std::printf("%s: %s\n", layer.format.c_str(), product.error().message.c_str());
                return;
            }
            products.push_back(must(std::move(product)));
        }
        const Scalar type = products[0].activations();
        auto rows = must(cuda::RoundedRows::create(m, layer.k, type));
        auto workspace = must(cuda::Workspace::create(products[0]));
        // Gaussian rows of thousands have errors of (4 sigma / 127)^2 / 12 = 1e-4 of their square in int8; numbers of e4m3 are within
        // 2^-4 of themselves, their errors 2^-8 / 12 / 0.7 = 5e-4 of the square.
        const bool fp8 = type == Scalar::fp8_e4m3;
        compare(layer, fp8 ? "fp8-row" : "int8-row", m, fp8 ? 2e-3 : 3e-4,
                [&](const cuda::View& x, const cuda::View& y, int i) {
                    const auto done = rows.quantize(x, cuda::Stream{stream_});
                    need(done.has_value(), "rounding x");
                    return products[static_cast<std::size_t>(i) % products.size()].run(
                        rows, y, nullptr, workspace, cuda::Stream{stream_});
                });
    }

    [[nodiscard]] const std::vector<Row>& rows() const { return rows_; }
    [[nodiscard]] double bandwidth() const { return bandwidth_; }

private:
    /// Checks `ours` against cuBLAS in FP16, then times both. Ends the program where the NMSE is above `allowed`.
    template <class Ours>
    void compare(const Layer& layer, const char* activations, std::size_t m, double allowed, Ours&& ours) {
        const std::size_t n = layer.n, k = layer.k;
        Row row{layer.format, activations, {}, m, n, k, layer.weight_bytes, {}, {}, 0};
        const Matrix drawn = testing::gaussian_matrix(std::min<std::size_t>(m, 256), k, 7);
        Tensor x_host = must(Tensor::allocate(Scalar::f16, {m, k}));
        for (std::size_t i = 0; i < m * k; ++i)
            x_host.as_mutable<std::uint16_t>()[i] = f16_from_float(drawn.values()[i % drawn.values().size()]);
        Tensor x = must(cuda::to_device(x_host)), y = must(cuda::allocate(Scalar::f16, {m, n})),
               z = must(cuda::allocate(Scalar::f16, {m, n}));
        const auto run_ours = [&](int i) {
            row.kernel = must(ours(cuda::View{x.mutable_bytes().data(), Scalar::f16, m, k, k},
                                   cuda::View{y.mutable_bytes().data(), Scalar::f16, m, n, n}, i))
                             .kernel;
        };
        const float one = 1, none = 0;
        const auto run_cublas = [&](int i) {  // column-major: y^T (n, m) = W x^T
            need(cublasGemmEx(cublas_, CUBLAS_OP_T, CUBLAS_OP_N, static_cast<int>(n), static_cast<int>(m),
                              static_cast<int>(k), &one,
                              layer.halves[static_cast<std::size_t>(i) % layer.halves.size()].bytes().data(),
                              CUDA_R_16F, static_cast<int>(k), x.bytes().data(), CUDA_R_16F,
                              static_cast<int>(k), &none, z.mutable_bytes().data(), CUDA_R_16F,
                              static_cast<int>(n), CUBLAS_COMPUTE_32F,
                              CUBLAS_GEMM_DEFAULT) == CUBLAS_STATUS_SUCCESS,
                 "cuBLAS's product");
        };
        run_ours(0), run_cublas(0);
        need(cudaStreamSynchronize(stream_) == cudaSuccess, "the first products");
        const Tensor a = must(cuda::to_host(y)), b = must(cuda::to_host(z));
        double lost = 0, all = 0;
        for (std::size_t i = 0; i < m * n; ++i) {
            const double p = static_cast<double>(float_from_f16(a.as<std::uint16_t>()[i])),
                         q = static_cast<double>(float_from_f16(b.as<std::uint16_t>()[i]));
            lost += (p - q) * (p - q), all += q * q;
        }
        if (!(lost <= allowed * all)) {
            std::printf("FAILED: %s with x of %s, %zu x %zu x %zu: NMSE %.2e against cuBLAS\n",
                        layer.format.c_str(), activations, m, n, k, lost / all);
            std::exit(1);
        }
        const int products = m < 256 ? products_per_graph : 8;
        row.cublas = time_of(stream_, products, run_cublas);
        row.ours = time_of(stream_, products, run_ours);
        row.share = static_cast<double>(row.weight_bytes) / row.ours.median / bandwidth_;
        std::printf("%-12s %-8s %5zu %6zu %6zu %10.2f %7.0f %6.2f %10.2f %6.2f  %.*s\n", layer.format.c_str(),
                    activations, m, n, k, row.ours.median * 1e6,
                    static_cast<double>(row.weight_bytes) / row.ours.median * 1e-9, row.share,
                    row.cublas.median * 1e6, row.cublas.median / row.ours.median,
                    static_cast<int>(row.kernel.size()), row.kernel.data());
        std::fflush(stdout);
        rows_.push_back(row);
    }

    cudaStream_t stream_ = nullptr;
    cublasHandle_t cublas_ = nullptr;
    Tensor cublas_workspace_;
    double bandwidth_ = 0;
    std::vector<Row> rows_;
};

}  // namespace

int main(int argc, char** argv) {
    const auto device = cuda::current_device();
    if (!device) {
        std::printf("SKIPPED: %s\n", device.error().message.c_str());
        return 77;
    }
    rotated_bytes = std::min(rotated_bytes, device->memory_bytes / 8);
    Bench bench(*device);
    for (const char* format : {"int4-g128", "int4-g32", "int8-channel", "nf4-g64", "fp8-e4m3-channel"})
        for (const auto& [n, k] :
             {std::pair<std::size_t, std::size_t>{4096, 4096}, {14336, 4096}, {4096, 14336}, {8192, 28672}}) {
            const Layer layer(format, n, k);
            const bool fp8 = parse_format(format)->element == Element::fp8_e4m3;
            for (const std::size_t m : {1, 2, 4, 8, 16, 32, 64, 128, 256, 1024, 4096})
                if (!fp8) bench.weights_alone(layer, m);
            if (layer.format == "int8-channel" || fp8)
                for (const std::size_t m : {64, 128, 256, 1024, 4096}) bench.rounded_rows(layer, m);
        }
    const double bandwidth = bench.bandwidth();
    std::printf("\n%-12s %12s %10s %12s %7s %12s %6s\n", "whole model", "parameters", "MB a token",
                "prompt tok/s", "tok/s", "bound tok/s", "share");
    std::vector<testing::ModelSpeed> models;
    for (const char* format : {"int4-g128", "int4-g32", "int8-channel"}) {
        models.push_back(testing::time_model(format));
        const testing::ModelSpeed& m = models.back();
        const double bound = bandwidth / static_cast<double>(m.bytes_per_token);
        std::printf("%-12s %12.3g %10.1f %12.0f %7.0f %12.0f %6.2f\n", m.format.c_str(), m.parameters,
                    static_cast<double>(m.bytes_per_token) * 1e-6,
                    static_cast<double>(m.prompt_tokens) / m.prompt_seconds, 1 / m.token_seconds, bound,
                    1 / m.token_seconds / bound);
        std::fflush(stdout);
    }
    const std::vector<Row>& rows = bench.rows();
    if (argc > 1) {
        std::FILE* const file = std::fopen(argv[1], "w");
        need(file != nullptr, "writing the JSON");
        std::fprintf(file,
                     "{\"schema\":\"fewbit.gpu-bench/"
                     "3\",\"device\":\"%s\",\"compute_capability\":\"%d.%d\",\"read_bytes_per_second\":%.6g,"
                     "\"rows\":[",
                     device->name.c_str(), device->major, device->minor, bandwidth);
        for (std::size_t i = 0; i < rows.size(); ++i) {
            const Row& r = rows[i];
            std::fprintf(file,
                         "%s\n{\"format\":\"%s\",\"activations\":\"%s\",\"kernel\":\"%.*s\",\"m\":%zu,\"n\":%"
                         "zu,\"k\":%zu,\"weight_"
                         "bytes\":%zu,\"median_seconds\":%.6g,"
                         "\"spread\":%.3g,\"share_of_read_bandwidth\":%.4f,\"cublas_median_seconds\":%.6g,"
                         "\"cublas_spread\":%.3g,\"ratio_to_cublas\":%.4f}",
                         i == 0 ? "" : ",", r.format.c_str(), r.activations.c_str(),
                         static_cast<int>(r.kernel.size()), r.kernel.data(), r.m, r.n, r.k, r.weight_bytes,
                         r.ours.median, r.ours.spread, r.share, r.cublas.median, r.cublas.spread,
                         r.cublas.median / r.ours.median);
        }
        std::fprintf(file, "\n],\"models\":[");
        for (std::size_t i = 0; i < models.size(); ++i) {
            const testing::ModelSpeed& m = models[i];
            std::fprintf(
                file,
                "%s\n{\"format\":\"%s\",\"parameters\":%.6g,\"bytes_per_token\":%zu,\"prompt_tokens\":%zu,"
                "\"prompt_median_seconds\":%.6g,\"generated_tokens\":%zu,\"token_median_seconds\":%.6g,"
                "\"spread\":%.3g,"
                "\"share_of_read_bandwidth\":%.4f}",
                i == 0 ? "" : ",", m.format.c_str(), m.parameters, m.bytes_per_token, m.prompt_tokens,
                m.prompt_seconds, m.generated_tokens, m.token_seconds, m.spread,
                static_cast<double>(m.bytes_per_token) / m.token_seconds / bandwidth);
        }
        std::fprintf(file, "\n]}\n");
        std::fclose(file);
    }
    return testing::failures == 0 ? 0 : 1;
}
