// Rotations: orthogonal matrices put between the matrices of a decoder, so that outliers of a few channels are spread over
// many before anything is rounded. The float model computes what it did (QuaRot, Ashkboos et al. 2024, arXiv 2404.00456; places named as in
// SpinQuant, Liu et al. 2024, arXiv 2405.16406):
//
//   residual (R1)  x Q of the residual stream: rows of embedding; columns of q, k, v, gate, up and the head are
//                  multiplied by their norm's gains, which become 1, and by Q; rows of o and down by Q^T
//   heads (R2)     of each head: rows of v and columns of o
//   down (R4)      columns of down, and its input while the model runs (Linear's transform)
//
// R3, of queries and keys after their rotary turn, changes no weight: model::KvCacheOptions::rotate_keys.
// Q is a Hadamard matrix (formats/hadamard.hpp), of R1 and R2 behind random signs; where none has the order wanted, of blocks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "fewbit/core/config.hpp"
#include "fewbit/core/executor.hpp"
#include "fewbit/core/result.hpp"
#include "fewbit/io/model_file.hpp"

namespace fewbit::inline v0::pipeline {

struct RotationOptions {
    bool residual = true, heads = true, down = true;
    std::uint64_t seed = 0x726F746174696F6E;  ///< of the signs
};

/// What was done: orders of the Hadamard matrices; 0: not rotated. Less than the width: in blocks.
struct RotationReport {
    std::size_t residual = 0, heads = 0, down = 0;
    bool untied =
        false;  ///< the head was the embedding; with the norm's gains in it it is a matrix of its own

    /// "residual 64, heads 8, down 172 (while running)"
    [[nodiscard]] FEWBIT_API std::string text() const;
};

/// Rotates a float model. Products are of double precision, each weight is rounded to f32 once. Matrices are replaced, not written
/// to: copies of `file` keep theirs. `file.metadata["rotations"]` says what was done. Errors, which leave `file` as it was: no
/// decoder; a norm or a matrix that is missing, of another shape, quantized, or transformed already; a product that leaves f32. By name.
[[nodiscard]] FEWBIT_API Result<RotationReport> rotate(io::ModelFile& file,
                                                       const RotationOptions& options = {},
                                                       ExecutionContext context = {});

}  // namespace fewbit::inline v0::pipeline
