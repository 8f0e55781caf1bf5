// Jobs on lanes: groups are taken F::lanes at a time, their weights transposed so that lane l holds group l, and what
// was found is put back. Lanes without a group repeat the last one, whose results are then written more than once.
// Kernel files include this header; see lanes.hpp.
#pragma once

#include "fewbit/formats/ggml/lane_one_pass.hpp"
#include "fewbit/formats/ggml/lane_search.hpp"

namespace fewbit::inline v0::ggml::detail {

template <class F>
class LaneBatch {
public:
    static constexpr std::size_t lanes = F::lanes;

    /// Groups first .. first + lanes of the job.
    LaneBatch(const LaneJob& job, std::size_t first) noexcept : job_(job), first_(first) {
        if (job.task != LaneTask::squares) transpose(job.x, x_);
    }

    void run() noexcept {
        const auto most = static_cast<float>(job_.most);
        switch (job_.task) {
            case LaneTask::squares: return squares();
            case LaneTask::affine: {
                weigh();
                const Affine<F> fit = job_.search.square
                                          ? fit_affine<F, true>(job_.n, most, x_, w_, job_.search, codes_)
                                          : fit_affine<F, false>(job_.n, most, x_, w_, job_.search, codes_);
                put(fit.scale, job_.scale);
                put(fit.minimum, job_.offset);
                return put_codes();
            }
            case LaneTask::symmetric:
                weigh();
                put(fit_symmetric(job_.n, most, x_, w_, codes_), job_.scale);
                return put_codes();
            case LaneTask::q3: put(fit_q3(job_.n, x_, codes_), job_.scale); return put_codes();
            case LaneTask::positive:
                weigh();
                put(fit_positive(job_.n, most, x_, w_, codes_), job_.scale);
                return put_codes();
            case LaneTask::iq4: weigh(); return put(fit_iq4(job_.n, x_, w_), job_.scale);
            case LaneTask::round: return round(most);
            case LaneTask::round_iq4: {
                const F inverse = given(job_.scale);
                for (std::size_t i = 0; i < job_.n; ++i)
                    codes_[i] = closest_iq4(inverse * x_[i], Iq4Tables<F>::codes);
                return put_codes();
            }
            default: return;  // one pass
        }
    }

private:
    [[nodiscard]] std::size_t group(std::size_t l) const noexcept {
        const std::size_t g = first_ + l;
        return g < job_.groups ? g : job_.groups - 1;
    }
    /// One number of each group.
    [[nodiscard]] F given(const float* values) const noexcept {
        float each[lanes];
        for (std::size_t l = 0; l < lanes; ++l) each[l] = values[group(l)];
        return F::load(each);
    }
    /// out[i] lane l = weight i of group l.
    void transpose(const float* groups, F* out) const noexcept {
        const bool full = first_ + lanes <= job_.groups;
        const float* const first = groups + first_ * job_.n;
        if (full && job_.n == 32)
            return transpose_with(
                32, [&](std::size_t l) { return first + 32 * l; }, out);
        if (full && job_.n == 16)
            return transpose_with(
                16, [&](std::size_t l) { return first + 16 * l; }, out);
        transpose_with(
            job_.n, [&](std::size_t l) { return groups + group(l) * job_.n; }, out);
    }
    template <class Row>
    static void transpose_with(std::size_t n, Row row, F* out) noexcept {
        for (std::size_t i = 0; i < n; i += 4) F::load4([&](std::size_t l) { return row(l) + i; }, out + i);
    }
    void put(F values, float* to) const noexcept {
        float each[lanes];
        values.store(each);
        for (std::size_t l = 0; l < lanes; ++l) to[group(l)] = each[l];
    }
    void put_codes() noexcept {
        std::uint8_t* rows[lanes];
        for (std::size_t l = 0; l < lanes; ++l) rows[l] = job_.codes + group(l) * job_.code_stride;
        put_codes(rows);
    }
    void put_codes(std::uint8_t* const* rows) noexcept {
        for (std::size_t i = 0; i < job_.n; i += 4) F::store4(codes_ + i, rows, i);
    }

    void squares() noexcept {
        F sum = 0.0f, x[4];
        for (std::size_t i = 0; i < job_.n; i += 4) {
            F::load4([&](std::size_t l) { return job_.x + group(l) * job_.n + i; }, x);
            for (std::size_t j = 0; j < 4; ++j) sum = sum + x[j] * x[j];
        }
        put(sum, job_.scale);
    }
    void weigh() noexcept {
        const std::size_t n = job_.n;
        switch (job_.weighing) {
            case Weighing::squares:
                for (std::size_t i = 0; i < n; ++i) w_[i] = x_[i] * x_[i];
                break;
            case Weighing::magnitude: {
                const F size = given(job_.spread);
                for (std::size_t i = 0; i < n; ++i) w_[i] = size + abs(x_[i]);
                break;
            }
            case Weighing::importance: transpose(job_.importance, w_); break;
            case Weighing::spread_importance: {
                transpose(job_.importance, w_);
                const F variance = given(job_.spread);
                for (std::size_t i = 0; i < n; ++i) w_[i] = w_[i] * sqrt(variance + x_[i] * x_[i]);
                break;
            }
        }
        if (job_.weight_sums == nullptr) return;
        F sum = 0.0f;
        for (std::size_t i = 0; i < n; ++i) sum = sum + w_[i];
        put(sum, job_.weight_sums);
    }
    void round(float most) noexcept {
        const F scale = given(job_.scale), offset = given(job_.offset), zero = static_cast<float>(job_.zero);
        for (std::size_t i = 0; i < job_.n; ++i) {
            const F code = nearest((x_[i] - offset) / scale) + zero;
            codes_[i] = max(min(code, F(most)), F(0.0f));
        }
        std::uint8_t* rows[lanes];
        std::uint8_t nowhere[most_lane_elements];
        for (std::size_t l = 0; l < lanes; ++l)
            rows[l] = job_.scale[group(l)] == 0 ? nowhere : job_.codes + group(l) * job_.code_stride;
        put_codes(rows);
    }
    const LaneJob& job_;
    std::size_t first_;
    F x_[most_lane_elements], w_[most_lane_elements], codes_[most_lane_elements];
};

template <class F>
void run_lanes(const LaneJob& job) noexcept {
    const bool one_pass =
        job.task == LaneTask::to_end || job.task == LaneTask::range || job.task == LaneTask::q8_0;
    for (std::size_t g = 0; g < job.groups; g += F::lanes)
        one_pass ? OnePassBatch<F>(job, g).run() : LaneBatch<F>(job, g).run();
}

}  // namespace fewbit::inline v0::ggml::detail
