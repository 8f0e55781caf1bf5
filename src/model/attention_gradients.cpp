// Causal attention within documents, forward and backward, in blocks of query rows: a block's scores are one
// product with all keys up to its last row, so that half of the square is never computed and the rest runs
// on the matrix kernels.
#include <algorithm>
#include <cmath>

#include "fewbit/core/checked.hpp"
#include "fewbit/model/gradients.hpp"
#include "src/model/vector_math.hpp"

namespace fewbit::inline v0::model {
namespace {

constexpr std::size_t score_rows = 64;

template <class T>
void transpose(MatrixView<const T> in, MatrixView<T> out) noexcept {
    constexpr std::size_t tile = 8;
    for (std::size_t r0 = 0; r0 < in.rows; r0 += tile)
        for (std::size_t c = 0; c < in.cols; ++c)
            for (std::size_t r = r0; r < std::min(in.rows, r0 + tile); ++r) out(c, r) = in(r, c);
}

template <class T>
void add_into(MatrixView<T> sum, MatrixView<const T> x) noexcept {
    for (std::size_t r = 0; r < x.rows; ++r)
        for (std::size_t c = 0; c < x.cols; ++c) sum(r, c) += x(r, c);
}

/// Memory of one lane, cut into matrices.
template <class T>
class Arena {
public:
    Arena(T* next) : next_(next) {}
    MatrixView<T> matrix(std::size_t rows, std::size_t cols) noexcept {
        MatrixView<T> view(next_, rows, cols);
        next_ += rows * cols;
        return view;
    }

private:
    T* next_;
};

/// Columns [first, first + count) of the rows of a document.
template <class T>
MatrixView<T> window(MatrixView<T> x, const DocumentRows& document, std::size_t first, std::size_t count) {
    return {x.data + document.first * x.stride_elements + first, document.length, count, x.stride_elements};
}

std::size_t longest(std::span<const DocumentRows> documents) noexcept {
    std::size_t length = 0;
    for (const DocumentRows& document : documents) length = std::max(length, document.length);
    return length;
}

}  // namespace

// Backward needs more: keys transposed and a sum (length x d each); per block scores, their gradients and
// one of them transposed (block x length each), q and dout transposed (d x block each).
std::size_t attention_gradient_scratch(const AttentionShape& shape, std::size_t length,
                                       std::size_t lanes) noexcept {
    const std::size_t d = shape.head_dim;
    return lanes * round_up(2 * d * length + 3 * score_rows * length + 2 * d * score_rows, 16);
}

template <class T>
void attention_forward(const AttentionShape& shape, MatrixView<const T> qkv,
                       std::span<const DocumentRows> documents, MatrixView<T> out, MatrixView<T> log_sums,
                       std::span<T> scratch, const TrainingProducts<T>& products) {
    const std::size_t d = shape.head_dim, group = shape.heads / shape.kv_heads;
    const T scale = T(1) / std::sqrt(static_cast<T>(d));
    const std::size_t lane_elements = attention_gradient_scratch(shape, longest(documents), 1);

    products.context().parallel_for(documents.size() * shape.heads, [&](std::size_t task, std::size_t lane) {
        const DocumentRows& document = documents[task / shape.heads];
        const std::size_t head = task % shape.heads, kv = head / group;
        const auto q = window(qkv, document, head * d, d);
        const auto k = window(qkv, document, (shape.heads + kv) * d, d);
        const auto v = window(qkv, document, (shape.heads + shape.kv_heads + kv) * d, d);
        Arena<T> arena(scratch.data() + lane * lane_elements);
        const MatrixView<T> v_transposed = arena.matrix(d, document.length);
        transpose(v, v_transposed);
        const auto y = window(out, document, head * d, d);
        T* const scores_memory = arena.matrix(score_rows, document.length).data;
        for (std::size_t begin = 0; begin < document.length; begin += score_rows) {
            const std::size_t rows = std::min(score_rows, document.length - begin), seen = begin + rows;
            const MatrixView<T> scores(scores_memory, rows, seen);
            products.on_lane(lane, q.rows_from(begin, rows), k.rows_from(0, seen), scores);
            for (std::size_t r = 0; r < rows; ++r) {
                T* row = scores.row(r).data();
                const std::size_t visible = begin + r + 1;
                T largest = row[0];
                for (std::size_t i = 1; i < visible; ++i) largest = row[i] > largest ? row[i] : largest;
                for (std::size_t i = 0; i < visible; ++i) row[i] = exponential((row[i] - largest) * scale);
                const T sum = sum_of<T>(visible, [=](std::size_t i) { return row[i]; });
                const T inverse = T(1) / sum;
                for (std::size_t i = 0; i < visible; ++i) row[i] *= inverse;
                std::fill(row + visible, row + seen, T(0));
                log_sums(document.first + begin + r, head) = largest * scale + std::log(sum);
            }
            products.on_lane(lane, scores,
                             MatrixView<const T>(v_transposed.data, d, seen, v_transposed.stride_elements),
                             y.rows_from(begin, rows));
        }
    });
}

template <class T>
void attention_backward(const AttentionShape& shape, MatrixView<const T> qkv,
                        std::span<const DocumentRows> documents, MatrixView<const T> out,
                        MatrixView<const T> log_sums, MatrixView<const T> dout, MatrixView<T> dqkv,
                        std::span<T> scratch, const TrainingProducts<T>& products) {
    const std::size_t d = shape.head_dim, group = shape.heads / shape.kv_heads;
    const T scale = T(1) / std::sqrt(static_cast<T>(d));
    const std::size_t lane_elements = attention_gradient_scratch(shape, longest(documents), 1);

    // One task: one key-value head of one document with all query heads that read it.
    products.context().parallel_for(documents.size() * shape.kv_heads, [&](std::size_t task,
                                                                           std::size_t lane) {
        const DocumentRows& document = documents[task / shape.kv_heads];
        const std::size_t kv = task % shape.kv_heads, n = document.length;
        const std::size_t k_first = (shape.heads + kv) * d;
        const std::size_t v_first = (shape.heads + shape.kv_heads + kv) * d;
        const auto k = window(qkv, document, k_first, d);
        const auto v = window(qkv, document, v_first, d);
        const auto dk = window(dqkv, document, k_first, d);
        const auto dv = window(dqkv, document, v_first, d);
        for (std::size_t r = 0; r < n; ++r) {
            std::fill_n(dk.row(r).data(), d, T(0));
            std::fill_n(dv.row(r).data(), d, T(0));
        }
        Arena<T> arena(scratch.data() + lane * lane_elements);
        const MatrixView<T> k_transposed = arena.matrix(d, n);
        const MatrixView<T> sum = arena.matrix(n, d);
        const MatrixView<T> q_transposed = arena.matrix(d, score_rows);
        const MatrixView<T> dy_transposed = arena.matrix(d, score_rows);
        T* const scores_memory = arena.matrix(score_rows, n).data;
        T* const slopes_memory = arena.matrix(score_rows, n).data;
        T* const turned_memory = arena.matrix(n, score_rows).data;
        transpose(k, k_transposed);
        const auto first_columns = [](MatrixView<T> x, std::size_t count) {
            return MatrixView<T>(x.data, x.rows, count, x.stride_elements);
        };

        for (std::size_t head = kv * group; head < (kv + 1) * group; ++head) {
            const auto q = window(qkv, document, head * d, d);
            const auto y = window(out, document, head * d, d);
            const auto dy = window(dout, document, head * d, d);
            const auto dq = window(dqkv, document, head * d, d);
            for (std::size_t begin = 0; begin < n; begin += score_rows) {
                const std::size_t rows = std::min(score_rows, n - begin), seen = begin + rows;
                const MatrixView<T> weights(scores_memory, rows, seen), slopes(slopes_memory, rows, seen);
                products.on_lane(lane, q.rows_from(begin, rows), k.rows_from(0, seen), weights);
                products.on_lane(lane, dy.rows_from(begin, rows), v.rows_from(0, seen), slopes);
                for (std::size_t r = 0; r < rows; ++r) {
                    T* p = weights.row(r).data();
                    T* s = slopes.row(r).data();
                    const std::size_t visible = begin + r + 1;
                    const T log_sum = log_sums(document.first + begin + r, head);
                    const T mean = sum_of_products(dy.row(begin + r).data(), y.row(begin + r).data(), d);
                    for (std::size_t i = 0; i < visible; ++i) {
                        p[i] = exponential(p[i] * scale - log_sum);
                        s[i] = p[i] * (s[i] - mean) * scale;
                    }
                    std::fill(p + visible, p + seen, T(0));
                    std::fill(s + visible, s + seen, T(0));
                }
                products.on_lane(lane, slopes, first_columns(k_transposed, seen), dq.rows_from(begin, rows));

                const MatrixView<T> turned(turned_memory, seen, rows);
                const MatrixView<T> part(sum.data, seen, d);
                transpose<T>(weights, turned);
                transpose(dy.rows_from(begin, rows), first_columns(dy_transposed, rows));
                products.on_lane(lane, turned, first_columns(dy_transposed, rows), part);
                add_into<T>(dv.rows_from(0, seen), part);
                transpose<T>(slopes, turned);
                transpose(q.rows_from(begin, rows), first_columns(q_transposed, rows));
                products.on_lane(lane, turned, first_columns(q_transposed, rows), part);
                add_into<T>(dk.rows_from(0, seen), part);
            }
        }
    });
}

#define FEWBIT_FOR(T)                                                                                   \
    template void attention_forward(const AttentionShape&, MatrixView<const T>,                         \
                                    std::span<const DocumentRows>, MatrixView<T>, MatrixView<T>,        \
                                    std::span<T>, const TrainingProducts<T>&);                          \
    template void attention_backward(                                                                   \
        const AttentionShape&, MatrixView<const T>, std::span<const DocumentRows>, MatrixView<const T>, \
        MatrixView<const T>, MatrixView<const T>, MatrixView<T>, std::span<T>, const TrainingProducts<T>&);
FEWBIT_FOR(float)
FEWBIT_FOR(double)
#undef FEWBIT_FOR

}  // namespace fewbit::inline v0::model
