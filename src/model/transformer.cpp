// Running a Transformer: read forward() and evaluate() from top to bottom. Loading is in
// transformer_load.cpp.
#include "fewbit/model/transformer.hpp"

#include <algorithm>
#include <utility>

#include "fewbit/core/text.hpp"
#include "fewbit/model/operators.hpp"
#include "src/model/check_call.hpp"

namespace fewbit::inline v0::model {

Result<void> Transformer::forward(std::span<const int> tokens, KvCache& cache, MatrixView<float> logits,
                                  ExecutionContext context, const LayerObserver& observer) const {
    if (auto valid = check(tokens, cache, logits); !valid) return valid;
    const std::size_t start = cache.length();
    const std::size_t chunk = std::min(tokens.size(), std::max<std::size_t>(1, options_.chunk_positions));
    auto workspace = BlockWorkspace::create(shape_, chunk, cache, context);
    if (!workspace) return Unexpected{std::move(workspace).error()};

    const KeepAwake awake(context);
    for (std::size_t done = 0; done < tokens.size();) {
        const std::size_t count = std::min(chunk, tokens.size() - done);
        const bool is_last = done + count == tokens.size();
        const MatrixView<float> wanted = logits.rows == tokens.size() ? logits.rows_from(done, count)
                                         : is_last                    ? logits
                                                                      : logits.rows_from(0, 0);
        BlockWorkspace buffers = workspace->first(count);
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
                                   BlockWorkspace& w, ExecutionContext context,
                                   const LayerObserver& observer) const {
    const std::size_t rows = tokens.size(), position = cache.length();
    for (std::size_t m = 0; m < rows; ++m)
        embedding_.dequantize(static_cast<std::size_t>(tokens[m]), 0, w.x.row(m));
    w.set_position(position, shape_.rope_base, context);
    for (std::size_t b = 0; b < blocks_.size(); ++b)
        if (auto done = blocks_[b].run(w, cache, b, position, context, observer); !done) return done;
    cache.advance(rows);

    if (logits.rows == 0) return {};
    const std::size_t skipped = rows - logits.rows;  // positions whose logits nobody wants
    const MatrixView<float> final_rows = w.x.rows_from(skipped, logits.rows),
                            normed = w.h.rows_from(skipped, logits.rows);
    rms_norm(final_rows, norm_, shape_.norm_epsilon, normed, context);
    const std::pair<const Layer*, MatrixView<float>> head{&head_, logits};
    return run_layers(normed, {&head, 1}, context, observer);
}

Result<void> Transformer::check(std::span<const int> tokens, const KvCache& cache,
                                MatrixView<float> logits) const {
    if (cache.layers() != shape_.layers || cache.heads() != shape_.kv_heads ||
        cache.head_dim() != shape_.head_dim)
        return fail(ErrorKind::bad_input, "the key-value cache is for ", cache.layers(), " layers of ",
                    cache.heads(), " heads of ", cache.head_dim(), " elements; the model has ", shape_.layers,
                    " of ", shape_.kv_heads, " of ", shape_.head_dim);
    if (cache.capacity() > shape_.context)
        return fail(ErrorKind::bad_input, "the key-value cache holds ", cache.capacity(),
                    " positions; the model's context is ", shape_.context);
    return check_call(shape_, tokens, cache.length(), cache.capacity(), logits);
}

}  // namespace fewbit::inline v0::model
