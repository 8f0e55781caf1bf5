// Attention over the cache, in blocks: which lines go together, and what a block is given. The arithmetic of a block
// lies in kernels/operators.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "fewbit/core/checked.hpp"
#include "fewbit/model/operators.hpp"
#include "src/model/chosen_operators.hpp"

namespace fewbit::inline v0::model {
namespace {

constexpr std::size_t worth_a_region = 1 << 16;  // multiply-adds below which waking other threads costs more

/// Where things stand in the scratch memory of a lane, in floats.
struct LaneMemory {
    std::size_t columns;  ///< head_dim, padded
    std::size_t queries, scores, values, out, largest, sums, rescale, decoded, size;

    explicit LaneMemory(const KvCache& cache) : columns(round_up(cache.head_dim(), attention_padding)) {
        std::size_t next = 0;
        const auto take = [&next](std::size_t elements) {
            const std::size_t at = next;
            next += round_up(elements, attention_padding);
            return at;
        };
        queries = take(cache.head_dim() * attention_lines);
        scores = take(attention_positions * attention_lines);
        values = take(columns == cache.head_dim() ? 0 : attention_positions * columns);
        out = take(attention_lines * columns);
        largest = take(attention_lines);
        sums = take(attention_lines);
        rescale = take(attention_lines);
        decoded = take(cache.scratch_elements(attention_positions));
        size = next;
    }
};

/// Lines that a task takes: whole rows of q where a row's heads fit, and fewer where lanes would stay idle.
std::size_t lines_of_task(std::size_t group, std::size_t lines, std::size_t kv_heads, std::size_t lanes) {
    const std::size_t fair = round_up(ceil_div(lines * kv_heads, 4 * lanes), attention_padding);
    const std::size_t most = std::clamp(fair, attention_padding, attention_lines);
    return group < most ? most / group * group : most;
}

}  // namespace

std::size_t attention_scratch_elements(const KvCache& cache, std::size_t lanes) noexcept {
    return lanes * LaneMemory(cache).size;
}

void attention(MatrixView<const float> q, std::size_t heads, const KvCache& cache, std::size_t layer,
               std::size_t first_position, MatrixView<float> out, std::span<float> scratch,
               ExecutionContext context) {
    const OperatorCode& code = chosen_operators();
    const LaneMemory memory(cache);
    const std::size_t head_dim = cache.head_dim(), group = heads / cache.heads();
    const std::size_t lines = q.rows * group;  // of a key-value head: row by row, the heads of a row together
    const std::size_t per_task = lines_of_task(group, lines, cache.heads(), context.workers());
    const auto scale =
        static_cast<float>(1.4426950408889634 / std::sqrt(static_cast<double>(head_dim)));  // of 2^x

    const auto task = [&](std::size_t index, std::size_t lane) {
        const std::size_t kv_head = index % cache.heads(), first_line = index / cache.heads() * per_task;
        float* const mine = scratch.data() + lane * memory.size;
        AttentionBlock b;
        b.lines = std::min(per_task, lines - first_line);
        b.stride = round_up(b.lines, attention_padding);
        b.head_dim = head_dim;
        b.out_columns = memory.columns;
        b.queries = mine + memory.queries;
        b.scores = mine + memory.scores;
        b.largest = mine + memory.largest;
        b.sums = mine + memory.sums;
        b.rescale = mine + memory.rescale;
        b.out = mine + memory.out;
        std::size_t visible[attention_lines];
        b.visible = visible;
        const std::span<float> decoded(mine + memory.decoded, cache.scratch_elements(attention_positions));

        const auto row_of = [&](std::size_t line) { return (first_line + line) / group; };
        const auto column_of = [&](std::size_t line) {
            return (kv_head * group + (first_line + line) % group) * head_dim;
        };
        float* const queries = mine + memory.queries;
        std::fill_n(queries, head_dim * b.stride, 0.0f);
        for (std::size_t line = 0; line < b.lines; ++line) {
            const float* query = q.row(row_of(line)).data() + column_of(line);
            for (std::size_t i = 0; i < head_dim; ++i) queries[i * b.stride + line] = query[i] * scale;
        }
        std::fill_n(b.largest, b.stride, -std::numeric_limits<float>::infinity());
        std::fill_n(b.sums, b.stride, 0.0f);
        std::fill_n(b.out, b.lines * b.out_columns, 0.0f);

        const std::size_t longest = first_position + row_of(b.lines - 1) + 1;  // positions of the last line
        for (std::size_t begin = 0; begin < longest; begin += attention_positions) {
            b.positions = std::min(attention_positions, longest - begin);
            for (std::size_t line = 0; line < b.lines; ++line) {
                const std::size_t seen = first_position + row_of(line) + 1;
                visible[line] = seen <= begin ? 0 : std::min(b.positions, seen - begin);
            }
            const MatrixView<const float> keys = cache.keys(layer, kv_head, begin, b.positions, decoded);
            b.rows = keys.data;
            b.rows_stride = keys.stride_elements;
            b.next =
                decoded.empty() ? cache.values(layer, kv_head, begin, b.positions, decoded).data : b.rows;
            code.attend_keys(b);
            const MatrixView<const float> values = cache.values(layer, kv_head, begin, b.positions, decoded);
            b.rows = values.data;
            b.rows_stride = values.stride_elements;
            b.next = keys.data + b.positions * keys.stride_elements;
            if (memory.columns != head_dim) {
                float* const padded = mine + memory.values;
                for (std::size_t p = 0; p < b.positions; ++p) {
                    float* const row = padded + p * memory.columns;
                    std::copy_n(values.row(p).data(), head_dim, row);
                    std::fill(row + head_dim, row + memory.columns, 0.0f);
                }
                b.rows = padded;
                b.rows_stride = memory.columns;
            }
            code.attend_values(b);
        }
        for (std::size_t line = 0; line < b.lines; ++line) {
            const float share = 1.0f / b.sums[line];
            const float* const sum = b.out + line * b.out_columns;
            float* const row = out.row(row_of(line)).data() + column_of(line);
            for (std::size_t i = 0; i < head_dim; ++i) row[i] = sum[i] * share;
        }
    };
    const std::size_t tasks = ceil_div(lines, per_task) * cache.heads();
    if (q.rows * heads * head_dim * (first_position + q.rows) < worth_a_region) {
        for (std::size_t index = 0; index < tasks; ++index) task(index, 0);
        return;
    }
    context.parallel_for(tasks, task);
}

}  // namespace fewbit::inline v0::model
