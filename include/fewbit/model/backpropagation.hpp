// Backpropagation: loss and gradients of a Llama-family decoder over a micro-batch. Documents lie one after
// another with no padding, each attends to itself alone and starts at position 0; products run over all rows
// at once.
//
// T is float, or double for tests that compare with finite differences.
#pragma once

#include <cstddef>
#include <memory>
#include <span>

#include "fewbit/core/config.hpp"
#include "fewbit/core/result.hpp"
#include "fewbit/core/tensor.hpp"
#include "fewbit/model/gradients.hpp"
#include "fewbit/model/parameters.hpp"
#include "fewbit/model/training_products.hpp"

namespace fewbit::inline v0::model {

/// Rows of a training step: row m sees tokens[m] and everything before it in its document, and is to predict
/// targets[m], which counts weights[m].
struct MicroBatch {
    std::span<const int> tokens;
    std::span<const int> targets;
    std::span<const float> weights;  ///< 0: not trained
    std::span<const DocumentRows> documents;
};

/// Rounds the inputs of projections to an activation format during training, in place, and turns the gradient
/// back. A site is one input that several projections may share: 4 * layer + {0: q k v, 1: o, 2: gate up,
/// 3: down}, then the head's.
template <class T>
class InputRounding {
public:
    virtual ~InputRounding() = default;
    virtual void forward(std::size_t site, MatrixView<T> x, ExecutionContext context) = 0;
    /// dx <- gradient of x before forward() from the gradient after it; sites come in reverse order, each
    /// after its own forward().
    virtual void backward(std::size_t site, MatrixView<T> dx, ExecutionContext context) = 0;
};

template <class T>
class Backpropagation {
public:
    /// Memory for micro-batches of up to `rows` tokens. Error: no memory.
    [[nodiscard]] FEWBIT_API static Result<Backpropagation> create(const ParameterTable& table,
                                                                   std::size_t rows,
                                                                   TrainingProducts<T> products);

    /// Returns the sum of weights * nll; adds `scale` times its gradient to `gradients`. With a teacher's
    /// logits (M, V) the loss is weights * KL(teacher || model) instead, and targets are not read.
    /// Errors: more rows than fit, tokens or targets outside the vocabulary, documents that do not tile the
    /// rows or are longer than the context.
    [[nodiscard]] FEWBIT_API Result<double> run(std::span<const T> parameters, const MicroBatch& batch,
                                                T scale, std::span<T> gradients,
                                                InputRounding<T>* rounding = nullptr,
                                                MatrixView<const T> teacher = {});

    /// Forward alone: logits (M, V), valid until the next call. Errors: those of run().
    [[nodiscard]] FEWBIT_API Result<MatrixView<const T>> logits(std::span<const T> parameters,
                                                                const MicroBatch& batch,
                                                                InputRounding<T>* rounding = nullptr);

    [[nodiscard]] const ParameterTable& table() const noexcept { return *table_; }
    [[nodiscard]] const TrainingProducts<T>& products() const noexcept { return products_; }

private:
    struct Memory;

    Backpropagation(const ParameterTable& table, TrainingProducts<T> products)
        : table_(std::make_shared<ParameterTable>(table)), products_(std::move(products)) {}

    [[nodiscard]] Result<void> check(const MicroBatch& batch) const;
    void forward(std::span<const T> parameters, const MicroBatch& batch, Memory& memory,
                 InputRounding<T>* rounding) const;
    void backward(std::span<const T> parameters, const MicroBatch& batch, Memory& memory,
                  std::span<T> gradients, InputRounding<T>* rounding) const;
    void multiply_back(MatrixView<const T> dy, MatrixView<const T> x, MatrixView<const T> w, MatrixView<T> dx,
                       MatrixView<T> dw_sum, Memory& memory) const;

    std::shared_ptr<const ParameterTable> table_;
    TrainingProducts<T> products_;
    std::shared_ptr<Memory> memory_;
};

}  // namespace fewbit::inline v0::model
