// Differential fuzzing: random products, by every kernel of the catalogue that this CPU can run, against
// matmul/reference.hpp; nothing outside of y may be written, and no split of the work may change a bit.
//
//   fuzz_matmul [--cases N] [--seconds S] [--seed S] [--first I] [--kernel PART-OF-NAME]
//   fuzz_matmul --seed S --case I           runs one case again and says what it is
//
// Case I of a seed is the same product everywhere. The first wrong one ends the run: one line with how to repeat it,
// status 1.
#include <bit>
#include <chrono>
#include <cmath>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "contract/tolerance.hpp"
#include "differential/data.hpp"
#include "fewbit/core/thread_pool.hpp"
#include "fewbit/matmul/matmul.hpp"
#include "fewbit/matmul/reference.hpp"

#if defined(__GLIBC__)
#include <malloc.h>
#endif

extern "C" __attribute__((weak)) void __sanitizer_set_death_callback(void (*callback)());

namespace fewbit::testing {
namespace {

// What runs at the moment, for whoever has to report a crash.
const Problem* current_problem = nullptr;
std::string_view current_kernel;

void report(const std::string& what) {
    const Problem& p = *current_problem;
    std::printf("FAILED: fuzz_matmul --seed %llu --case %llu: kernel %s, %s: %s\n",
                static_cast<unsigned long long>(p.seed), static_cast<unsigned long long>(p.number),
                std::string(current_kernel).c_str(), describe(p).c_str(), what.c_str());
    std::fflush(stdout);
}

void on_crash(int signal) {
    report(text("crashed with signal ", signal, ", perhaps at a guard page"));
    std::_Exit(1);
}

/// Tasks one after the other in a random order, each on any worker's lane: what threads might do, and repeatable.
class ShuffledExecutor final : public Executor {
public:
    ShuffledExecutor(std::size_t workers, Draw draw) : workers_(workers), draw_(draw) {}
    [[nodiscard]] std::size_t workers() const noexcept override { return workers_; }
    void parallel_for(std::size_t tasks, Body body) override {
        std::vector<std::size_t> order(tasks);
        for (std::size_t i = 0; i < tasks; ++i) order[i] = i;
        for (std::size_t i = tasks; i > 1; --i) std::swap(order[i - 1], order[draw_.below(i)]);
        for (const std::size_t task : order) body(task, draw_.below(workers_));
    }

private:
    std::size_t workers_;
    Draw draw_;
};

/// What products may lose because numbers lie below the smallest normal f32, whose factors the contract's cases do not
/// have.
struct Underflow {
    double any =
        0;  ///< where a factor of three is rounded to a subnormal: half of 2^-149, times those that follow
    double flushed =
        0;  ///< by vdpbf16ps beside that, which reads 0 for x and W below 2^-126 and says 0 for such sums
};
Underflow underflow(const Problem& p, MatrixView<const float> x, const QuantizedMatrix& w) {
    double x_most = 0, scale_most = 0, w_most = 0;
    const auto raise = [](double& most, double value) {
        if (std::isfinite(value)) most = std::max(most, std::fabs(value));
    };
    for (std::size_t m = 0; m < x.rows; ++m)
        for (const float value : x.row(m)) raise(x_most, static_cast<double>(value));
    for (std::size_t r = 0; r < w.scale_rows(); ++r)
        for (std::size_t g = 0; g < w.scale_cols(); ++g)
            for (const float value : {w.scale(r, g), w.offset(r, g)})
                raise(scale_most, static_cast<double>(value));
    const double codes = p.activations.element == ActivationElement::int8 ? 255.0 * 127.0 : 1.0;
    const auto terms = static_cast<double>(p.k + 1);
    Underflow may{0x1p-149 * terms * (1 + codes * (1 + x_most + scale_most))};
    if (p.activations.element == ActivationElement::bf16) {
        for (std::size_t n = 0; n < p.n; ++n)
            for (const double value : reference::weight_row(w, n).magnitudes) raise(w_most, value);
        may.flushed = 0x1p-126 * terms * (1 + x_most + scale_most + w_most);
    }
    return may;
}

/// One problem with its data and the right answer; kernels are tried on it one by one.
class Case {
public:
    Case(const Problem& problem, Arenas& arenas)
        : p_(problem),
          arenas_(arenas),
          draw_(problem.draw),
          w_(draw_weights(p_, arenas, draw_)),
          x_(matrix_in(arenas.x, p_.m, p_.k, p_.x_gap, p_.x_place, p_.x_offset)) {
        draw_x(x_, p_, draw_);
        if (p_.activations.is_static) range_ = draw_range(x_, draw_);
        if (p_.spoiled && p_.m * p_.k != 0) {
            const bool infinite = p_.activations.element == ActivationElement::int8 && draw_.below(2) == 0;
            x_(draw_.below(p_.m), draw_.below(p_.k)) =
                infinite ? std::numeric_limits<float>::infinity() : std::numeric_limits<float>::quiet_NaN();
        }
        const auto bias = matrix_in(arenas.bias, 1, p_.n, 0, Place::end, 0);
        for (std::size_t n = 0; n < p_.n; ++n)
            bias(0, n) = std::ldexp(draw_.uniform(), std::min(p_.x_power + p_.w_power + 5, largest_power));
        if (p_.bias) bias_ = {bias.data, p_.n};
        truth_ = reference::matmul(x_, w_, p_.activations, bias_, &magnitudes_, range_);
        underflow_ = underflow(p_, x_, w_);
    }

    /// An empty string where the kernel is right.
    std::string run(const KernelInfo& info) {
        const Kernel kernel(info, p_.activations, "under test");
        std::optional<PackedMatrix>& packed = packed_[info.layout];
        ShuffledExecutor shuffled(p_.workers, draw_);
        static ThreadPool pool(3);
        Executor& executor = p_.threads ? static_cast<Executor&>(pool) : shuffled;
        if (!packed) {
            auto made = pack(w_, info.layout, executor, p_.activations);
            if (!made) return made.error().message;
            packed = *std::move(made);
        }
        if (packed_for_ != info.code) {  // each kernel quantizes and arranges in its own way
            auto made = pack_activations(x_, kernel, *packed, executor, range_);
            if (!made) return made.error().message;
            packed_x_ = *std::move(made);
            packed_for_ = info.code;
        }
        if (auto wrong = multiply(kernel, *packed, {}); !wrong.empty()) return wrong;
        const std::vector<std::uint32_t> alone = bits_;
        if (p_.m <= info.code->tile_m && p_.n <= info.code->tile_n) return {};
        if (auto wrong = multiply(kernel, *packed, executor); !wrong.empty()) return wrong;
        return alone == bits_ ? "" : text(p_.workers, " workers gave other bits than one");
    }

private:
    /// Checks one product and leaves its bits.
    std::string multiply(const Kernel& kernel, const PackedMatrix& packed, ExecutionContext context) {
        const auto y = matrix_in(arenas_.y, p_.m, p_.n, p_.y_gap, p_.y_place, p_.y_offset);
        const auto ran = matmul(kernel, *packed_x_, packed, y, bias_, context);
        if (!ran) return ran.error().message;
        if (!arenas_.y.untouched()) return "wrote before or behind y";
        bits_.clear();
        for (std::size_t m = 0; m < p_.m; ++m) {
            for (std::size_t n = 0; n < p_.n; ++n) {
                const std::size_t i = m * p_.n + n;
                const auto value = static_cast<double>(y(m, n));
                const double allowed =
                    tolerance(kernel.isa(), p_.format, p_.activations, p_.k, magnitudes_[i]) +
                    underflow_.any + (kernel.isa() == Isa::generic ? 0 : underflow_.flushed);
                if (std::isnan(truth_[i]) ? !std::isnan(value) : !(std::fabs(value - truth_[i]) <= allowed))
                    return text("y[", m, "][", n, "] = ", value, ", expected ", truth_[i], " +- ", allowed,
                                context.workers() == 1 ? "" : " (cut into parts)");
                bits_.push_back(std::bit_cast<std::uint32_t>(y(m, n)));
            }
            const std::span<const float> gap{y.data + m * y.stride_elements + p_.n,
                                             m + 1 < p_.m ? p_.y_gap : 0};
            if (!Arena::is_poison(std::as_bytes(gap)))
                return text("wrote between rows ", m, " and ", m + 1, " of y");
        }
        return {};
    }

    const Problem& p_;
    Arenas& arenas_;
    Draw draw_;
    QuantizedMatrix w_;
    MatrixView<float> x_;
    std::span<const float> bias_;
    std::optional<StaticRange> range_;
    std::vector<double> truth_, magnitudes_;
    Underflow underflow_;
    std::map<Layout, std::optional<PackedMatrix>> packed_;
    std::optional<PackedActivations> packed_x_;
    const KernelCode* packed_for_ = nullptr;  ///< the kernel of packed_x_
    std::vector<std::uint32_t> bits_;
};

struct Options {
    std::uint64_t cases = 0, seconds = 0, seed = 1, first = 0;
    std::string kernel;
    bool one = false;
};

struct Counts {
    std::uint64_t cases = 0, products = 0;
    std::map<std::string_view, std::uint64_t> of_kernel;
};

/// False where a kernel was wrong, which has been reported.
bool run_case(std::uint64_t number, const Options& options, Arenas& arenas, Counts& counts) {
    const Problem problem = draw_problem(options.seed, number);
    current_problem = &problem;
    const MatmulQuery query{problem.format, problem.activations, problem.m,
                            problem.n,      problem.k,           Fallback::allow};
    std::optional<Case> data;
    for (const KernelInfo& info : kernel_catalog()) {
        if (info.activations != problem.activations.element ||
            (info.bits & weights_bit(problem.format, info.layout)) == 0 ||
            info.name.find(options.kernel) == std::string_view::npos || !refusal(info, query).empty())
            continue;
        current_kernel = info.name;
        if (!data) data.emplace(problem, arenas);
        if (const std::string wrong = data->run(info); !wrong.empty()) {
            report(wrong);
            return false;
        }
        if (options.one) std::printf("%s: right\n", std::string(info.name).c_str());
        ++counts.of_kernel[info.name];
        ++counts.products;
    }
    if (options.one)
        std::printf("case %llu: %s\n", static_cast<unsigned long long>(number), describe(problem).c_str());
    counts.cases += data.has_value();
    return true;
}

int fuzz(const Options& options) {
#if defined(__GLIBC__)
    // Scratch memory of some kernels is large; without this each product would map and unmap it.
    mallopt(M_MMAP_THRESHOLD, 1 << 28);
    mallopt(M_TRIM_THRESHOLD, 1 << 30);
#endif
    for (const int signal : {SIGSEGV, SIGBUS, SIGILL, SIGFPE}) std::signal(signal, on_crash);
    if (__sanitizer_set_death_callback != nullptr)
        __sanitizer_set_death_callback([] { report("a sanitizer complains, see above"); });

    Arenas arenas;
    Counts counts;
    const auto start = std::chrono::steady_clock::now();
    const auto elapsed = [&] {
        return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    };
    std::uint64_t number = options.first;
    for (; options.cases == 0 || number - options.first < options.cases; ++number) {
        if (options.seconds != 0 && elapsed() >= static_cast<double>(options.seconds)) break;
        if (!run_case(number, options, arenas, counts)) return 1;
    }
    if (options.one) return 0;
    for (const auto& [kernel, count] : counts.of_kernel)
        std::printf("%-32s %10llu products\n", std::string(kernel).c_str(),
                    static_cast<unsigned long long>(count));
    std::printf("seed %llu, cases %llu to %llu: %llu met a kernel, %llu products, all right, %.0f s\n",
                static_cast<unsigned long long>(options.seed), static_cast<unsigned long long>(options.first),
                static_cast<unsigned long long>(number) - 1, static_cast<unsigned long long>(counts.cases),
                static_cast<unsigned long long>(counts.products), elapsed());
    if (counts.products != 0) return 0;
    std::printf("no kernel ran\n");
    return 2;
}

int usage() {
    std::fprintf(
        stderr,
        "usage: fuzz_matmul [--cases N] [--seconds S] [--seed S] [--first I] [--kernel PART-OF-NAME]\n"
        "       fuzz_matmul --seed S --case I     runs one case again\n"
        "Random products by every kernel that this CPU can run, against the double-precision reference.\n"
        "Without --cases and --seconds: ten seconds.\n");
    return 2;
}

}  // namespace
}  // namespace fewbit::testing

int main(int argc, char* argv[]) {
    using namespace fewbit::testing;
    Options options;
    for (int i = 1; i < argc; ++i) {
        const std::string_view option = argv[i];
        if (i + 1 == argc) return usage();
        const char* const value = argv[++i];
        char* end = nullptr;
        const std::uint64_t count = std::strtoull(value, &end, 10);
        if (option == "--kernel") {
            options.kernel = value;
            continue;
        }
        if (end == value || *end != '\0') return usage();
        if (option == "--cases")
            options.cases = count;
        else if (option == "--seconds")
            options.seconds = count;
        else if (option == "--seed")
            options.seed = count;
        else if (option == "--first")
            options.first = count;
        else if (option == "--case")
            options.first = count, options.cases = 1, options.one = true;
        else
            return usage();
    }
    if (options.cases == 0 && options.seconds == 0) options.seconds = 10;
    return fuzz(options);
}
