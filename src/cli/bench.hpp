// The parts of `fewbit bench`.
#pragma once

#include "src/cli/command.hpp"

namespace fewbit::cli {

void add_bench_matmul(CLI::App& bench, Program& program);
void add_bench_model(CLI::App& bench, Program& program);
void add_bench_encode(CLI::App& bench, Program& program);
void add_bench_limits(CLI::App& bench, Program& program);

/// 1 and the threads that --threads asked for (all, by default), without repetition.
[[nodiscard]] std::vector<std::size_t> thread_counts(std::size_t most);

}  // namespace fewbit::cli
