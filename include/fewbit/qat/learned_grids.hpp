// LearnedGrids: the trained scales and offsets of one weight matrix (LSQ, LSQ+), with the grids that were
// made of them. The functions below it are those of learned_scale.hpp and fake_quantize.hpp.
#pragma once

#include <algorithm>
#include <cstddef>
#include <limits>
#include <span>
#include <utility>
#include <vector>

#include "fewbit/qat/learned_scale.hpp"

namespace fewbit::inline v0::qat {

/// Scales and offsets of one weight matrix in training, with the buffers that a step needs.
///
///   auto grids = LearnedGrids::make(w, format);
///   each step:  grids->forward(w, w^, mask)
///               (the model: w^ -> L -> dL/dw^)
///               grids->backward(dw^, w, mask, dw, ds, db)
///               (the optimizer: w, scales(), offsets())
///               grids->project()
class LearnedGrids {
public:
    LearnedGrids() = default;

    /// Errors: those of initial_parameters and round_grids; a float format.
    [[nodiscard]] static Result<LearnedGrids> make(MatrixView<const float> w, const Format& format,
                                                   InitialScale from = InitialScale::lsq) {
        LearnedGrids made;
        made.format_ = format;
        if (auto valid = validate_uniform(format); !valid) return Unexpected{std::move(valid).error()};
        if (format.is_float())
            return fail(ErrorKind::bad_input, fewbit::name(format), " has no scales that could be trained");
        made.grids_.resize(format.scales(w.rows, w.cols));
        made.scales_.resize(made.grids_.size());
        made.offsets_.resize(format.offset == Offset::none ? 0 : made.grids_.size());
        if (auto ready = initial_parameters(w, format, from, made.scales_, made.offsets_); !ready)
            return Unexpected{std::move(ready).error()};
        if (auto ready = round_grids(format, made.scales_, made.offsets_, made.grids_); !ready)
            return Unexpected{std::move(ready).error()};
        return made;
    }

    [[nodiscard]] const Format& format() const noexcept { return format_; }
    /// The trained numbers: what the optimizer changes.
    [[nodiscard]] std::span<float> scales() noexcept { return scales_; }
    [[nodiscard]] std::span<float> offsets() noexcept { return offsets_; }
    /// As stored, of the last forward.
    [[nodiscard]] std::span<const GroupGrid> grids() const noexcept { return grids_; }

    /// Rounds scales and offsets, then fake_quantize with Border::value. Errors: those of both.
    [[nodiscard]] Result<void> forward(MatrixView<const float> w, MatrixView<float> out,
                                       MatrixView<Place> mask) {
        if (auto ready = round_grids(format_, scales_, offsets_, grids_); !ready) return ready;
        return fake_quantize(w, format_, grids_, out, mask, Border::value);
    }
    /// learned_backward of the last forward, before scales and offsets change.
    [[nodiscard]] Result<void> backward(MatrixView<const float> d_out, MatrixView<const float> w,
                                        MatrixView<const Place> mask, MatrixView<float> d_w,
                                        std::span<float> d_scales, std::span<float> d_offsets,
                                        const LsqGradient& options = {}) const {
        return learned_backward(d_out, w, mask, format_, grids_, offsets_, d_w, d_scales, d_offsets, options);
    }
    /// After the optimizer: brings scales back above `floor` times those of the last forward (a step too far
    /// must not turn one negative) and the offsets of integer zero points to where the zero is a code
    /// (outside, they would never get a gradient again). NaN stays, and the next forward reports it.
    void project(float floor = 1.0f / 16) noexcept {
        for (std::size_t i = 0; i < scales_.size(); ++i) {
            const float least = std::max(grids_[i].scale * floor, std::numeric_limits<float>::denorm_min());
            scales_[i] = scales_[i] < least ? least : scales_[i];
            if (format_.offset != Offset::integer) continue;
            const float lowest = -scales_[i] * static_cast<float>(format_.max_code());
            offsets_[i] = offsets_[i] > 0 ? 0 : offsets_[i] < lowest ? lowest : offsets_[i];
        }
    }
    /// w stored with the present scales and offsets: what a forward now would show. Errors: those of forward;
    /// no memory.
    [[nodiscard]] Result<QuantizedMatrix> to_quantized(MatrixView<const float> w) const {
        std::vector<GroupGrid> grids(grids_.size());
        if (auto ready = round_grids(format_, scales_, offsets_, grids); !ready)
            return Unexpected{std::move(ready).error()};
        return qat::to_quantized(w, format_, grids);
    }

private:
    Format format_;
    std::vector<float> scales_, offsets_;
    std::vector<GroupGrid> grids_;
};

}  // namespace fewbit::inline v0::qat
