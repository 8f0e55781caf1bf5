// Running a Transformer: read forward() and evaluate() from top to bottom. Loading is in
// transformer_load.cpp.
#include "fewbit/model/transformer.hpp"

#include <algorithm>
#include <array>
#include <initializer_list>
#include <iterator>
#include <optional>
#include <utility>

#include "fewbit/core/checked.hpp"
#include "fewbit/core/text.hpp"
#include "fewbit/model/operators.hpp"

namespace fewbit::inline v0::model {

/// All buffers of one call: one allocation, cut into matrices of up to `rows` positions.
struct Transformer::Workspace {
    Tensor memory;
    std::size_t used = 0;
    MatrixView<float> x;         ///< (M, dim) the residual stream
    MatrixView<float> h;         ///< (M, dim) normed x, and what a projection adds to x
    MatrixView<float> q;         ///< (M, heads * head_dim)
    MatrixView<float> k;         ///< (M, kv_heads * head_dim)
    MatrixView<float> v;         ///< (M, kv_heads * head_dim)
    MatrixView<float> attended;  ///< (M, heads * head_dim)
    MatrixView<float> gate;      ///< (M, hidden)
    MatrixView<float> up;        ///< (M, hidden)
    MatrixView<float> turns;     ///< (M, head_dim) cosines and sines
    std::span<float> scratch;    ///< of attention

    [[nodiscard]] static Result<Workspace> create(const io::ModelShape& s, std::size_t rows,
                                                  std::size_t scratch_elements) {
        constexpr std::size_t line = 16;  // floats of 64 bytes; each buffer starts at a line of its own
        const std::size_t q_dim = s.heads * s.head_dim, kv_dim = s.kv_heads * s.head_dim;
        const std::size_t widths[] = {s.dim, s.dim,    q_dim,    kv_dim,    kv_dim,
                                      q_dim, s.hidden, s.hidden, s.head_dim};
        std::optional<std::size_t> total = scratch_elements;
        for (const std::size_t width : widths) {
            const auto size = checked_product({rows, width});
            total = size && total ? checked_add(*total, *size) : std::nullopt;
            total = total ? checked_add(*total, line) : std::nullopt;
        }
        if (!total)
            return fail(ErrorKind::out_of_memory, "activations of ", rows,
                        " positions are larger than memory can address");
        auto memory = Tensor::allocate(Scalar::f32, {*total});
        if (!memory)
            return Unexpected{std::move(memory).error().within(text("activations of ", rows, " positions"))};
        Workspace w;
        w.memory = *std::move(memory);
        float* next = w.memory.as_mutable<float>().data();
        MatrixView<float>* const buffers[] = {&w.x,        &w.h,    &w.q,  &w.k,    &w.v,
                                              &w.attended, &w.gate, &w.up, &w.turns};
        for (std::size_t i = 0; i < std::size(buffers); ++i) {
            *buffers[i] = {next, rows, widths[i]};
            next += round_up(rows * widths[i], line);
        }
        w.scratch = {next, scratch_elements};
        return w;
    }

    /// The same buffers for fewer positions.
    [[nodiscard]] Workspace first(std::size_t rows) const {
        Workspace w = *this;
        for (MatrixView<float>* buffer :
             {&w.x, &w.h, &w.q, &w.k, &w.v, &w.attended, &w.gate, &w.up, &w.turns})
            buffer->rows = rows;
        return w;
    }
};

Result<void> Transformer::forward(std::span<const int> tokens, KvCache& cache, MatrixView<float> logits,
                                  ExecutionContext context, const LayerObserver& observer) const {
    if (auto valid = check(tokens, cache, logits); !valid) return valid;
    const std::size_t start = cache.length();
    const std::size_t chunk = std::min(tokens.size(), std::max<std::size_t>(1, options_.chunk_positions));
    auto workspace = Workspace::create(shape_, chunk, attention_scratch_elements(cache, context.workers()));
    if (!workspace) return Unexpected{std::move(workspace).error()};

    const KeepAwake awake(context);
    for (std::size_t done = 0; done < tokens.size();) {
        const std::size_t count = std::min(chunk, tokens.size() - done);
        const bool is_last = done + count == tokens.size();
        const MatrixView<float> wanted = logits.rows == tokens.size() ? logits.rows_from(done, count)
                                         : is_last                    ? logits
                                                                      : logits.rows_from(0, 0);
        Workspace buffers = workspace->first(count);
        if (auto result = evaluate(tokens.subspan(done, count), cache, wanted, buffers, context, observer);
            !result) {
            cache.truncate(start);
            return result;
        }
        done += count;
    }
    return {};
}

Result<void> Transformer::evaluate(std::span<const int> tokens, KvCache& cache, MatrixView<float> logits,
                                   Workspace& w, ExecutionContext context,
                                   const LayerObserver& observer) const {
    const std::size_t rows = tokens.size(), position = cache.length(), heads = shape_.heads;
    const auto run =
        [&](MatrixView<const float> x,
            std::initializer_list<std::pair<const Layer*, MatrixView<float>>> layers) -> Result<void> {
        std::array<LinearCall, 3> calls;
        std::size_t count = 0;
        for (const auto& [layer, y] : layers) {
            if (observer) observer(layer->name, x);
            calls[count++] = {&layer->linear, y};
        }
        auto done = apply_together(x, std::span(calls).first(count), context);
        if (!done) return Unexpected{std::move(done).error().within(layers.begin()->first->name)};
        return done;
    };

    for (std::size_t m = 0; m < rows; ++m)
        embedding_.dequantize(static_cast<std::size_t>(tokens[m]), 0, w.x.row(m));
    rope_table(position, shape_.rope_base, w.turns, context);

    for (std::size_t b = 0; b < blocks_.size(); ++b) {
        const Block& block = blocks_[b];

        rms_norm(w.x, block.attention_norm, shape_.norm_epsilon, w.h, context);
        if (auto done = run(w.h, {{&block.q, w.q}, {&block.k, w.k}, {&block.v, w.v}}); !done) return done;
        rope(w.q, heads, w.turns, context);
        rope(w.k, shape_.kv_heads, w.turns, context);
        for (std::size_t m = 0; m < rows; ++m) cache.store(b, position + m, w.k.row(m), w.v.row(m));
        attention(w.q, heads, cache, b, position, w.attended, w.scratch, context);
        if (auto done = run(w.attended, {{&block.o, w.h}}); !done) return done;
        add(w.x, w.h, context);

        rms_norm(w.x, block.mlp_norm, shape_.norm_epsilon, w.h, context);
        if (auto done = run(w.h, {{&block.gate, w.gate}, {&block.up, w.up}}); !done) return done;
        silu_multiply(w.gate, w.up, context);
        if (auto done = run(w.gate, {{&block.down, w.h}}); !done) return done;
        add(w.x, w.h, context);
    }
    cache.advance(rows);

    if (logits.rows == 0) return {};
    const std::size_t skipped = rows - logits.rows;  // positions whose logits nobody wants
    const MatrixView<float> final_rows = w.x.rows_from(skipped, logits.rows),
                            normed = w.h.rows_from(skipped, logits.rows);
    rms_norm(final_rows, norm_, shape_.norm_epsilon, normed, context);
    return run(normed, {{&head_, logits}});
}

Result<void> Transformer::check(std::span<const int> tokens, const KvCache& cache,
                                MatrixView<float> logits) const {
    if (tokens.empty()) return fail(ErrorKind::bad_input, "there are no tokens to evaluate");
    for (std::size_t i = 0; i < tokens.size(); ++i)
        if (tokens[i] < 0 || static_cast<std::size_t>(tokens[i]) >= shape_.vocabulary)
            return fail(ErrorKind::bad_input, "token ", i, " is ", tokens[i], ", outside the vocabulary of ",
                        shape_.vocabulary);
    if (cache.layers() != shape_.layers || cache.heads() != shape_.kv_heads ||
        cache.head_dim() != shape_.head_dim)
        return fail(ErrorKind::bad_input, "the key-value cache is for ", cache.layers(), " layers of ",
                    cache.heads(), " heads of ", cache.head_dim(), " elements; the model has ", shape_.layers,
                    " of ", shape_.kv_heads, " of ", shape_.head_dim);
    if (cache.capacity() > shape_.context)
        return fail(ErrorKind::bad_input, "the key-value cache holds ", cache.capacity(),
                    " positions; the model's context is ", shape_.context);
    if (tokens.size() > cache.capacity() - cache.length())
        return fail(ErrorKind::bad_input, tokens.size(), " tokens after ", cache.length(),
                    " do not fit into ", cache.capacity(), " positions (the model's context is ",
                    shape_.context, ")");
    if (logits.rows != 0 &&
        (logits.cols != shape_.vocabulary || (logits.rows != 1 && logits.rows != tokens.size())))
        return fail(ErrorKind::bad_input, "logits of ", logits.rows, " x ", logits.cols, " do not fit ",
                    tokens.size(), " tokens: they are (all tokens, or the last one) x vocabulary of ",
                    shape_.vocabulary);
    return {};
}

}  // namespace fewbit::inline v0::model
