// Running a DecoderBlock: read run() from top to bottom. Loading is in decoder_block_load.cpp.
#include "fewbit/model/decoder_block.hpp"

#include <iterator>
#include <optional>
#include <utility>

#include "fewbit/core/checked.hpp"
#include "fewbit/core/text.hpp"
#include "fewbit/model/operators.hpp"
#include "src/model/for_rows.hpp"

namespace fewbit::inline v0::model {

Result<BlockWorkspace> BlockWorkspace::create(const io::ModelShape& s, std::size_t rows, const KvCache& cache,
                                              ExecutionContext context) {
    constexpr std::size_t line = 16;  // floats of 64 bytes; each buffer starts at a line of its own
    const std::size_t scratch_elements = attention_scratch_elements(cache, context.workers());
    const std::size_t q_dim = s.heads * s.head_dim, kv_dim = s.kv_heads * s.head_dim;
    const std::size_t widths[] = {s.dim, s.dim, q_dim, kv_dim, kv_dim, q_dim, s.hidden, s.hidden, s.head_dim};
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
    BlockWorkspace w;
    w.memory_ = *std::move(memory);
    float* next = w.memory_.as_mutable<float>().data();
    MatrixView<float>* const buffers[] = {&w.x,        &w.h,    &w.q,  &w.k,    &w.v,
                                          &w.attended, &w.gate, &w.up, &w.turns};
    for (std::size_t i = 0; i < std::size(buffers); ++i) {
        *buffers[i] = {next, rows, widths[i]};
        next += round_up(rows * widths[i], line);
    }
    w.scratch = {next, scratch_elements};
    return w;
}

BlockWorkspace BlockWorkspace::first(std::size_t rows) const {
    BlockWorkspace w = *this;
    for (MatrixView<float>* buffer : {&w.x, &w.h, &w.q, &w.k, &w.v, &w.attended, &w.gate, &w.up, &w.turns})
        buffer->rows = rows;
    return w;
}

void BlockWorkspace::set_position(std::size_t position, float rope_base, ExecutionContext context) {
    rope_table(position, rope_base, turns, context);
}

Result<void> run_layers(MatrixView<const float> x,
                        std::span<const std::pair<const Layer*, MatrixView<float>>> layers,
                        ExecutionContext context, const LayerObserver& observer) {
    std::array<LinearCall, 3> calls;
    std::size_t count = 0;
    for (const auto& [layer, y] : layers) {
        if (observer) observer(layer->name, x);
        calls[count++] = {&layer->linear, y};
    }
    auto done = apply_together(x, std::span(calls).first(count), context);
    if (!done) return Unexpected{std::move(done).error().within(layers.front().first->name)};
    return done;
}

Result<void> DecoderBlock::run(BlockWorkspace& w, KvCache& cache, std::size_t layer, std::size_t position,
                               ExecutionContext context, const LayerObserver& observer,
                               const Layer* until) const {
    using Calls = std::initializer_list<std::pair<const Layer*, MatrixView<float>>>;
    bool stopped = false;
    const auto apply = [&](MatrixView<const float> x, Calls calls) -> Result<void> {
        for (const auto& [each, y] : calls) stopped = stopped || each == until;
        if (!stopped) return run_layers(x, {calls.begin(), calls.size()}, context, observer);
        if (observer) observer(until->name, x);
        return {};
    };
    rms_norm(w.x, attention_norm_, norm_epsilon_, w.h, context);
    if (auto done = apply(w.h, {{&q_, w.q}, {&k_, w.k}, {&v_, w.v}}); !done || stopped) return done;
    rope(w.q, heads_, w.turns, context);
    rope(w.k, kv_heads_, w.turns, context);
    cache.rotate(w.q, context);
    cache.rotate(w.k, context);
    for_rows(context, w.x.rows, cache.store_cost(),
             [&](std::size_t m) { cache.store(layer, position + m, w.k.row(m), w.v.row(m)); });
    attention(w.q, heads_, cache, layer, position, w.attended, w.scratch, context);
    if (auto done = apply(w.attended, {{&o_, w.h}}); !done || stopped) return done;
    add(w.x, w.h, context);

    rms_norm(w.x, mlp_norm_, norm_epsilon_, w.h, context);
    if (auto done = apply(w.h, {{&gate_, w.gate}, {&up_, w.up}}); !done || stopped) return done;
    silu_multiply(w.gate, w.up, context);
    if (auto done = apply(w.gate, {{&down_, w.h}}); !done || stopped) return done;
    add(w.x, w.h, context);
    return {};
}

}  // namespace fewbit::inline v0::model
