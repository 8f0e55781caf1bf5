// Definitions of evaluate/cuda_source.hpp.
#include "fewbit/evaluate/cuda_source.hpp"

#include <algorithm>
#include <mutex>
#include <utility>
#include <vector>

namespace fewbit::inline v0::evaluate {

struct CudaSource::Shared {
    explicit Shared(const model::CudaTransformer& model) : transformer(model) {}

    model::CudaTransformer transformer;
    std::mutex mutex;  // guards what follows
    std::vector<std::unique_ptr<model::CudaSequence>> idle;
};

namespace {

/// Gives its sequence back when its window is read.
template <class Shared>
class CudaStream final : public LogitStream {
public:
    CudaStream(std::shared_ptr<Shared> shared, std::unique_ptr<model::CudaSequence> sequence)
        : shared_(std::move(shared)), sequence_(std::move(sequence)) {}
    ~CudaStream() override {
        const std::lock_guard lock(shared_->mutex);
        shared_->idle.push_back(std::move(sequence_));
    }
    CudaStream(const CudaStream&) = delete;
    CudaStream& operator=(const CudaStream&) = delete;

    Result<void> advance(std::span<const int> tokens, MatrixView<float> logits,
                         ExecutionContext context) override {
        return sequence_->forward(tokens, logits, context);
    }

private:
    std::shared_ptr<Shared> shared_;
    std::unique_ptr<model::CudaSequence> sequence_;
};

}  // namespace

CudaSource::CudaSource(const model::CudaTransformer& transformer)
    : shared_(std::make_shared<Shared>(transformer)) {}

std::size_t CudaSource::vocabulary() const { return shared_->transformer.shape().vocabulary; }

Result<std::unique_ptr<LogitStream>> CudaSource::start(std::size_t tokens) const {
    std::unique_ptr<model::CudaSequence> sequence;
    {
        const std::lock_guard lock(shared_->mutex);
        auto& idle = shared_->idle;
        const auto fits =
            std::ranges::find_if(idle, [&](const auto& one) { return one->capacity() >= tokens; });
        if (fits != idle.end()) {
            sequence = std::move(*fits);
            idle.erase(fits);
        } else {
            idle.clear();  // too short for this window, and so for most
        }
    }
    if (sequence != nullptr) {
        if (auto emptied = sequence->truncate(0); !emptied) return Unexpected{std::move(emptied).error()};
    } else {
        auto made = model::CudaSequence::create(shared_->transformer, tokens);
        if (!made) return Unexpected{std::move(made).error()};
        sequence = std::make_unique<model::CudaSequence>(*std::move(made));
    }
    return std::unique_ptr<LogitStream>(std::make_unique<CudaStream<Shared>>(shared_, std::move(sequence)));
}

}  // namespace fewbit::inline v0::evaluate
