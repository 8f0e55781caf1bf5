// KvCache: memory and writing.
#include "fewbit/model/kv_cache.hpp"

#include <algorithm>
#include <utility>

#include "fewbit/core/large_pages.hpp"
#include "fewbit/core/text.hpp"

namespace fewbit::inline v0::model {

Result<KvCache> KvCache::create(const io::ModelShape& shape, std::size_t positions) {
    if (positions > shape.context)
        return fail(ErrorKind::bad_input, "a cache of ", positions,
                    " positions is longer than the model's context of ", shape.context);
    auto memory = Tensor::allocate(Scalar::f32, {2, shape.layers, shape.kv_heads, positions, shape.head_dim},
                                   allocate_large);
    if (!memory) return Unexpected{std::move(memory).error().within("key-value cache")};
    KvCache cache;
    cache.layers_ = shape.layers;
    cache.heads_ = shape.kv_heads;
    cache.head_dim_ = shape.head_dim;
    cache.capacity_ = positions;
    cache.memory_ = *std::move(memory);
    return cache;
}

void KvCache::store(std::size_t layer, std::size_t position, std::span<const float> key,
                    std::span<const float> value) noexcept {
    float* const memory = memory_.as_mutable<float>().data();
    for (std::size_t head = 0; head < heads_; ++head) {
        std::copy_n(key.data() + head * head_dim_, head_dim_, memory + row(0, layer, head, position));
        std::copy_n(value.data() + head * head_dim_, head_dim_, memory + row(1, layer, head, position));
    }
}

}  // namespace fewbit::inline v0::model
