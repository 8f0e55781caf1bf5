// What a training command shows while it runs: loss, speed, time left.
#pragma once

#include <chrono>
#include <cstddef>
#include <string>

#include "fewbit/model/trainer.hpp"
#include "src/cli/command.hpp"

namespace fewbit::cli {

class TrainingMeter {
public:
    using Clock = std::chrono::steady_clock;

    /// Measures the machine's fma-f32 peak on all lanes first (matmul/limits.hpp).
    TrainingMeter(Program& program, const model::Trainer& trainer, std::size_t steps);

    /// Around each step.
    void start_step() { step_start_ = Clock::now(); }
    void end_step(const model::StepReport& report);

    [[nodiscard]] double seconds() const;  ///< since construction
    [[nodiscard]] std::size_t tokens() const { return tokens_; }
    [[nodiscard]] double step_seconds() const { return step_seconds_; }  ///< in steps
    [[nodiscard]] double tokens_per_second() const;
    [[nodiscard]] double loss() const { return loss_; }  ///< mean over about the last fifty steps
    [[nodiscard]] double peak() const { return peak_; }  ///< operations per second
    /// Operations of the steps' products over the peak.
    [[nodiscard]] double peak_share() const;

    [[nodiscard]] std::string headline() const;  ///< before the first step
    [[nodiscard]] std::string short_line() const;
    [[nodiscard]] std::string line() const;
    /// steps, tokens, seconds, tokens_per_second, loss, kernel, peak_operations_per_second, peak_share,
    /// threads.
    [[nodiscard]] Json json() const;

private:
    const model::Trainer* trainer_;
    std::size_t steps_, threads_;
    Clock::time_point start_, step_start_;
    double peak_ = 0, step_seconds_ = 0, loss_ = 0;
    std::size_t tokens_ = 0, own_steps_ = 0;
    model::StepReport last_;
};

}  // namespace fewbit::cli
