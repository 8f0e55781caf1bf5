// Forward and backward through a decoder; model/transformer.hpp has the equations. What backward needs is
// kept: per layer and token about 2 (5 dim + q + k + v) + 3 hidden numbers.
#include "fewbit/model/backpropagation.hpp"

#include <algorithm>
#include <utility>
#include <vector>

#include "fewbit/core/buffer.hpp"
#include "fewbit/core/checked.hpp"

namespace fewbit::inline v0::model {

/// All buffers, for `rows` tokens; forward() and backward() use the first M rows of each.
template <class T>
struct Backpropagation<T>::Memory {
    struct Layer {
        MatrixView<T> x;         ///< (M, dim) the residual stream that enters
        MatrixView<T> h;         ///< (M, dim) normed, then rounded
        MatrixView<T> qkv;       ///< (M, q + k + v) rotated
        MatrixView<T> attended;  ///< (M, q)
        MatrixView<T> o_input;   ///< (M, q) the same, rounded
        MatrixView<T> log_sums;  ///< (M, heads)
        MatrixView<T> middle;    ///< (M, dim) the residual stream after attention
        MatrixView<T> h2;        ///< (M, dim)
        MatrixView<T> gate_up;   ///< (M, 2 hidden)
        MatrixView<T> product;   ///< (M, hidden)
        std::span<T> inverse_rms, inverse_rms2;
    };
    std::vector<Layer> layers;
    MatrixView<T> x, h, logits;  ///< what leaves the last layer; normed; (M, V)
    std::span<T> inverse_rms;
    MatrixView<T> turns;                ///< (context, head_dim)
    MatrixView<T> dx;                   ///< (M, dim) the gradient of the residual stream
    MatrixView<T> dh;                   ///< (M, dim)
    MatrixView<T> dwide, dnarrow;       ///< (M, widest of a layer), (M, max(hidden, q))
    MatrixView<T> turned_dy, turned_x;  ///< transposed (N, M), (K, M)
    MatrixView<T> turned_w, dw;         ///< (K, N), (N, K)
    std::span<T> norm_scratch, attention_scratch;
    std::size_t rows = 0;
    Buffer<T> numbers;
    Buffer<double> losses;
};

namespace {

template <class T>
MatrixView<T> first_rows(MatrixView<T> x, std::size_t rows) noexcept {
    return x.rows_from(0, rows);
}

/// A view of other extents on the memory of a buffer. Precondition: it fits.
template <class T>
MatrixView<T> reshaped(MatrixView<T> x, std::size_t rows, std::size_t cols, std::size_t stride) noexcept {
    return {x.data, rows, cols, stride};
}

/// Rows of a transposed matrix start a little off a power of two, or they would all fall into the same sets
/// of the caches.
std::size_t turned_stride(std::size_t cols) noexcept { return round_up(cols, 16) + 16; }

/// out (cols, rows) = in^T.
template <class T>
void transpose(MatrixView<const T> in, MatrixView<T> out, ExecutionContext context) {
    constexpr std::size_t strip = 64, tile = 8;
    context.parallel_for(ceil_div(in.cols, strip), [&](std::size_t task, std::size_t) {
        const std::size_t c_end = std::min(in.cols, (task + 1) * strip);
        std::size_t r = 0;
        for (; r + tile <= in.rows; r += tile) {
            std::size_t c = task * strip;
            for (; c + tile <= c_end; c += tile) {
                T block[tile][tile];
                for (std::size_t i = 0; i < tile; ++i)
                    for (std::size_t j = 0; j < tile; ++j) block[i][j] = in(r + i, c + j);
                for (std::size_t j = 0; j < tile; ++j)
                    for (std::size_t i = 0; i < tile; ++i) out(c + j, r + i) = block[i][j];
            }
            for (; c < c_end; ++c)
                for (std::size_t i = 0; i < tile; ++i) out(c, r + i) = in(r + i, c);
        }
        for (; r < in.rows; ++r)
            for (std::size_t c = task * strip; c < c_end; ++c) out(c, r) = in(r, c);
    });
}

/// y = a + b, row by row.
template <class T>
void sum_rows(MatrixView<const T> a, MatrixView<const T> b, MatrixView<T> y, ExecutionContext context) {
    context.parallel_for(row_blocks(y.rows), [&](std::size_t block, std::size_t) {
        const std::size_t end = std::min(y.rows, (block + 1) * gradient_block_rows);
        for (std::size_t m = block * gradient_block_rows; m < end; ++m)
            for (std::size_t i = 0; i < y.cols; ++i) y(m, i) = a(m, i) + b(m, i);
    });
}

}  // namespace

template <class T>
Result<Backpropagation<T>> Backpropagation<T>::create(const ParameterTable& table, std::size_t rows,
                                                      TrainingProducts<T> products) {
    const io::ModelShape& s = table.shape();
    const std::size_t q = s.heads * s.head_dim, qkv = q + 2 * s.kv_heads * s.head_dim;
    const std::size_t widest = std::max({2 * s.hidden, qkv, s.dim, s.vocabulary});
    const std::size_t deepest = std::max({s.hidden, q, s.dim});
    const std::size_t turned = turned_stride(rows), lanes = products.context().workers();

    auto memory = std::make_shared<Memory>();
    memory->rows = rows;
    memory->layers.resize(s.layers);
    // Twice over the same list: sizes first, then addresses.
    std::size_t used = 0;
    T* base = nullptr;
    const auto cut = [&](std::size_t r, std::size_t c) {
        MatrixView<T> view(base == nullptr ? nullptr : base + used, r, c);
        used += round_up(r * c, 16);
        return view;
    };
    const auto cut_span = [&](std::size_t count) {
        const MatrixView<T> view = cut(1, count);
        return std::span<T>(view.data, count);
    };
    const auto layout = [&] {
        used = 0;
        for (typename Memory::Layer& layer : memory->layers) {
            layer.x = cut(rows, s.dim);
            layer.h = cut(rows, s.dim);
            layer.qkv = cut(rows, qkv);
            layer.attended = cut(rows, q);
            layer.o_input = cut(rows, q);
            layer.log_sums = cut(rows, s.heads);
            layer.middle = cut(rows, s.dim);
            layer.h2 = cut(rows, s.dim);
            layer.gate_up = cut(rows, 2 * s.hidden);
            layer.product = cut(rows, s.hidden);
            layer.inverse_rms = cut_span(rows);
            layer.inverse_rms2 = cut_span(rows);
        }
        memory->x = cut(rows, s.dim);
        memory->h = cut(rows, s.dim);
        memory->logits = cut(rows, s.vocabulary);
        memory->inverse_rms = cut_span(rows);
        memory->turns = cut(s.context, s.head_dim);
        memory->dx = cut(rows, s.dim);
        memory->dh = cut(rows, s.dim);
        memory->dwide = cut(rows, std::max(2 * s.hidden, qkv));
        memory->dnarrow = cut(rows, deepest);
        memory->turned_dy = cut(widest, turned);
        memory->turned_x = cut(deepest, turned);
        memory->turned_w = cut(deepest, turned_stride(widest));
        memory->dw = cut(widest, deepest);
        memory->norm_scratch = cut_span(row_blocks(rows) * s.dim);
        memory->attention_scratch = cut_span(
            attention_gradient_scratch({s.heads, s.kv_heads, s.head_dim}, std::min(rows, s.context), lanes));
    };
    layout();
    auto numbers = Buffer<T>::zeros(used, "activations of training");
    if (!numbers) return Unexpected{std::move(numbers).error()};
    auto losses = Buffer<double>::zeros(row_blocks(rows), "losses");
    if (!losses) return Unexpected{std::move(losses).error()};
    memory->numbers = *std::move(numbers);
    memory->losses = *std::move(losses);
    base = memory->numbers.data();
    layout();
    rope_turns(static_cast<T>(s.rope_base), memory->turns);

    Backpropagation result(table, std::move(products));
    result.memory_ = std::move(memory);
    return result;
}

template <class T>
Result<void> Backpropagation<T>::check(const MicroBatch& batch) const {
    const std::size_t rows = batch.tokens.size();
    if (rows > memory_->rows)
        return fail(ErrorKind::bad_input, "a micro-batch of ", rows, " tokens exceeds the ", memory_->rows,
                    " that there is memory for");
    if (batch.targets.size() != rows || batch.weights.size() != rows)
        return fail(ErrorKind::bad_input, rows, " tokens with ", batch.targets.size(), " targets and ",
                    batch.weights.size(), " weights");
    const std::size_t vocabulary = table_->shape().vocabulary;
    for (const auto ids : {batch.tokens, batch.targets})
        for (std::size_t m = 0; m < rows; ++m)
            if (ids[m] < 0 || static_cast<std::size_t>(ids[m]) >= vocabulary)
                return fail(ErrorKind::bad_input, "token ", ids[m], " in row ", m,
                            " is outside the vocabulary of ", vocabulary);
    std::size_t next = 0;
    for (const DocumentRows& document : batch.documents) {
        if (document.first != next || document.length == 0 || document.length > table_->shape().context)
            return fail(ErrorKind::bad_input, "a document of ", document.length, " tokens from row ",
                        document.first, "; the next should begin at row ", next, " and be at most ",
                        table_->shape().context, " long");
        next += document.length;
    }
    if (next != rows)
        return fail(ErrorKind::bad_input, "the documents hold ", next, " tokens, the micro-batch ", rows);
    return {};
}

template <class T>
Result<double> Backpropagation<T>::run(std::span<const T> parameters, const MicroBatch& batch, T scale,
                                       std::span<T> gradients, InputRounding<T>* rounding,
                                       MatrixView<const T> teacher) {
    if (auto valid = check(batch); !valid) return Unexpected{std::move(valid).error()};
    if (batch.tokens.empty()) return 0.0;
    forward(parameters, batch, *memory_, rounding);
    const MatrixView<T> logits = first_rows(memory_->logits, batch.tokens.size());
    const double loss = teacher.data != nullptr
                            ? divergence_loss<T>(logits, teacher, batch.weights, scale,
                                                 memory_->losses.span(), products_.context())
                            : cross_entropy<T>(logits, batch.targets, batch.weights, scale,
                                               memory_->losses.span(), products_.context());
    backward(parameters, batch, *memory_, gradients, rounding);
    return loss;
}

template <class T>
Result<MatrixView<const T>> Backpropagation<T>::logits(std::span<const T> parameters, const MicroBatch& batch,
                                                       InputRounding<T>* rounding) {
    if (auto valid = check(batch); !valid) return Unexpected{std::move(valid).error()};
    forward(parameters, batch, *memory_, rounding);
    return MatrixView<const T>(first_rows(memory_->logits, batch.tokens.size()));
}

template <class T>
void Backpropagation<T>::forward(std::span<const T> parameters, const MicroBatch& batch, Memory& memory,
                                 InputRounding<T>* rounding) const {
    const io::ModelShape& s = table_->shape();
    const std::size_t rows = batch.tokens.size(), q = s.heads * s.head_dim, kv = s.kv_heads * s.head_dim;
    const ExecutionContext context = products_.context();
    const auto use = [rows](MatrixView<T> x) { return first_rows(x, rows); };
    const auto round = [&](std::size_t site, MatrixView<T> x) {
        if (rounding != nullptr) rounding->forward(site, x, context);
    };
    const auto epsilon = static_cast<T>(s.norm_epsilon);

    const MatrixView<const T> embedding = table_->matrix(parameters, table_->embedding());
    MatrixView<T> x = use(s.layers == 0 ? memory.x : memory.layers[0].x);
    for (std::size_t m = 0; m < rows; ++m)
        std::ranges::copy(embedding.row(static_cast<std::size_t>(batch.tokens[m])), x.row(m).begin());

    for (std::size_t i = 0; i < s.layers; ++i) {
        const ParameterTable::Block& block = table_->block(i);
        typename Memory::Layer& layer = memory.layers[i];
        rms_norm_forward<T>(x, table_->vector(parameters, block.input_norm), epsilon, use(layer.h),
                            layer.inverse_rms, context);
        round(4 * i, use(layer.h));
        products_(use(layer.h), table_->stacked(parameters, block.q, block.v), use(layer.qkv));
        const MatrixView<T> rotated(layer.qkv.data, rows, q + kv, layer.qkv.stride_elements);
        rope_turn<T>(rotated, memory.turns, batch.documents, false, context);
        attention_forward<T>({s.heads, s.kv_heads, s.head_dim}, use(layer.qkv), batch.documents,
                             use(layer.attended), use(layer.log_sums), memory.attention_scratch, products_);
        MatrixView<T> o_input = use(layer.attended);
        if (rounding != nullptr) {  // backward wants both
            std::copy_n(o_input.data, rows * q, layer.o_input.data);
            o_input = use(layer.o_input);
            round(4 * i + 1, o_input);
        }
        products_(o_input, table_->matrix(parameters, block.o), use(memory.dh));
        sum_rows<T>(x, use(memory.dh), use(layer.middle), context);

        rms_norm_forward<T>(use(layer.middle), table_->vector(parameters, block.mlp_norm), epsilon,
                            use(layer.h2), layer.inverse_rms2, context);
        round(4 * i + 2, use(layer.h2));
        products_(use(layer.h2), table_->stacked(parameters, block.gate, block.up), use(layer.gate_up));
        silu_multiply_forward<T>(use(layer.gate_up), use(layer.product), context);
        round(4 * i + 3, use(layer.product));
        products_(use(layer.product), table_->matrix(parameters, block.down), use(memory.dh));
        x = use(i + 1 == s.layers ? memory.x : memory.layers[i + 1].x);
        sum_rows<T>(use(layer.middle), use(memory.dh), x, context);
    }
    rms_norm_forward<T>(x, table_->vector(parameters, table_->norm()), epsilon, use(memory.h),
                        memory.inverse_rms, context);
    round(4 * s.layers, use(memory.h));
    products_(use(memory.h), table_->matrix(parameters, table_->head()), use(memory.logits));
}

/// dx (M, K) = dy (M, N) w (N, K),   dw_sum (N, K) += dy^T x. The products want K last in both operands, so
/// these are transposed first.
template <class T>
void Backpropagation<T>::multiply_back(MatrixView<const T> dy, MatrixView<const T> x, MatrixView<const T> w,
                                       MatrixView<T> dx, MatrixView<T> dw_sum, Memory& memory) const {
    const ExecutionContext context = products_.context();
    const MatrixView<T> turned_w = reshaped(memory.turned_w, w.cols, w.rows, turned_stride(w.rows));
    transpose(w, turned_w, context);
    products_(dy, turned_w, dx);

    const std::size_t stride = memory.turned_dy.stride_elements;
    const MatrixView<T> turned_dy = reshaped(memory.turned_dy, dy.cols, dy.rows, stride);
    const MatrixView<T> turned_x = reshaped(memory.turned_x, x.cols, x.rows, stride);
    transpose(dy, turned_dy, context);
    transpose(x, turned_x, context);
    const MatrixView<T> dw = reshaped(memory.dw, w.rows, w.cols, w.cols);
    products_(turned_dy, turned_x, dw);
    sum_rows<T>(dw_sum, dw, dw_sum, context);
}

template <class T>
void Backpropagation<T>::backward(std::span<const T> parameters, const MicroBatch& batch, Memory& memory,
                                  std::span<T> gradients, InputRounding<T>* rounding) const {
    const io::ModelShape& s = table_->shape();
    const std::size_t rows = batch.tokens.size(), q = s.heads * s.head_dim, kv = s.kv_heads * s.head_dim;
    const ExecutionContext context = products_.context();
    const auto use = [rows](MatrixView<T> x) { return first_rows(x, rows); };
    const auto narrow = [rows](MatrixView<T> x, std::size_t cols) { return reshaped(x, rows, cols, cols); };
    const auto round_back = [&](std::size_t site, MatrixView<T> dx) {
        if (rounding != nullptr) rounding->backward(site, dx, context);
    };
    const MatrixView<T> dx = use(memory.dx), dh = use(memory.dh);

    multiply_back(use(memory.logits), use(memory.h), table_->matrix(parameters, table_->head()), dh,
                  table_->matrix(gradients, table_->head()), memory);
    round_back(4 * s.layers, dh);
    std::fill_n(dx.data, rows * s.dim, T(0));
    rms_norm_backward<T>(use(memory.x), table_->vector(parameters, table_->norm()), memory.inverse_rms, dh,
                         dx, table_->vector(gradients, table_->norm()), memory.norm_scratch, context);

    for (std::size_t i = s.layers; i-- > 0;) {
        const ParameterTable::Block& block = table_->block(i);
        typename Memory::Layer& layer = memory.layers[i];
        const MatrixView<T> dproduct = narrow(memory.dnarrow, s.hidden);
        multiply_back(dx, use(layer.product), table_->matrix(parameters, block.down), dproduct,
                      table_->matrix(gradients, block.down), memory);
        round_back(4 * i + 3, dproduct);
        const MatrixView<T> dgate_up = narrow(memory.dwide, 2 * s.hidden);
        silu_multiply_backward<T>(use(layer.gate_up), dproduct, dgate_up, context);
        multiply_back(dgate_up, use(layer.h2), table_->stacked(parameters, block.gate, block.up), dh,
                      table_->stacked(gradients, block.gate, block.up), memory);
        round_back(4 * i + 2, dh);
        rms_norm_backward<T>(use(layer.middle), table_->vector(parameters, block.mlp_norm),
                             layer.inverse_rms2, dh, dx, table_->vector(gradients, block.mlp_norm),
                             memory.norm_scratch, context);

        const MatrixView<T> dattended = narrow(memory.dnarrow, q);
        multiply_back(dx, use(rounding != nullptr ? layer.o_input : layer.attended),
                      table_->matrix(parameters, block.o), dattended, table_->matrix(gradients, block.o),
                      memory);
        round_back(4 * i + 1, dattended);
        const MatrixView<T> dqkv = narrow(memory.dwide, q + 2 * kv);
        attention_backward<T>({s.heads, s.kv_heads, s.head_dim}, use(layer.qkv), batch.documents,
                              use(layer.attended), use(layer.log_sums), dattended, dqkv,
                              memory.attention_scratch, products_);
        rope_turn<T>(MatrixView<T>(dqkv.data, rows, q + kv, dqkv.stride_elements), memory.turns,
                     batch.documents, true, context);
        multiply_back(dqkv, use(layer.h), table_->stacked(parameters, block.q, block.v), dh,
                      table_->stacked(gradients, block.q, block.v), memory);
        round_back(4 * i, dh);
        rms_norm_backward<T>(use(layer.x), table_->vector(parameters, block.input_norm), layer.inverse_rms,
                             dh, dx, table_->vector(gradients, block.input_norm), memory.norm_scratch,
                             context);
    }
    embedding_backward<T>(dx, batch.tokens, table_->matrix(gradients, table_->embedding()), context);
}

template class Backpropagation<float>;
template class Backpropagation<double>;

}  // namespace fewbit::inline v0::model
