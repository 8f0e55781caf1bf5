// Models whose answers are known: a row of logits for each (token, position), from a formula.
#pragma once

#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "fewbit/evaluate/documents.hpp"
#include "fewbit/evaluate/logits.hpp"

namespace fewbit_test {

using namespace fewbit;

/// fill(token, position, row) writes the logits that follow a token.
class FormulaModel final : public evaluate::LogitSource {
public:
    using Fill = std::function<void(int, std::size_t, std::span<float>)>;
    FormulaModel(std::size_t vocabulary, Fill fill) : vocabulary_(vocabulary), fill_(std::move(fill)) {}

    [[nodiscard]] std::size_t vocabulary() const override { return vocabulary_; }
    [[nodiscard]] Result<std::unique_ptr<evaluate::LogitStream>> start(std::size_t) const override {
        return std::unique_ptr<evaluate::LogitStream>(std::make_unique<Stream>(*this));
    }

private:
    struct Stream final : evaluate::LogitStream {
        explicit Stream(const FormulaModel& model_) : model(model_) {}
        Result<void> advance(std::span<const int> tokens, MatrixView<float> logits,
                             ExecutionContext) override {
            for (std::size_t t = 0; t < tokens.size(); ++t) model.fill_(tokens[t], position++, logits.row(t));
            return {};
        }
        const FormulaModel& model;
        std::size_t position = 0;
    };

    std::size_t vocabulary_;
    Fill fill_;
};

inline evaluate::Window window_of(std::vector<int> tokens) { return {0, 0, std::move(tokens)}; }

}  // namespace fewbit_test
