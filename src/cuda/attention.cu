// Definitions of cuda/operators.hpp: the cache, what is stored in it, attention over it.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <tuple>
#include <utility>

#include "fewbit/cuda/operators.hpp"
#include "src/cuda/fits.hpp"
#include "src/cuda/status.hpp"

namespace fewbit::inline v0::cuda {
namespace {

/// Of what blocks leave for each other: rows that need more come in several launches.
constexpr std::size_t most_part_bytes = std::size_t{64} << 20;

operators::CacheType cache_type_of(Scalar type) {
    return type == Scalar::f16    ? operators::CacheType::f16
           : type == Scalar::bf16 ? operators::CacheType::bf16
                                  : operators::CacheType::int8;
}

}  // namespace

Result<KvCache> KvCache::create(const CacheShape& shape, Scalar type) {
    if (type != Scalar::f16 && type != Scalar::bf16 && type != Scalar::i8)
        return fail(ErrorKind::unsupported, "a cache on CUDA cannot be of ", name(type),
                    "; it can be of f16, bf16 or i8");
    if (shape.head_dim == 0 || shape.head_dim % 8 != 0 || shape.head_dim > max_head_dim)
        return fail(ErrorKind::unsupported, "heads of ", shape.head_dim, " are not a multiple of 8 up to ",
                    max_head_dim);
    if (shape.positions > most_positions)
        return fail(ErrorKind::unsupported, shape.positions, " positions are more than ", most_positions);
    KvCache cache;
    cache.shape_ = shape;
    cache.type_ = type;
    const auto make = [](Tensor& tensor, Scalar of, Tensor::Shape dims) -> Result<void> {
        auto memory = allocate(of, std::move(dims));
        if (!memory) return Unexpected{std::move(memory).error()};
        tensor = *std::move(memory);
        return {};
    };
    const std::size_t scales = type == Scalar::i8 ? shape.positions : 0;
    for (auto& [tensor, of, dims] :
         {std::tuple<Tensor*, Scalar, Tensor::Shape>{
              &cache.keys_, type, {shape.layers, shape.heads, shape.positions, shape.head_dim}},
          {&cache.values_, type, {shape.layers, shape.heads, shape.positions, shape.head_dim}},
          {&cache.key_scales_, Scalar::f32, {shape.layers, shape.heads, scales}},
          {&cache.value_scales_, Scalar::f32, {shape.layers, shape.heads, scales}},
          {&cache.position_, Scalar::i32, {1}}})
        if (auto done = make(*tensor, of, dims); !done) return Unexpected{std::move(done).error()};
    return cache;
}

Result<void> KvCache::advance(std::size_t count, ExecutionContext context) {
    if (count > shape_.positions)
        return fail(ErrorKind::bad_input, "a cache of ", shape_.positions, " positions cannot advance by ",
                    count);
    return checked(operators::launch(
                       {position_.as_mutable<std::int32_t>().data(), static_cast<std::int32_t>(count), true},
                       stream_of(context)),
                   "advancing the cache");
}

Result<void> KvCache::rewind(std::size_t position, ExecutionContext context) {
    if (position > shape_.positions)
        return fail(ErrorKind::bad_input, "a cache of ", shape_.positions, " positions has no position ",
                    position);
    return checked(operators::launch({position_.as_mutable<std::int32_t>().data(),
                                      static_cast<std::int32_t>(position), false},
                                     stream_of(context)),
                   "rewinding the cache");
}

Result<void> rotate_and_store(const View& q, const View& k, const View& v, const Tensor& turns,
                              const View& rotated, KvCache& cache, std::size_t layer,
                              ExecutionContext context) {
    const CacheShape& shape = cache.shape_;
    const std::size_t d = shape.head_dim, kv = shape.heads * d;
    if (auto ok = first_error(fits("q", q, q.rows, q.cols), fits("k", k, q.rows, kv),
                              fits("v", v, q.rows, kv), fits("rotated", rotated, q.rows, q.cols));
        !ok)
        return ok;
    if (q.cols % d != 0)
        return fail(ErrorKind::bad_input, "q has ", q.cols, " columns, no whole number of heads of ", d);
    if (q.type != k.type || q.type != v.type)
        return fail(ErrorKind::bad_input, "q, k and v are of ", name(q.type), ", ", name(k.type), " and ",
                    name(v.type), "; they have to be of one type");
    if (rotated.data == q.data && (rotated.type != q.type || rotated.stride != q.stride))
        return fail(ErrorKind::bad_input, "q is turned in place, but rotated is ", shape_of(rotated));
    if (layer >= shape.layers)
        return fail(ErrorKind::bad_input, "the cache has ", shape.layers, " layers, and no layer ", layer);
    if (turns.space() != MemorySpace::cuda || turns.type() != Scalar::f32 ||
        turns.elements() < shape.positions * d)
        return fail(ErrorKind::bad_input, "turns are not rope_turns(", shape.positions, ", ", d,
                    ", base) on the device");
    if (q.rows == 0) return {};
    operators::StoreCall call{};
    call.q = q.data, call.k = k.data, call.v = v.data;
    call.turns = turns.as<float>().data();
    call.first_position = cache.position_.as<std::int32_t>().data();
    call.rotated = rotated.data;
    const std::size_t row = layer * shape.heads * shape.positions, bytes = d * size_bytes(cache.type_);
    const bool scaled = cache.type_ == Scalar::i8;
    call.keys = {cache.keys_.mutable_bytes().data() + row * bytes,
                 scaled ? cache.key_scales_.as_mutable<float>().data() + row : nullptr};
    call.values = {cache.values_.mutable_bytes().data() + row * bytes,
                   scaled ? cache.value_scales_.as_mutable<float>().data() + row : nullptr};
    call.q_stride = q.stride, call.k_stride = k.stride, call.v_stride = v.stride,
    call.rotated_stride = rotated.stride;
    call.m = static_cast<std::uint32_t>(q.rows);
    call.heads = static_cast<std::uint32_t>(q.cols / d);
    call.kv_heads = static_cast<std::uint32_t>(shape.heads);
    call.head_dim = static_cast<std::uint32_t>(d);
    call.capacity = static_cast<std::uint32_t>(shape.positions);
    call.type = number_of(q.type), call.rotated_type = number_of(rotated.type);
    call.cache = cache_type_of(cache.type_);
    if (call.warps() / operators::warps_per_block >= std::numeric_limits<std::int32_t>::max())
        return fail(ErrorKind::unsupported, q.rows, " rows of ", call.heads,
                    " heads are too many for a launch");
    return checked(operators::launch(call, stream_of(context)), "starting the rotary turn");
}

Result<Attention> Attention::create(const KvCache& cache, std::size_t heads, std::size_t max_rows) {
    const CacheShape& shape = cache.shape_;
    if (shape.heads == 0 || heads == 0 || heads % shape.heads != 0)
        return fail(ErrorKind::bad_input, heads, " query heads are no multiple of the cache's ", shape.heads);
    if (max_rows > most_rows_of_views)
        return fail(ErrorKind::unsupported, max_rows, " rows are more than ", most_rows_of_views);
    Attention attention;
    attention.heads_ = heads;
    attention.max_rows_ = max_rows;
    const std::size_t units =
        shape.heads * ceil_div(heads / shape.heads, std::size_t{operators::attention_queries});
    const std::size_t runs =
        ceil_div(std::max<std::size_t>(1, shape.positions), std::size_t{operators::attention_run});
    const std::size_t per_row =
        units * runs * operators::attention_part(static_cast<unsigned>(shape.head_dim)) * sizeof(float);
    const std::size_t blocks = std::numeric_limits<std::int32_t>::max() / (units * runs);
    attention.rows_per_launch_ =
        std::clamp<std::size_t>(runs == 1 ? blocks : most_part_bytes / per_row, 1,
                                std::max<std::size_t>(1, std::min(max_rows, blocks)));
    auto counters = allocate(Scalar::i32, {attention.rows_per_launch_, units});
    if (!counters) return Unexpected{std::move(counters).error()};
    auto parts = allocate(Scalar::u8, {runs == 1 ? 0 : attention.rows_per_launch_ * per_row});
    if (!parts) return Unexpected{std::move(parts).error()};
    attention.counters_ = *std::move(counters);
    attention.parts_ = *std::move(parts);
    return attention;
}

Result<void> Attention::run(const View& q, const KvCache& cache, std::size_t layer, std::size_t seen,
                            const View& out, ExecutionContext context) {
    const CacheShape& shape = cache.shape_;
    const std::size_t d = shape.head_dim, cols = heads_ * d;
    if (auto ok = first_error(fits("q", q, q.rows, cols), fits("out", out, q.rows, cols)); !ok) return ok;
    if (q.rows > max_rows_)
        return fail(ErrorKind::bad_input, "q has ", q.rows, " rows; this attention was made for up to ",
                    max_rows_);
    if (layer >= shape.layers)
        return fail(ErrorKind::bad_input, "the cache has ", shape.layers, " layers, and no layer ", layer);
    const std::size_t runs =
        ceil_div(std::clamp<std::size_t>(seen, 1, std::max<std::size_t>(1, shape.positions)),
                 std::size_t{operators::attention_run});
    operators::AttentionCall call{};
    call.first_position = cache.position_.as<std::int32_t>().data();
    const std::size_t row = layer * shape.heads * shape.positions, bytes = d * size_bytes(cache.type_);
    const bool scaled = cache.type_ == Scalar::i8;
    // The kernel only reads them.
    const auto part_of = [&](const Tensor& rows, const Tensor& scales) -> operators::CacheRows {
        return {const_cast<std::byte*>(rows.bytes().data()) + row * bytes,
                scaled ? const_cast<float*>(scales.as<float>().data()) + row : nullptr};
    };
    call.keys = part_of(cache.keys_, cache.key_scales_);
    call.values = part_of(cache.values_, cache.value_scales_);
    call.parts = reinterpret_cast<float*>(parts_.mutable_bytes().data());
    call.counters = reinterpret_cast<std::uint32_t*>(counters_.mutable_bytes().data());
    call.q_stride = q.stride, call.out_stride = out.stride;
    call.heads = static_cast<std::uint32_t>(heads_);
    call.kv_heads = static_cast<std::uint32_t>(shape.heads);
    call.head_dim = static_cast<std::uint32_t>(d);
    call.capacity = static_cast<std::uint32_t>(shape.positions);
    call.runs = static_cast<std::uint32_t>(runs);
    call.scale = 1.0f / std::sqrt(static_cast<float>(d));
    call.cache = cache_type_of(cache.type_);
    call.type = number_of(q.type), call.out_type = number_of(out.type);
    const std::size_t part_bytes =
        call.units() * runs * operators::attention_part(call.head_dim) * sizeof(float);
    if (counters_.elements() < rows_per_launch_ * call.units() ||
        (runs > 1 && parts_.size_bytes() < rows_per_launch_ * part_bytes))
        return fail(ErrorKind::bad_input, "this attention was made for a cache of another shape");
    for (std::size_t first = 0; first < q.rows; first += rows_per_launch_) {
        const std::size_t rows = std::min(rows_per_launch_, q.rows - first);
        call.first_row = static_cast<std::uint32_t>(first);
        call.q = static_cast<const std::byte*>(q.data) + first * q.stride * size_bytes(q.type);
        call.out = static_cast<std::byte*>(out.data) + first * out.stride * size_bytes(out.type);
        if (auto done = checked(operators::launch(call, static_cast<std::uint32_t>(rows), stream_of(context)),
                                "starting attention");
            !done)
            return done;
    }
    return {};
}

}  // namespace fewbit::inline v0::cuda
