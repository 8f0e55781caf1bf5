// OpenMpExecutor: an Executor on the OpenMP runtime that the host program already uses. Include it only in
// sources that are compiled with OpenMP; the library itself does not link it.
#pragma once

#if !defined(_OPENMP)
#error "fewbit/core/openmp_executor.hpp needs a source that is compiled with OpenMP (-fopenmp)"
#endif

#include <omp.h>

#include <cstddef>

#include "fewbit/core/executor.hpp"

namespace fewbit::inline v0 {

class OpenMpExecutor final : public Executor {
public:
    /// `threads` lanes; 0 takes omp_get_max_threads().
    explicit OpenMpExecutor(int threads = 0) : threads_(threads > 0 ? threads : omp_get_max_threads()) {}

    [[nodiscard]] std::size_t workers() const noexcept override { return static_cast<std::size_t>(threads_); }

    void parallel_for(std::size_t tasks, Body body) override {
        const auto count = static_cast<long long>(tasks);
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads_)
        for (long long task = 0; task < count; ++task)
            body(static_cast<std::size_t>(task), static_cast<std::size_t>(omp_get_thread_num()));
    }

private:
    int threads_;
};

}  // namespace fewbit::inline v0
