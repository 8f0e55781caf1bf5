// Measuring time: repetitions, medians, and what the machine could do at best.
#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "fewbit/core/executor.hpp"
#include "fewbit/matmul/limits.hpp"

namespace fewbit::cli {

/// Times of repetitions, in seconds.
struct Samples {
    std::vector<double> seconds;

    [[nodiscard]] double median() const;
    /// Distance between the quartiles over the median.
    [[nodiscard]] double spread() const;
};

template <class F>
double seconds_of(F&& work) {
    const auto start = std::chrono::steady_clock::now();
    work();
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/// Bytes of the last-level cache; a guess of 32 MiB where the system does not tell (`known` says).
struct CacheSize {
    std::size_t bytes = 0;
    bool known = false;
};
[[nodiscard]] CacheSize last_level_cache();

/// Memory for reading, with every page touched. Huge pages are asked for, not promised.
class ReadBuffer {
public:
    ReadBuffer(std::size_t bytes, bool huge_pages);

    [[nodiscard]] const std::byte* data() const noexcept { return memory_.get(); }
    [[nodiscard]] std::byte* data() noexcept { return memory_.get(); }
    [[nodiscard]] std::size_t size_bytes() const noexcept { return bytes_; }

private:
    std::size_t bytes_ = 0;
    std::shared_ptr<std::byte> memory_;
};

/// One way to reach a limit on some number of threads.
struct Limit {
    std::string name;     ///< "read", "fma-f32", "dot-bf16", "dot-int8", "dot-int4"
    std::string variant;  ///< of a reader: "plain", ...; of arithmetic: its instructions
    std::string isa;
    std::string pages;  ///< "4k", "huge"; empty for arithmetic
    double units = 0;   ///< bytes or operations of one repetition
    Samples samples;

    [[nodiscard]] double per_second() const { return units / samples.median(); }
};

/// Reads and computes at full speed. One object per number of threads; the buffers are shared.
class LimitMeter {
public:
    /// `buffer_bytes` of memory to read, once with small and once with huge pages.
    LimitMeter(std::size_t buffer_bytes, Executor& executor);

    /// All of them, `repetitions` times each, alternating.
    [[nodiscard]] std::vector<Limit> measure(std::size_t repetitions,
                                             const std::function<void(std::size_t, std::size_t)>& progress);

    /// Remembers the best of each name among `limits`, for once().
    void choose(const std::vector<Limit>& limits);
    /// One more repetition of the chosen one: units per second; 0 when there is none of that name.
    [[nodiscard]] double once(const std::string& name);

private:
    struct Way;
    struct Ways;
    [[nodiscard]] double run(const Way& way);

    Executor* executor_;
    std::shared_ptr<Ways> ways_;
};

}  // namespace fewbit::cli
