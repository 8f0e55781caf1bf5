// The parts of `fewbit bench`.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "fewbit/core/thread_pool.hpp"
#include "fewbit/formats/activation_format.hpp"
#include "src/cli/command.hpp"
#include "src/cli/measure.hpp"

namespace fewbit::cli {

void add_bench_matmul(CLI::App& bench, Program& program);
void add_bench_model(CLI::App& bench, Program& program);
void add_bench_encode(CLI::App& bench, Program& program);
void add_bench_limits(CLI::App& bench, Program& program);

/// 1 and the threads that --threads asked for (all, by default), without repetition.
[[nodiscard]] std::vector<std::size_t> thread_counts(std::size_t most);

/// Threads, and what the machine does with them at best.
struct MeteredThreads {
    std::unique_ptr<ThreadPool> pool;
    std::unique_ptr<LimitMeter> meter;
};
/// For each of thread_counts(most); every meter reads `buffer_bytes`.
[[nodiscard]] std::vector<MeteredThreads> metered_threads(std::size_t most, std::size_t buffer_bytes);

/// What weights of `format` are timed with: activations_for() each of `wanted`, without repetition;
/// suited_activations() where none is.
[[nodiscard]] std::vector<ActivationFormat> timed_activations(const Format& format,
                                                              const std::vector<ActivationFormat>& wanted);

/// The limit of arithmetic (Limit::name) that products of such weights and activations can reach on this machine.
[[nodiscard]] std::string arithmetic_limit(const Format& format, const ActivationFormat& activations,
                                           LimitMeter& meter);

}  // namespace fewbit::cli
