// Running a CudaTransformer: read enqueue() from top to bottom. Loading is in cuda_transformer_load.cpp.
#include <algorithm>
#include <utility>

#include "fewbit/core/checked.hpp"
#include "fewbit/core/text.hpp"
#include "fewbit/cuda/stream.hpp"
#include "src/model/check_call.hpp"
#include "src/model/cuda_parts.hpp"

namespace fewbit::inline v0::model {
namespace {

/// Positions that a captured graph's attention looks at beyond those that are there. Blocks behind the last position end at once.
constexpr std::size_t graph_positions = 1024;

}  // namespace

struct CudaSequence::State {
    std::shared_ptr<const CudaTransformer::Parts> model;
    std::size_t length = 0, capacity = 0, chunk = 0;

    cuda::OwnStream stream;
    cuda::KvCache cache;
    cuda::Attention attention;
    cuda::FloatProducts float_products;
    cuda::Workspace workspace;
    Tensor turns;
    // Rows of `chunk` positions.
    Tensor tokens{};             // i32 (M, 1)
    Tensor first_row{};          // as many tokens 0: what repeats a bias
    Tensor residual{}, delta{};  // f32 (M, dim)
    Tensor x{}, q{}, k{}, v{}, attended{}, gate{}, up{};
    Tensor logits{};  // f32 (M, V)
    std::vector<float> host_logits{};

    bool ran_one_token = false;  // kernels are loaded when they first run, which no capture allows
    std::optional<cuda::Graph> graph{};
    std::size_t graph_seen = 0;

    static Result<State> create(std::shared_ptr<const CudaTransformer::Parts> model, std::size_t positions);

    [[nodiscard]] cuda::View view(Tensor& tensor, std::size_t rows) const {
        const std::size_t cols = tensor.shape()[1];
        return {tensor.mutable_bytes().data(), tensor.type(), rows, cols, cols};
    }
    Result<void> apply(const CudaLayer& layer, const cuda::View& x_rows, const cuda::View& y);
    Result<void> run_block(const CudaBlock& block, std::size_t index, std::size_t rows, std::size_t seen);
    Result<void> enqueue(std::size_t rows, std::size_t logit_rows, std::size_t seen);
    Result<void> evaluate(std::span<const int> rows, MatrixView<float> wanted);
    Result<void> fetch(MatrixView<float> wanted);
};

namespace {

/// The first error of calls that are made one after another.
template <class... Calls>
Result<void> in_turn(Calls&&... calls) {
    Result<void> done;
    static_cast<void>(((done = calls(), done.has_value()) && ...));
    return done;
}

const float* floats_of(const Tensor& tensor) { return tensor.as<float>().data(); }

}  // namespace

Result<CudaSequence::State> CudaSequence::State::create(std::shared_ptr<const CudaTransformer::Parts> model,
                                                        std::size_t positions) {
    const io::ModelShape& s = model->shape;
    const CudaModelOptions& options = model->options;
    if (positions > s.context)
        return fail(ErrorKind::bad_input, "a sequence of ", positions,
                    " positions is longer than the model's context of ", s.context);
    const std::size_t rows = std::max<std::size_t>(1, std::min(options.chunk_positions, positions));
    const std::size_t q_dim = s.heads * s.head_dim, kv_dim = s.kv_heads * s.head_dim;

    auto stream = cuda::OwnStream::create();
    if (!stream) return Unexpected{std::move(stream).error()};
    auto cache = cuda::KvCache::create({s.layers, s.kv_heads, s.head_dim, positions}, options.cache);
    if (!cache) return Unexpected{std::move(cache).error()};
    auto attention = cuda::Attention::create(*cache, s.heads, rows);
    if (!attention) return Unexpected{std::move(attention).error()};
    auto float_products = cuda::FloatProducts::create(stream->get());
    if (!float_products) return Unexpected{std::move(float_products).error()};
    std::vector<cuda::Product> products;
    model->for_each_layer([&](const CudaLayer& layer) {
        if (layer.product) products.push_back(*layer.product);
    });
    auto workspace = cuda::Workspace::create(std::span<const cuda::Product>(products));
    if (!workspace) return Unexpected{std::move(workspace).error()};
    auto turns = cuda::rope_turns(positions, s.head_dim, s.rope_base);
    if (!turns) return Unexpected{std::move(turns).error()};

    State state{std::move(model),
                0,
                positions,
                rows,
                *std::move(stream),
                *std::move(cache),
                *std::move(attention),
                *std::move(float_products),
                *std::move(workspace),
                *std::move(turns)};
    struct Buffer {
        Tensor* to;
        Scalar type;
        std::size_t cols;
    };
    const Scalar half = options.activations;
    const Buffer buffers[] = {{&state.tokens, Scalar::i32, 1},
                              {&state.first_row, Scalar::i32, 1},
                              {&state.residual, Scalar::f32, s.dim},
                              {&state.delta, Scalar::f32, s.dim},
                              {&state.x, half, s.dim},
                              {&state.q, half, q_dim},
                              {&state.k, half, kv_dim},
                              {&state.v, half, kv_dim},
                              {&state.attended, half, q_dim},
                              {&state.gate, half, s.hidden},
                              {&state.up, half, s.hidden},
                              {&state.logits, Scalar::f32, s.vocabulary}};
    for (const Buffer& buffer : buffers) {
        auto memory = cuda::allocate(buffer.type, {rows, buffer.cols});
        if (!memory)
            return Unexpected{std::move(memory).error().within(text("activations of ", rows, " positions"))};
        *buffer.to = *std::move(memory);
    }
    return state;
}

Result<void> CudaSequence::State::apply(const CudaLayer& layer, const cuda::View& x_rows,
                                        const cuda::View& y) {
    const bool biased = layer.bias.elements() != 0;
    Result<void> done;
    if (layer.product) {
        auto ran =
            layer.product->run(x_rows, y, biased ? floats_of(layer.bias) : nullptr, workspace, stream.get());
        if (!ran) return Unexpected{std::move(ran).error().within(layer.name)};
        return {};
    }
    if (biased)  // cuBLAS adds to what is there
        if (auto placed = cuda::embed(layer.bias, first_row.as<std::int32_t>().data(), y, stream.get());
            !placed)
            return Unexpected{std::move(placed).error().within(layer.name)};
    auto ran = float_products.run(layer.floats, x_rows, y, biased);
    if (!ran) return Unexpected{std::move(ran).error().within(layer.name)};
    return {};
}

Result<void> CudaSequence::State::run_block(const CudaBlock& block, std::size_t index, std::size_t rows,
                                            std::size_t seen) {
    const float epsilon = model->shape.norm_epsilon;
    const cuda::Stream on = stream.get();
    const cuda::View sum = view(residual, rows), added = view(delta, rows), h = view(x, rows),
                     queries = view(q, rows), keys = view(k, rows), values = view(v, rows),
                     context = view(attended, rows), gates = view(gate, rows), ups = view(up, rows);
    // What the block before has found is added by the norm that comes after it.
    return in_turn(
        [&] {
            return cuda::rms_norm(sum, index == 0 ? nullptr : &added, floats_of(block.attention_norm),
                                  epsilon, h, on);
        },
        [&] { return apply(block.q, h, queries); }, [&] { return apply(block.k, h, keys); },
        [&] { return apply(block.v, h, values); },
        [&] { return cuda::rotate_and_store(queries, keys, values, turns, queries, cache, index, on); },
        [&] { return attention.run(queries, cache, index, seen, context, on); },
        [&] { return apply(block.o, context, added); },
        [&] { return cuda::rms_norm(sum, &added, floats_of(block.mlp_norm), epsilon, h, on); },
        [&] { return apply(block.gate, h, gates); }, [&] { return apply(block.up, h, ups); },
        [&] { return cuda::silu_multiply(gates, ups, gates, on); },
        [&] { return apply(block.down, gates, added); });
}

/// All of `rows` tokens whose ids are on the device; logits of the last `logit_rows`.
Result<void> CudaSequence::State::enqueue(std::size_t rows, std::size_t logit_rows, std::size_t seen) {
    const CudaLayer& embedding = model->embedding;
    const std::int32_t* const ids = tokens.as<std::int32_t>().data();
    const cuda::View all = view(residual, rows);
    if (auto done = embedding.product ? cuda::embed(embedding.product->weights(), ids, all, stream.get())
                                      : cuda::embed(embedding.floats, ids, all, stream.get());
        !done)
        return done;
    for (std::size_t b = 0; b < model->blocks.size(); ++b)
        if (auto done = run_block(model->blocks[b], b, rows, seen); !done) return done;
    if (auto done = cache.advance(rows, stream.get()); !done) return done;
    if (logit_rows == 0) return {};
    const auto last = [&](Tensor& tensor) {
        cuda::View out = view(tensor, logit_rows);
        out.data =
            static_cast<std::byte*>(out.data) + (rows - logit_rows) * out.stride * size_bytes(out.type);
        return out;
    };
    const cuda::View added = last(delta), normed = view(x, logit_rows);
    return in_turn(
        [&] {
            return cuda::rms_norm(last(residual), model->blocks.empty() ? nullptr : &added,
                                  floats_of(model->norm), model->shape.norm_epsilon, normed, stream.get());
        },
        [&] { return apply(model->head, normed, view(logits, logit_rows)); });
}

/// Up to a chunk of tokens.
Result<void> CudaSequence::State::evaluate(std::span<const int> rows, MatrixView<float> wanted) {
    if (auto done = cuda::copy_to_device(std::as_bytes(rows), tokens, 0, stream.get()); !done) return done;
    const std::size_t end = length + rows.size();
    if (rows.size() == 1 && wanted.rows == 1 && ran_one_token) {
        const std::size_t seen = std::min(round_up(end, graph_positions), capacity);
        if (!graph || graph_seen != seen) {
            auto captured = cuda::Graph::capture(stream.get(), [&] { return enqueue(1, 1, seen); });
            if (!captured) return Unexpected{std::move(captured).error()};
            graph = *std::move(captured);
            graph_seen = seen;
        }
        if (auto done = graph->launch(stream.get()); !done) return done;
    } else {
        if (auto done = enqueue(rows.size(), wanted.rows, end); !done) return done;
        ran_one_token = ran_one_token || (rows.size() == 1 && wanted.rows == 1);
    }
    return fetch(wanted);
}

Result<void> CudaSequence::State::fetch(MatrixView<float> wanted) {
    const bool together = wanted.stride_elements == wanted.cols || wanted.rows <= 1;
    const std::size_t count = wanted.rows * wanted.cols;
    if (!together) host_logits.resize(count);
    const std::span<float> to(together ? wanted.data : host_logits.data(), count);
    if (count != 0)
        if (auto done = cuda::copy_to_host(logits, 0, std::as_writable_bytes(to), stream.get()); !done)
            return done;
    if (auto done = cuda::synchronize(stream.get()); !done) return done;
    for (std::size_t r = 0; !together && r < wanted.rows; ++r)
        std::ranges::copy(to.subspan(r * wanted.cols, wanted.cols), wanted.row(r).begin());
    return {};
}

CudaSequence::CudaSequence(std::unique_ptr<State> state) noexcept : state_(std::move(state)) {}
CudaSequence::CudaSequence(CudaSequence&&) noexcept = default;
CudaSequence& CudaSequence::operator=(CudaSequence&&) noexcept = default;
CudaSequence::~CudaSequence() = default;

Result<CudaSequence> CudaSequence::create(const CudaTransformer& model, std::size_t positions) {
    auto state = State::create(model.parts_, positions);
    if (!state) return Unexpected{std::move(state).error()};
    return CudaSequence(std::make_unique<State>(*std::move(state)));
}

const io::ModelShape& CudaSequence::shape() const noexcept { return state_->model->shape; }
std::size_t CudaSequence::length() const noexcept { return state_->length; }
std::size_t CudaSequence::capacity() const noexcept { return state_->capacity; }

Result<void> CudaSequence::forward(std::span<const int> tokens, MatrixView<float> logits, ExecutionContext) {
    State& s = *state_;
    if (auto valid = check_call(s.model->shape, tokens, s.length, s.capacity, logits); !valid) return valid;
    const std::size_t start = s.length;
    for (std::size_t done = 0; done < tokens.size();) {
        const std::size_t count = std::min(s.chunk, tokens.size() - done);
        const bool is_last = done + count == tokens.size();
        const MatrixView<float> wanted = logits.rows == tokens.size() ? logits.rows_from(done, count)
                                         : is_last                    ? logits
                                                                      : logits.rows_from(0, 0);
        if (auto evaluated = s.evaluate(tokens.subspan(done, count), wanted); !evaluated) {
            static_cast<void>(truncate(start));  // the first error is the one to tell
            return evaluated;
        }
        s.length += count;
        done += count;
    }
    return {};
}

Result<void> CudaSequence::truncate(std::size_t length) {
    State& s = *state_;
    if (length > s.length)
        return fail(ErrorKind::bad_input, "a sequence of ", s.length, " tokens has no first ", length);
    s.length = length;
    return s.cache.rewind(length, s.stream.get());
}

}  // namespace fewbit::inline v0::model
