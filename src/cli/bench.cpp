// `fewbit bench`: the group of the benchmarks.
#include <CLI/CLI.hpp>

#include "src/cli/bench.hpp"

namespace fewbit::cli {

std::vector<std::size_t> thread_counts(std::size_t most) {
    return most <= 1 ? std::vector<std::size_t>{1} : std::vector<std::size_t>{1, most};
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
