// A model on a CUDA device as the evaluation sees models.
#pragma once

#include <cstddef>
#include <memory>

#include "fewbit/evaluate/logits.hpp"
#include "fewbit/model/cuda_transformer.hpp"

namespace fewbit::inline v0::evaluate {

/// Copies share the model and its sequences: what a window needed on the device serves the next one. Threads that read windows side
/// by side have a sequence each. Errors of start(): those of CudaSequence::create.
class CudaSource final : public LogitSource {
public:
    FEWBIT_API explicit CudaSource(const model::CudaTransformer& transformer);
    [[nodiscard]] FEWBIT_API std::size_t vocabulary() const override;
    [[nodiscard]] FEWBIT_API Result<std::unique_ptr<LogitStream>> start(std::size_t tokens) const override;

private:
    struct Shared;
    std::shared_ptr<Shared> shared_;
};

}  // namespace fewbit::inline v0::evaluate
