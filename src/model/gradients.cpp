// Norm, rotation, gate, loss and embedding, forward and backward. Attention is in attention_gradients.cpp.
#include "fewbit/model/gradients.hpp"

#include <algorithm>
#include <cmath>

#include "fewbit/core/checked.hpp"
#include "src/model/vector_math.hpp"

namespace fewbit::inline v0::model {
namespace {

constexpr std::size_t block_rows = gradient_block_rows;  // of one task

/// body(first, end, block) over blocks of rows; the blocks depend on the shape alone.
template <class Body>
void for_row_blocks(std::size_t rows, ExecutionContext context, Body&& body) {
    context.parallel_for(ceil_div(rows, block_rows), [&](std::size_t block, std::size_t) {
        body(block * block_rows, std::min(rows, (block + 1) * block_rows), block);
    });
}

}  // namespace

template <class T>
void rms_norm_forward(MatrixView<const T> x, std::span<const T> gain, T epsilon, MatrixView<T> y,
                      std::span<T> inverse_rms, ExecutionContext context) {
    for_row_blocks(x.rows, context, [&](std::size_t begin, std::size_t end, std::size_t) {
        for (std::size_t m = begin; m < end; ++m) {
            const T* in = x.row(m).data();
            T* out = y.row(m).data();
            const T mean = sum_of_products(in, in, x.cols) / static_cast<T>(x.cols);
            const T inverse = T(1) / std::sqrt(mean + epsilon);
            inverse_rms[m] = inverse;
            for (std::size_t i = 0; i < x.cols; ++i) out[i] = in[i] * inverse * gain[i];
        }
    });
}

template <class T>
void rms_norm_backward(MatrixView<const T> x, std::span<const T> gain, std::span<const T> inverse_rms,
                       MatrixView<const T> dy, MatrixView<T> dx_sum, std::span<T> dgain_sum,
                       std::span<T> scratch, ExecutionContext context) {
    const std::span<T> partial = scratch.first(row_blocks(x.rows) * x.cols);
    std::fill(partial.begin(), partial.end(), T(0));
    for_row_blocks(x.rows, context, [&](std::size_t begin, std::size_t end, std::size_t block) {
        T* const dgain = partial.data() + block * x.cols;
        for (std::size_t m = begin; m < end; ++m) {
            const T* in = x.row(m).data();
            const T* out = dy.row(m).data();
            T* dx = dx_sum.row(m).data();
            const T inverse = inverse_rms[m];
            for (std::size_t i = 0; i < x.cols; ++i) dgain[i] += out[i] * in[i] * inverse;
            const T dot = sum_of_products3(out, gain.data(), in, x.cols);
            const T slope = dot * inverse * inverse * inverse / static_cast<T>(x.cols);
            for (std::size_t i = 0; i < x.cols; ++i) dx[i] += out[i] * gain[i] * inverse - in[i] * slope;
        }
    });
    for (std::size_t block = 0; block * x.cols < partial.size(); ++block)
        for (std::size_t i = 0; i < x.cols; ++i) dgain_sum[i] += partial[block * x.cols + i];
}

template <class T>
void rope_turns(T base, MatrixView<T> table) {
    for (std::size_t position = 0; position < table.rows; ++position)
        for (std::size_t i = 0; i + 1 < table.cols; i += 2) {
            const double frequency = std::pow(static_cast<double>(base),
                                              -static_cast<double>(i) / static_cast<double>(table.cols));
            const double angle = static_cast<double>(position) * frequency;
            table(position, i) = static_cast<T>(std::cos(angle));
            table(position, i + 1) = static_cast<T>(std::sin(angle));
        }
}

template <class T>
void rope_turn(MatrixView<T> x, MatrixView<const T> table, std::span<const DocumentRows> documents,
               bool backward, ExecutionContext context) {
    const T sign = backward ? T(-1) : T(1);
    context.parallel_for(documents.size(), [&](std::size_t d, std::size_t) {
        for (std::size_t position = 0; position < documents[d].length; ++position) {
            T* row = x.row(documents[d].first + position).data();
            const T* turn = table.row(position).data();
            for (std::size_t head = 0; head < x.cols; head += table.cols)
                for (std::size_t i = 0; i < table.cols; i += 2) {
                    const T a = row[head + i], b = row[head + i + 1];
                    const T cosine = turn[i], sine = sign * turn[i + 1];
                    row[head + i] = a * cosine - b * sine;
                    row[head + i + 1] = a * sine + b * cosine;
                }
        }
    });
}

template <class T>
void silu_multiply_forward(MatrixView<const T> gate_up, MatrixView<T> out, ExecutionContext context) {
    for_row_blocks(out.rows, context, [&](std::size_t begin, std::size_t end, std::size_t) {
        for (std::size_t m = begin; m < end; ++m) {
            const T* gate = gate_up.row(m).data();
            const T* up = gate + out.cols;
            T* y = out.row(m).data();
            for (std::size_t i = 0; i < out.cols; ++i)
                y[i] = gate[i] * up[i] / (T(1) + exponential(-gate[i]));
        }
    });
}

template <class T>
void silu_multiply_backward(MatrixView<const T> gate_up, MatrixView<const T> dout, MatrixView<T> dgate_up,
                            ExecutionContext context) {
    for_row_blocks(dout.rows, context, [&](std::size_t begin, std::size_t end, std::size_t) {
        for (std::size_t m = begin; m < end; ++m) {
            const T* gate = gate_up.row(m).data();
            const T* up = gate + dout.cols;
            const T* d = dout.row(m).data();
            T* dgate = dgate_up.row(m).data();
            T* dup = dgate + dout.cols;
            for (std::size_t i = 0; i < dout.cols; ++i) {
                const T s = T(1) / (T(1) + exponential(-gate[i]));
                dgate[i] = d[i] * up[i] * s * (T(1) + gate[i] * (T(1) - s));
                dup[i] = d[i] * gate[i] * s;
            }
        }
    });
}

template <class T>
double cross_entropy(MatrixView<T> logits, std::span<const int> targets, std::span<const float> weights,
                     T scale, std::span<double> scratch, ExecutionContext context) {
    const std::span<double> losses = scratch.first(row_blocks(logits.rows));
    std::fill(losses.begin(), losses.end(), 0.0);
    for_row_blocks(logits.rows, context, [&](std::size_t begin, std::size_t end, std::size_t block) {
        for (std::size_t m = begin; m < end; ++m) {
            T* row = logits.row(m).data();
            if (weights[m] == 0) {
                std::fill_n(row, logits.cols, T(0));
                continue;
            }
            const auto target = static_cast<std::size_t>(targets[m]);
            const T wanted = row[target];
            const T largest = *std::max_element(row, row + logits.cols);
            const T sum = exponentials(row, largest, logits.cols);
            losses[block] +=
                static_cast<double>(weights[m]) * static_cast<double>(largest + std::log(sum) - wanted);
            const T factor = static_cast<T>(weights[m]) * scale;
            for (std::size_t i = 0; i < logits.cols; ++i) row[i] *= factor / sum;
            row[target] -= factor;
        }
    });
    double loss = 0;
    for (const double part : losses) loss += part;
    return loss;
}

template <class T>
double divergence_loss(MatrixView<T> logits, MatrixView<const T> teacher, std::span<const float> weights,
                       T scale, std::span<double> scratch, ExecutionContext context) {
    const std::span<double> losses = scratch.first(row_blocks(logits.rows));
    std::fill(losses.begin(), losses.end(), 0.0);
    // ln of the sum of exp(row), the largest element in front of it.
    const auto log_sum = [count = logits.cols](const T* row) {
        const T largest = *std::max_element(row, row + count);
        return largest +
               std::log(sum_of<T>(count, [=](std::size_t i) { return exponential(row[i] - largest); }));
    };
    for_row_blocks(logits.rows, context, [&](std::size_t begin, std::size_t end, std::size_t block) {
        for (std::size_t m = begin; m < end; ++m) {
            T* row = logits.row(m).data();
            const T* wanted = teacher.row(m).data();
            if (weights[m] == 0) {
                std::fill_n(row, logits.cols, T(0));
                continue;
            }
            const T shift = log_sum(row), wanted_shift = log_sum(wanted);
            losses[block] += static_cast<double>(weights[m]) *
                             static_cast<double>(sum_of<T>(logits.cols, [=](std::size_t i) {
                                 const T log_p = wanted[i] - wanted_shift;
                                 return exponential(log_p) * (log_p - (row[i] - shift));
                             }));
            const T factor = static_cast<T>(weights[m]) * scale;
            for (std::size_t i = 0; i < logits.cols; ++i)
                row[i] = factor * (exponential(row[i] - shift) - exponential(wanted[i] - wanted_shift));
        }
    });
    double loss = 0;
    for (const double part : losses) loss += part;
    return loss;
}

template <class T>
void embedding_backward(MatrixView<const T> dx, std::span<const int> tokens, MatrixView<T> dembedding_sum,
                        ExecutionContext context) {
    constexpr std::size_t block = 64;  // columns of one task: rows of the same token never meet
    context.parallel_for(ceil_div(dx.cols, block), [&](std::size_t task, std::size_t) {
        const std::size_t begin = task * block, end = std::min(dx.cols, begin + block);
        for (std::size_t m = 0; m < dx.rows; ++m) {
            const T* row = dx.row(m).data();
            T* sum = dembedding_sum.row(static_cast<std::size_t>(tokens[m])).data();
            for (std::size_t i = begin; i < end; ++i) sum[i] += row[i];
        }
    });
}

#define FEWBIT_FOR(T)                                                                                       \
    template void rms_norm_forward(MatrixView<const T>, std::span<const T>, T, MatrixView<T>, std::span<T>, \
                                   ExecutionContext);                                                       \
    template void rms_norm_backward(MatrixView<const T>, std::span<const T>, std::span<const T>,            \
                                    MatrixView<const T>, MatrixView<T>, std::span<T>, std::span<T>,         \
                                    ExecutionContext);                                                      \
    template void rope_turns(T, MatrixView<T>);                                                             \
    template void rope_turn(MatrixView<T>, MatrixView<const T>, std::span<const DocumentRows>, bool,        \
                            ExecutionContext);                                                              \
    template void silu_multiply_forward(MatrixView<const T>, MatrixView<T>, ExecutionContext);              \
    template void silu_multiply_backward(MatrixView<const T>, MatrixView<const T>, MatrixView<T>,           \
                                         ExecutionContext);                                                 \
    template double cross_entropy(MatrixView<T>, std::span<const int>, std::span<const float>, T,           \
                                  std::span<double>, ExecutionContext);                                     \
    template double divergence_loss(MatrixView<T>, MatrixView<const T>, std::span<const float>, T,          \
                                    std::span<double>, ExecutionContext);                                   \
    template void embedding_backward(MatrixView<const T>, std::span<const int>, MatrixView<T>,              \
                                     ExecutionContext);
FEWBIT_FOR(float)
FEWBIT_FOR(double)
#undef FEWBIT_FOR

}  // namespace fewbit::inline v0::model
