// fewbit_bench: packing to tile16, a case per format; for each line of the catalogue one case per width of its codes,
// with 1 and 32 rows of activations. Cases are generated from kernel_catalog(), so that no kernel is forgotten; each verifies its
// answer against the double precision reference before it is timed, and fails loudly when it is wrong.
// Weights stay in the cache.
//
//   fewbit_bench --benchmark_filter=avx2        (`fewbit bench matmul` compares side by side)
//   fewbit_bench --benchmark_filter=^pack/      (bytes_per_second: packed ones, one thread)
//
// Activations are quantized within the time. bytes_per_second: weights and activations as the kernel reads
// them; items_per_second: multiply-adds.
#include <benchmark/benchmark.h>

#include <cmath>
#include <cstdio>
#include <random>
#include <string>
#include <vector>

#include "fewbit/fewbit.hpp"
#include "fewbit/matmul/reference.hpp"
#include "fewbit/quantize/rtn.hpp"

namespace {

using namespace fewbit;

// Ragged on purpose: no multiple of any tile, a short last group; 2 MB as int8, so L2 or L3 holds it.
constexpr std::size_t n_channels = 1031, k_elements = 2056;

struct Case {
    const KernelInfo* kernel;
    Format format;
    ActivationFormat activations;
    std::size_t m;
};

Matrix random_matrix(std::size_t rows, std::size_t cols, std::uint32_t seed) {
    Matrix matrix(rows, cols);
    std::mt19937 generator(seed);
    std::normal_distribution<float> normal;
    for (float& value : matrix.values()) value = normal(generator);
    return matrix;
}

/// What is wrong with y, or nothing.
std::string check(const KernelInfo& kernel, const Matrix& x, const QuantizedMatrix& w,
                  const ActivationFormat& activations, const Matrix& y) {
    std::vector<double> magnitudes;
    const std::vector<double> expected = reference::matmul(x.view(), w, activations, {}, &magnitudes);
    // Rounding errors of K additions in float: K epsilon at worst, sqrt(K) epsilon for independent ones. Those of K
    // weights, if they are rounded: the largest of them, or as much less as sqrt(K) is less than K.
    const double root = std::sqrt(static_cast<double>(x.cols()));
    const double epsilon =
        (8.0 + 4.0 * root) * 0x1p-24 +
        reference::weight_rounding(kernel.isa, w.format(), activations) * std::min(1.0, 8.0 / root);
    for (std::size_t i = 0; i < expected.size(); ++i)
        if (!(std::fabs(static_cast<double>(y.values()[i]) - expected[i]) <= epsilon * magnitudes[i]))
            return "wrong answer at " + std::to_string(i / y.cols()) + ", " + std::to_string(i % y.cols());
    return {};
}

void run(benchmark::State& state, const Case& what) {
    const Matrix values = random_matrix(n_channels, k_elements, 1);
    const Matrix x = random_matrix(what.m, k_elements, 2);
    QuantizedMatrix w;
    if (what.format.is_float()) {
        auto matrix = float_matrix(values, element_scalar(what.format));
        if (!matrix) return state.SkipWithError(matrix.error().message.c_str());
        w = *std::move(matrix);
    } else {
        auto quantized = quantize_rtn(values.view(), what.format);
        if (!quantized) return state.SkipWithError(quantized.error().message.c_str());
        w = std::move(quantized->linear.weights);
    }
    const Kernel kernel(*what.kernel, what.activations, "");
    const auto packed = pack(w, kernel.layout());
    if (!packed) return state.SkipWithError(packed.error().message.c_str());
    Matrix y(what.m, n_channels);
    auto report = matmul(kernel, x.view(), *packed, y);
    if (!report) return state.SkipWithError(report.error().message.c_str());
    if (const std::string wrong = check(*what.kernel, x, w, what.activations, y); !wrong.empty())
        return state.SkipWithError(wrong.c_str());

    for (auto _ : state) {
        report = matmul(kernel, x.view(), *packed, y);
        benchmark::DoNotOptimize(y.values().data());
        benchmark::ClobberMemory();
    }
    const auto iterations = static_cast<std::int64_t>(state.iterations());
    state.SetBytesProcessed(iterations *
                            static_cast<std::int64_t>(report->weight_bytes + report->activation_bytes));
    state.SetItemsProcessed(iterations * static_cast<std::int64_t>(what.m * n_channels * k_elements));
    state.counters["m"] = static_cast<double>(what.m);
    state.counters["bits_per_weight"] = bits_per_weight(what.format, n_channels, k_elements);
    state.counters["GOPS"] = benchmark::Counter(2e-9 * static_cast<double>(what.m * n_channels * k_elements),
                                                benchmark::Counter::kIsIterationInvariantRate);
}

/// Packs a matrix to tile16, after a product with it was found right where a kernel can read it.
void run_pack(benchmark::State& state, const Format& format) {
    constexpr std::size_t k = 2048;  // whole blocks
    const auto fail = [&](const Error& error) { state.SkipWithError(error.message.c_str()); };
    auto quantized = quantize_rtn(random_matrix(n_channels, k, 1).view(), format);
    if (!quantized) return fail(quantized.error());
    const QuantizedMatrix& w = quantized->linear.weights;
    const Matrix x = random_matrix(1, k, 2);
    const ActivationFormat activations = int8_group_activations(32);
    const auto kernel = select_kernel({format, activations, 1, n_channels, k, Fallback::allow});
    if (!kernel) return state.SkipWithError(kernel.error().message.c_str());
    auto packed = pack(w, Layout::tile16);
    if (!packed) return fail(packed.error());
    if (kernel->layout() == Layout::tile16) {
        Matrix y(1, n_channels);
        if (auto report = matmul(*kernel, x.view(), *packed, y); !report) return fail(report.error());
        if (const std::string wrong = check(kernel->info(), x, w, activations, y); !wrong.empty())
            return state.SkipWithError(wrong.c_str());
    } else {
        state.SetLabel("not verified: no kernel here reads tile16");
    }
    for (auto _ : state) {
        packed = pack(w, Layout::tile16);
        benchmark::DoNotOptimize(packed->view().codes);
        benchmark::ClobberMemory();
    }
    state.SetBytesProcessed(static_cast<std::int64_t>(state.iterations()) *
                            static_cast<std::int64_t>(packed->size_bytes()));
}

/// What packing is timed for: integers of each width, tables, ggml's blocks.
std::vector<Format> packed_formats() {
    std::vector<Format> formats;
    for (int bits = min_bits; bits <= max_bits; ++bits)
        formats.push_back(*parse_format("int" + std::to_string(bits) + "-g128"));
    for (const char* name : {"int4-g32", "int8-channel", "nf4-g64"}) formats.push_back(*parse_format(name));
    for (const ggml::BlockTraits& block : ggml::block_types) formats.push_back(*parse_format(block.name));
    return formats;
}

/// A format of each width that a kernel claims: groups of 64 below 8 bits, channels at 8.
std::vector<Format> formats_of(const KernelInfo& info) {
    std::vector<Format> formats;
    if ((info.bits & 1u) != 0)
        for (const Scalar type : {Scalar::f32, Scalar::f16, Scalar::bf16})
            formats.push_back(float_format(type));
    for (int bits = min_bits; bits <= max_bits; ++bits)
        if ((info.bits >> bits & 1u) != 0)
            formats.push_back(
                *parse_format(bits == 8 ? "int8-channel" : "int" + std::to_string(bits) + "-g64"));
    return formats;
}

void register_cases() {
    for (const Format& format : packed_formats())
        benchmark::RegisterBenchmark(("pack/" + name(format)).c_str(), run_pack, format);
    for (const KernelInfo& info : kernel_catalog())
        for (const Format& format : formats_of(info))
            for (const std::size_t m : {std::size_t{1}, std::size_t{32}}) {
                const ActivationFormat activations = info.activations == ActivationElement::int8
                                                         ? int8_group_activations(32)
                                                         : ActivationFormat{info.activations};
                const std::string why =
                    refusal(info, {format, activations, m, n_channels, k_elements, Fallback::allow});
                const std::string title = std::string(info.name) + "/" + name(format) + "/" +
                                          name(activations) + "/m" + std::to_string(m);
                if (!why.empty()) {
                    std::fprintf(stderr, "skipped: %s: %s\n", title.c_str(), why.c_str());
                    continue;
                }
                benchmark::RegisterBenchmark(title.c_str(), run, Case{&info, format, activations, m});
            }
}

}  // namespace

int main(int argc, char** argv) {
    benchmark::Initialize(&argc, argv);
    if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
    register_cases();
    const std::size_t cases = benchmark::RunSpecifiedBenchmarks();
    benchmark::Shutdown();
    return cases == 0 ? 1 : 0;
}
