// Definitions of training_meter.hpp.
#include "src/cli/training_meter.hpp"

#include <algorithm>
#include <atomic>
#include <cmath>

#include "fewbit/matmul/limits.hpp"

namespace fewbit::cli {
namespace {

double seconds_since(TrainingMeter::Clock::time_point start) {
    return std::chrono::duration<double>(TrainingMeter::Clock::now() - start).count();
}

/// What this machine multiplies in f32 at best, on all lanes: by the strongest loop.
double peak_operations(Program& program) {
    double best = 0;
    const std::size_t lanes = program.executor().workers();
    for (const ComputeLimit& limit : compute_limits()) {
        if (limit.name != "fma-f32") continue;
        std::atomic<std::uint64_t> sink{0};
        // Longer and longer, until a run takes long enough to be timed (emulators are a hundred times slower).
        double seconds = 0;
        for (std::size_t iterations = 1000; seconds < 0.05; iterations *= 4) {
            const auto start = TrainingMeter::Clock::now();
            program.executor().parallel_for(lanes,
                                            [&](std::size_t, std::size_t) { sink += limit.run(iterations); });
            seconds = seconds_since(start);
            best = std::max(best, static_cast<double>(iterations * lanes) * limit.operations / seconds);
        }
    }
    return best;
}

std::string duration(double seconds) {
    const auto minutes = static_cast<long>(std::lround(seconds / 60));
    return minutes >= 60 ? fmt::format("{} h {:02} min", minutes / 60, minutes % 60)
                         : fmt::format("{} min", minutes);
}

}  // namespace

TrainingMeter::TrainingMeter(Program& program, const model::Trainer& trainer, std::size_t steps)
    : trainer_(&trainer),
      steps_(steps),
      threads_(program.executor().workers()),
      start_(Clock::now()),
      peak_(peak_operations(program)) {}

void TrainingMeter::end_step(const model::StepReport& report) {
    step_seconds_ += seconds_since(step_start_);
    tokens_ += report.tokens;
    ++own_steps_;
    loss_ = own_steps_ == 1 ? report.loss : 0.98 * loss_ + 0.02 * report.loss;
    last_ = report;
}

double TrainingMeter::seconds() const { return seconds_since(start_); }

double TrainingMeter::tokens_per_second() const {
    return step_seconds_ > 0 ? static_cast<double>(tokens_) / step_seconds_ : 0;
}

double TrainingMeter::peak_share() const {
    return tokens_per_second() * model::training_operations(trainer_->table()) / peak_;
}

std::string TrainingMeter::headline() const {
    return fmt::format("{} parameters, products on {}, fma-f32 peak {:.0f} GFLOPS, {} thread{}\n",
                       grouped(trainer_->table().size()), trainer_->kernel().name(), peak_ * 1e-9, threads_,
                       threads_ == 1 ? "" : "s");
}

std::string TrainingMeter::short_line() const {
    return fmt::format("loss {:.3f}, {:.0f} tokens/s", loss_, tokens_per_second());
}

std::string TrainingMeter::line() const {
    const double per_step = own_steps_ == 0 ? 0 : step_seconds_ / static_cast<double>(own_steps_);
    return fmt::format(
        "step {} of {}: loss {:.4f}, gradient {:.2f}, {:.0f} tokens/s, {:.2f} of peak, {} left\n", last_.step,
        steps_, loss_, last_.gradient_norm, tokens_per_second(), peak_share(),
        duration(per_step * static_cast<double>(steps_ - std::min<std::size_t>(steps_, last_.step))));
}

Json TrainingMeter::json() const {
    return {{"parameters", trainer_->table().size()},
            {"steps", trainer_->steps_done()},
            {"tokens", tokens_},
            {"seconds", step_seconds_},
            {"tokens_per_second", tokens_per_second()},
            {"loss", loss_},
            {"kernel", trainer_->kernel().name()},
            {"peak_operations_per_second", peak_},
            {"peak_share", peak_share()},
            {"threads", threads_}};
}

}  // namespace fewbit::cli
