// fewbit behind a C interface, for bench/peers/compare: pack a float matrix, multiply, and run the loops that measure
// what the machine can do. One thread calls; nothing here is for other programs.
#include <sys/mman.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "fewbit/core/thread_pool.hpp"
#include "fewbit/matmul/limits.hpp"
#include "fewbit/matmul/matmul.hpp"
#include "fewbit/quantize/rtn.hpp"

using namespace fewbit;

namespace {

std::string last_error;
std::unique_ptr<ThreadPool> pool;

ExecutionContext context() { return pool ? ExecutionContext(*pool) : ExecutionContext(); }

struct Weights {
    Format format;
    ActivationFormat activations;
    std::vector<PackedMatrix> copies;
    std::map<std::size_t, Kernel> kernels;  // by rows of x
    std::string kernel_name;

    Result<Kernel> kernel(std::size_t m) {
        if (const auto found = kernels.find(m); found != kernels.end()) return found->second;
        const PackedMatrix& w = copies.front();
        auto chosen = select_kernel({format, activations, m, w.n(), w.k(), Fallback::allow});
        if (!chosen) return fail(ErrorKind::no_kernel, chosen.error().message);
        kernels.emplace(m, *chosen);
        return *chosen;
    }
};

Result<QuantizedMatrix> quantized(MatrixView<const float> w, const Format& format) {
    if (format.is_float()) return float_matrix(w, element_scalar(format));
    auto made = quantize_rtn(w, format, {}, context());
    if (!made) return Unexpected{std::move(made).error()};
    return std::move(made->linear.weights);
}

Result<std::unique_ptr<Weights>> make_weights(const char* format, const char* activations,
                                              MatrixView<const float> w, std::size_t copies) {
    auto made = std::make_unique<Weights>();
    const auto wanted = parse_format(format);
    if (!wanted) return Unexpected{wanted.error()};
    const auto x = parse_activation_format(activations);
    if (!x) return Unexpected{x.error()};
    made->format = *wanted;
    made->activations = *x;
    const auto kernel = select_kernel({*wanted, *x, 1, w.rows, w.cols, Fallback::allow});
    if (!kernel) return fail(ErrorKind::no_kernel, kernel.error().message);
    Result<QuantizedMatrix> source = quantized(w, *wanted);
    for (std::size_t copy = 0; copy < copies; ++copy) {
        // A packed matrix in the layout of its source shares its bytes, so each copy needs a source of its own.
        if (copy != 0 && kernel->layout() == Layout::rows) source = quantized(w, *wanted);
        if (!source) return Unexpected{source.error()};
        auto packed = pack(*source, kernel->layout(), context(), *x);
        if (!packed) return Unexpected{std::move(packed).error()};
        made->copies.push_back(*std::move(packed));
    }
    return made;
}

struct Limit {
    std::string name, how;
    const ComputeLimit* compute = nullptr;
    const ReadLimit* read = nullptr;
    std::size_t iterations = 1024;
};

std::vector<Limit> limits;
std::shared_ptr<std::byte> read_buffer;
std::size_t read_bytes = 0;
volatile std::uint64_t sink = 0;

double seconds_of(const Limit& limit, Executor& executor) {
    const std::size_t lanes = executor.workers(), pages = read_bytes / 4096;
    const auto start = std::chrono::steady_clock::now();
    executor.parallel_for(lanes, [&](std::size_t lane, std::size_t) {
        const std::size_t begin = lane * pages / lanes, end = (lane + 1) * pages / lanes;
        sink = sink + (limit.compute != nullptr
                           ? limit.compute->run(limit.iterations)
                           : limit.read->run(read_buffer.get() + begin * 4096, (end - begin) * 4096));
    });
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

#define FEWBIT_PEER extern "C" __attribute__((visibility("default")))

FEWBIT_PEER const char* fewbit_peer_error() { return last_error.c_str(); }

FEWBIT_PEER void fewbit_peer_threads(std::size_t threads) {
    pool = std::make_unique<ThreadPool>(threads);
    pool->keep_awake();  // between products, for a while, as other libraries' threads stay
}

/// `copies` packed matrices of w (n, k); null where that fails.
FEWBIT_PEER void* fewbit_peer_weights(const char* format, const char* activations, const float* w,
                                      std::size_t n, std::size_t k, std::size_t copies) {
    auto made = make_weights(format, activations, {w, n, k}, copies);
    if (made) return made->release();
    last_error = made.error().message;
    return nullptr;
}
FEWBIT_PEER void fewbit_peer_free(void* weights) { delete static_cast<Weights*>(weights); }
FEWBIT_PEER std::size_t fewbit_peer_bytes(const void* weights) {
    return static_cast<const Weights*>(weights)->copies.front().size_bytes();
}

/// y (m, n) = x (m, k) * W^T, activations quantized within it. The kernel's name; null where it fails.
FEWBIT_PEER const char* fewbit_peer_multiply(void* handle, std::size_t copy, const float* x, std::size_t m,
                                             float* y) {
    auto& weights = *static_cast<Weights*>(handle);
    const PackedMatrix& w = weights.copies[copy % weights.copies.size()];
    const auto kernel = weights.kernel(m);
    if (!kernel) {
        last_error = kernel.error().message;
        return nullptr;
    }
    const auto ran = matmul(*kernel, MatrixView<const float>(x, m, w.k()), w, MatrixView<float>(y, m, w.n()),
                            {}, context());
    if (!ran) {
        last_error = ran.error().message;
        return nullptr;
    }
    weights.kernel_name = ran->kernel;
    return weights.kernel_name.c_str();
}

/// How many ways there are to reach a limit; a buffer of `bytes` is read, in huge pages where the system has them.
FEWBIT_PEER std::size_t fewbit_peer_limits(std::size_t bytes) {
    constexpr std::size_t huge_page_bytes = std::size_t{2} << 20;
    read_bytes = round_up(bytes, huge_page_bytes);
    read_buffer = allocate_host(read_bytes, huge_page_bytes);
    if (!read_buffer) return 0;
    madvise(read_buffer.get(), read_bytes, MADV_HUGEPAGE);
    std::memset(read_buffer.get(), 1, read_bytes);
    limits.clear();
    for (const ReadLimit& read : read_limits())
        limits.push_back({"read", text(name(read.isa), " ", read.name), nullptr, &read, 0});
    InlineExecutor alone;
    for (const ComputeLimit& compute : compute_limits()) {
        Limit limit{std::string(compute.name), std::string(compute.instructions), &compute, nullptr};
        while (seconds_of(limit, alone) < 5e-3) limit.iterations *= 2;
        limits.push_back(limit);
    }
    return limits.size();
}
FEWBIT_PEER const char* fewbit_peer_limit_name(std::size_t i) { return limits[i].name.c_str(); }
FEWBIT_PEER const char* fewbit_peer_limit_how(std::size_t i) { return limits[i].how.c_str(); }

/// Bytes or operations per second of one run on the threads that were asked for last.
FEWBIT_PEER double fewbit_peer_limit(std::size_t i) {
    InlineExecutor alone;
    Executor& executor = pool ? static_cast<Executor&>(*pool) : alone;
    const Limit& limit = limits[i];
    const double units =
        limit.compute != nullptr
            ? limit.compute->operations * static_cast<double>(limit.iterations * executor.workers())
            : static_cast<double>(read_bytes);
    return units / seconds_of(limit, executor);
}
