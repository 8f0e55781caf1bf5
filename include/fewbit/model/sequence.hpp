// Sequence: tokens that a model reads one after another, wherever it runs. What generation needs of a model.
#pragma once

#include <cstddef>
#include <span>
#include <utility>

#include "fewbit/core/executor.hpp"
#include "fewbit/core/result.hpp"
#include "fewbit/core/tensor.hpp"
#include "fewbit/model/kv_cache.hpp"
#include "fewbit/model/transformer.hpp"

namespace fewbit::inline v0::model {

/// Not for several threads at once.
class Sequence {
public:
    virtual ~Sequence() = default;

    [[nodiscard]] virtual const io::ModelShape& shape() const noexcept = 0;
    [[nodiscard]] virtual std::size_t length() const noexcept = 0;
    [[nodiscard]] virtual std::size_t capacity() const noexcept = 0;
    /// As Transformer::forward: evaluates `tokens` (T) behind those that were; logits (T, V), (1, V) of the last, or no rows.
    /// Errors, which leave the sequence as it was: those of Transformer::forward; what a device said.
    [[nodiscard]] virtual Result<void> forward(std::span<const int> tokens, MatrixView<float> logits,
                                               ExecutionContext context) = 0;
    /// Forgets all but the first `length` tokens. Error: there are fewer.
    [[nodiscard]] virtual Result<void> truncate(std::size_t length) = 0;
};

/// On the CPU. `model` has to live as long.
class TransformerSequence final : public Sequence {
public:
    /// Room for `positions`, in the cache that the model's options name. Errors: those of KvCache::create.
    [[nodiscard]] static Result<TransformerSequence> create(const Transformer& model, std::size_t positions) {
        auto cache = KvCache::create(model.shape(), positions, model.options().cache);
        if (!cache) return Unexpected{std::move(cache).error()};
        return TransformerSequence(model, *std::move(cache));
    }

    [[nodiscard]] const io::ModelShape& shape() const noexcept override { return model_->shape(); }
    [[nodiscard]] std::size_t length() const noexcept override { return cache_.length(); }
    [[nodiscard]] std::size_t capacity() const noexcept override { return cache_.capacity(); }
    [[nodiscard]] Result<void> forward(std::span<const int> tokens, MatrixView<float> logits,
                                       ExecutionContext context) override {
        return model_->forward(tokens, cache_, logits, context);
    }
    [[nodiscard]] Result<void> truncate(std::size_t length) override {
        if (length > cache_.length())
            return fail(ErrorKind::bad_input, "a sequence of ", cache_.length(), " tokens has no first ",
                        length);
        cache_.truncate(length);
        return {};
    }

private:
    TransformerSequence(const Transformer& model, KvCache cache) : model_(&model), cache_(std::move(cache)) {}
    const Transformer* model_;
    KvCache cache_;
};

}  // namespace fewbit::inline v0::model
