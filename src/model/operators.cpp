// The operators of a decoder, scalar code that compilers vectorize where they can.
#include "fewbit/model/operators.hpp"

#include <algorithm>
#include <cmath>

#include "fewbit/core/checked.hpp"

namespace fewbit::inline v0::model {
namespace {

constexpr std::size_t block_rows = 16;       // query rows that share one pass over the cache
constexpr std::size_t block_positions = 64;  // positions that are read together
constexpr std::size_t worth_a_region =
    8192;  // element operations below which waking other threads costs more

/// body(row) for all rows: here if there is little to do, else in blocks over the lanes.
template <class Body>
void for_rows(ExecutionContext context, std::size_t rows, std::size_t row_cost, Body&& body) {
    const std::size_t per_task =
        std::max<std::size_t>(1, worth_a_region / (4 * std::max<std::size_t>(row_cost, 1)));
    const std::size_t tasks = ceil_div(rows, per_task);
    if (context.workers() == 1 || tasks <= 4) {
        for (std::size_t row = 0; row < rows; ++row) body(row);
        return;
    }
    context.parallel_for(tasks, [&](std::size_t task, std::size_t) {
        for (std::size_t row = task * per_task; row < std::min(rows, (task + 1) * per_task); ++row) body(row);
    });
}

/// Eight partial sums: an order that vectorizes and is always the same.
float dot(const float* a, const float* b, std::size_t count) noexcept {
    constexpr std::size_t width = 8;
    float sums[width] = {};
    std::size_t i = 0;
    for (; i + width <= count; i += width)
        for (std::size_t j = 0; j < width; ++j) sums[j] += a[i + j] * b[i + j];
    float tail = 0;
    for (; i < count; ++i) tail += a[i] * b[i];
    return ((sums[0] + sums[4]) + (sums[1] + sums[5])) + ((sums[2] + sums[6]) + (sums[3] + sums[7])) + tail;
}

/// scores[0, count) -> softmax, in place.
void softmax(float* scores, std::size_t count) noexcept {
    float largest = scores[0];
    for (std::size_t i = 1; i < count; ++i) largest = std::max(largest, scores[i]);
    double sum = 0;
    for (std::size_t i = 0; i < count; ++i) {
        scores[i] = std::exp(scores[i] - largest);
        sum += static_cast<double>(scores[i]);
    }
    const float scale = static_cast<float>(1.0 / sum);
    for (std::size_t i = 0; i < count; ++i) scores[i] *= scale;
}

/// Floats of one lane: scores (block_rows, positions), then what the cache asks for.
std::size_t lane_elements(const KvCache& cache, std::size_t rows, std::size_t first_position) noexcept {
    return round_up(
        std::min(rows, block_rows) * (first_position + rows) + cache.scratch_elements(block_positions), 16);
}

}  // namespace

void rms_norm(MatrixView<const float> x, std::span<const float> gain, float epsilon, MatrixView<float> y,
              ExecutionContext context) {
    for_rows(context, x.rows, x.cols, [&](std::size_t m) {
        const float* in = x.row(m).data();
        float* out = y.row(m).data();
        double squares = 0;
        for (std::size_t i = 0; i < x.cols; ++i)
            squares += static_cast<double>(in[i]) * static_cast<double>(in[i]);
        const double mean = squares / static_cast<double>(std::max<std::size_t>(x.cols, 1));
        const auto scale = static_cast<float>(1.0 / std::sqrt(mean + static_cast<double>(epsilon)));
        for (std::size_t i = 0; i < x.cols; ++i) out[i] = in[i] * scale * gain[i];
    });
}

void rope_table(std::size_t first_position, float base, MatrixView<float> table, ExecutionContext context) {
    const auto head_dim = static_cast<double>(table.cols);
    for_rows(context, table.rows, 32 * table.cols, [&](std::size_t m) {
        for (std::size_t i = 0; i + 1 < table.cols; i += 2) {
            const double frequency = std::pow(static_cast<double>(base), -static_cast<double>(i) / head_dim);
            const double angle = static_cast<double>(first_position + m) * frequency;
            table(m, i) = static_cast<float>(std::cos(angle));
            table(m, i + 1) = static_cast<float>(std::sin(angle));
        }
    });
}

void rope(MatrixView<float> x, std::size_t heads, MatrixView<const float> table, ExecutionContext context) {
    for_rows(context, x.rows, x.cols, [&](std::size_t m) {
        const float* turn = table.row(m).data();
        for (std::size_t head = 0; head < heads; ++head) {
            float* pair = x.row(m).data() + head * table.cols;
            for (std::size_t i = 0; i + 1 < table.cols; i += 2) {
                const float a = pair[i], b = pair[i + 1], cosine = turn[i], sine = turn[i + 1];
                pair[i] = a * cosine - b * sine;
                pair[i + 1] = a * sine + b * cosine;
            }
        }
    });
}

std::size_t attention_scratch_elements(const KvCache& cache, std::size_t rows, std::size_t first_position,
                                       std::size_t lanes) noexcept {
    return lanes * lane_elements(cache, rows, first_position);
}

void attention(MatrixView<const float> q, std::size_t heads, const KvCache& cache, std::size_t layer,
               std::size_t first_position, MatrixView<float> out, std::span<float> scratch,
               ExecutionContext context) {
    const std::size_t head_dim = cache.head_dim(), group = heads / cache.heads();
    const std::size_t scores_stride = first_position + q.rows;
    const std::size_t lane_size = lane_elements(cache, q.rows, first_position);
    const auto scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(head_dim)));
    const std::size_t blocks = ceil_div(q.rows, block_rows);

    // One task: one query head, up to block_rows rows of q.
    const auto task = [&](std::size_t index, std::size_t lane) {
        const std::size_t head = index % heads, kv_head = head / group;
        const std::size_t row_begin = index / heads * block_rows,
                          row_end = std::min(q.rows, row_begin + block_rows);
        const std::size_t longest = first_position + row_end;     // positions that the last row sees
        float* const scores = scratch.data() + lane * lane_size;  // (rows, scores_stride)
        const std::span<float> decoded =
            scratch.subspan(lane * lane_size + std::min(q.rows, block_rows) * scores_stride,
                            cache.scratch_elements(block_positions));
        const auto visible = [&](std::size_t row) { return first_position + row + 1; };

        for (std::size_t begin = 0; begin < longest; begin += block_positions) {
            const std::size_t count = std::min(block_positions, longest - begin);
            const MatrixView<const float> keys = cache.keys(layer, kv_head, begin, count, decoded);
            for (std::size_t row = row_begin; row < row_end; ++row) {
                const float* query = q.row(row).data() + head * head_dim;
                float* row_scores = scores + (row - row_begin) * scores_stride;
                for (std::size_t p = begin; p < std::min(begin + count, visible(row)); ++p)
                    row_scores[p] = dot(query, keys.row(p - begin).data(), head_dim) * scale;
            }
        }
        for (std::size_t row = row_begin; row < row_end; ++row) {
            softmax(scores + (row - row_begin) * scores_stride, visible(row));
            std::fill_n(out.row(row).data() + head * head_dim, head_dim, 0.0f);
        }
        for (std::size_t begin = 0; begin < longest; begin += block_positions) {
            const std::size_t count = std::min(block_positions, longest - begin);
            const MatrixView<const float> values = cache.values(layer, kv_head, begin, count, decoded);
            for (std::size_t row = row_begin; row < row_end; ++row) {
                float* sum = out.row(row).data() + head * head_dim;
                const float* row_scores = scores + (row - row_begin) * scores_stride;
                for (std::size_t p = begin; p < std::min(begin + count, visible(row)); ++p) {
                    const float weight = row_scores[p];
                    const float* value = values.row(p - begin).data();
                    for (std::size_t i = 0; i < head_dim; ++i) sum[i] += weight * value[i];
                }
            }
        }
    };
    if (blocks * heads * head_dim * scores_stride < worth_a_region) {
        for (std::size_t index = 0; index < blocks * heads; ++index) task(index, 0);
        return;
    }
    context.parallel_for(blocks * heads, task);
}

void silu_multiply(MatrixView<float> gate, MatrixView<const float> up, ExecutionContext context) {
    for_rows(context, gate.rows, 8 * gate.cols, [&](std::size_t m) {
        float* g = gate.row(m).data();
        const float* u = up.row(m).data();
        for (std::size_t i = 0; i < gate.cols; ++i) g[i] = g[i] / (1.0f + std::exp(-g[i])) * u[i];
    });
}

void add(MatrixView<float> x, MatrixView<const float> y, ExecutionContext context) {
    for_rows(context, x.rows, x.cols, [&](std::size_t m) {
        float* sum = x.row(m).data();
        const float* addend = y.row(m).data();
        for (std::size_t i = 0; i < x.cols; ++i) sum[i] += addend[i];
    });
}

}  // namespace fewbit::inline v0::model
