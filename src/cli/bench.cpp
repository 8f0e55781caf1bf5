// `fewbit bench`: the group of the benchmarks.
#include <CLI/CLI.hpp>

#include "src/cli/bench.hpp"

namespace fewbit::cli {

std::vector<std::size_t> thread_counts(std::size_t most) {
    return most <= 1 ? std::vector<std::size_t>{1} : std::vector<std::size_t>{1, most};
}

std::vector<MeteredThreads> metered_threads(std::size_t most, std::size_t buffer_bytes) {
    std::vector<MeteredThreads> all;
    for (const std::size_t threads : thread_counts(most)) {
        auto pool = std::make_unique<ThreadPool>(threads);
        auto meter = std::make_unique<LimitMeter>(buffer_bytes, *pool);
        meter->choose(meter->measure(3, {}));
        all.push_back({std::move(pool), std::move(meter)});
    }
    return all;
}

std::vector<ActivationFormat> timed_activations(const Format& format,
                                                const std::vector<ActivationFormat>& wanted) {
    if (wanted.empty()) return {suited_activations(format)};
    std::vector<ActivationFormat> timed;
    for (const ActivationFormat& one : wanted) {
        const ActivationFormat used = activations_for(format, one);
        if (std::ranges::find(timed, used) == timed.end()) timed.push_back(used);
    }
    return timed;
}

std::string arithmetic_limit(const Format& format, const ActivationFormat& activations, LimitMeter& meter) {
    if (activations.element == ActivationElement::int8)
        return format.bits <= 4 && meter.once("dot-int4") > meter.once("dot-int8") ? "dot-int4" : "dot-int8";
    return activations.element == ActivationElement::bf16 && meter.once("dot-bf16") > 0 ? "dot-bf16"
                                                                                        : "fma-f32";
}

void add_bench(CLI::App& app, Program& program) {
    CLI::App* bench = app.add_subcommand("bench", "Time kernels against each other and against the machine");
    bench->require_subcommand(1);
    add_bench_matmul(*bench, program);
    add_bench_model(*bench, program);
    add_bench_encode(*bench, program);
    add_bench_limits(*bench, program);
}

}  // namespace fewbit::cli
