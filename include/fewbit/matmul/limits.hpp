// Loops that measure what a machine can do, so that a kernel's time can be told as a share of a limit:
// arithmetic that never leaves the registers, and reading memory with nothing else to do. They compute
// nothing of use; what they return depends on every operation, so that no compiler drops one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "fewbit/core/config.hpp"
#include "fewbit/matmul/contract.hpp"

namespace fewbit::inline v0 {

/// Arithmetic: `run(iterations)` does iterations * operations multiplications and additions.
struct ComputeLimit {
    std::string_view
        name;  ///< "fma-f32", "dot-bf16": float products. "dot-int8", "dot-int4": integer products of that many bits
    Isa isa;
    std::string_view instructions;  ///< what the loop consists of
    double operations;              ///< per iteration; a multiply-add counts as two
    std::uint64_t (*run)(std::size_t iterations) noexcept;
};

/// Reading: `run(p, bytes)` reads all bytes of a buffer that is aligned to 64 bytes and a multiple of 4096
/// long.
struct ReadLimit {
    std::string_view name;  ///< "plain", "prefetch", "streams"
    Isa isa;
    std::uint64_t (*run)(const void* p, std::size_t bytes) noexcept;
};

/// Those of this build that this CPU can run.
[[nodiscard]] FEWBIT_API std::span<const ComputeLimit> compute_limits() noexcept;
[[nodiscard]] FEWBIT_API std::span<const ReadLimit> read_limits() noexcept;

}  // namespace fewbit::inline v0
