// rtn: round to nearest. Each group's grid spans its weights, each weight takes the nearest code; no
// statistics.
#pragma once

#include <span>
#include <string>

#include "fewbit/quantize/quantized.hpp"

namespace fewbit::inline v0 {

struct RtnOptions {
    std::string tensor;  ///< name used in error sentences; may be empty
    /// (K) or empty: what errors in an input channel weigh, finite and >= 0, as an importance matrix has them.
    /// Only formats of ggml's blocks look at it. Has to live as long as the options.
    std::span<const float> importance = {};
};

/// Quantizes w (N, K) to `format`; the grids are those of fit_grid (grid.hpp). Float formats: a rounding of
/// each weight. Any shape, the empty ones too. The same bytes for any context.
///
/// With s the stored scale of w's group, u the unit roundoff of its type (f32 2^-24, f16 2^-11, bf16 2^-8),
/// absmax, min and max taken over the group (integer: with 0 among them):
///     |w - w^| <= s/2 + clip + 2^-22 (absmax + s)
///     clip = max(0, absmax - (2^(b-1) - 1/2) s)       symmetric       <= u absmax
///            max(0, absmax - (2^(b-1) - 1) s)         narrow          <= u absmax
///            max(0, max - min - (2^b - 1) s)          integer         <= u (max - min)
///            max(0, max - offset - (2^b - 1) s)       real            <= u (max - offset)
/// clip is what rounding the scale down cut off the range; it is 0 where the scale was rounded up, always in
/// the subnormal range of its type. Constant groups (not real): |w - w^| <= u |w| + half the smallest number
/// of the type.
///
/// Codebooks: each weight takes the nearest value, and with scales that may not clip no weight is farther from its
/// stored value than half the widest gap of the table, times s, plus clip = u absmax.
///
/// Formats of ggml's blocks are encoded as ggml's reference does it, byte for byte (ggml/encode.hpp).
///
/// Errors: a weight that is NaN or infinite; a group whose scale or offset overflows its type; an invalid
/// format, or one of blocks that K is no multiple of; an importance that does not fit.
[[nodiscard]] FEWBIT_API Result<Quantized> quantize_rtn(MatrixView<const float> w, const Format& format,
                                                        const RtnOptions& options = {},
                                                        ExecutionContext context = {});

}  // namespace fewbit::inline v0

#if defined(FEWBIT_HEADER_ONLY)
#include "fewbit/quantize/grid_methods_impl.hpp"
#endif
