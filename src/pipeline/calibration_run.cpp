// Definitions of calibration_run.hpp.
#include "src/pipeline/calibration_run.hpp"

#include <algorithm>
#include <string>
#include <utility>

#include "fewbit/core/text.hpp"
#include "fewbit/model/operators.hpp"

namespace fewbit::inline v0::pipeline {
namespace {

using model::BlockWorkspace;
using model::DecoderBlock;
using model::KvCache;
using model::Layer;

/// Inputs of a layer on their way into its statistics: short windows are added together, which costs less.
struct Gathered {
    static constexpr std::size_t batch_tokens = 512;

    /// `rotation`: what the layer multiplies its input by first; methods see what comes out.
    Gathered(HessianCollector& collector_, std::string layer_, bool beside_,
             std::optional<Hadamard> rotation_ = {})
        : collector(collector_), layer(std::move(layer_)), beside(beside_), rotation(std::move(rotation_)) {}

    void take(MatrixView<const float> x, std::vector<float>& into) {
        channels = x.cols;
        Matrix turned;
        if (rotation) {
            turned = rotated(*rotation, x);
            x = std::as_const(turned).view();
        }
        for (std::size_t m = 0; m < x.rows; ++m) into.insert(into.end(), x.row(m).begin(), x.row(m).end());
    }
    /// Adds what was taken when there is enough of it, or when nothing follows.
    [[nodiscard]] Result<void> add(bool all) {
        const std::size_t tokens = channels == 0 ? 0 : inputs.size() / channels;
        if (tokens == 0 || (!all && tokens < batch_tokens)) return {};
        const MatrixView<const float> x(inputs.data(), tokens, channels);
        auto added = beside ? collector.add(x, {exact.data(), tokens, channels}, statistics, layer)
                            : collector.add(x, statistics, layer);
        inputs.clear();
        exact.clear();
        return added;
    }

    HessianCollector& collector;
    std::string layer;
    bool beside;
    std::optional<Hadamard> rotation;
    std::size_t channels = 0;
    std::vector<float> inputs, exact;  ///< (tokens, channels)
    TensorStatistics statistics;
};

/// An error of window `i`.
[[nodiscard]] Unexpected<Error> within(std::size_t i, const Error& error) {
    return Unexpected{error.within(text("calibration window ", i))};
}

}  // namespace

model::ModelOptions exact_options() {
    model::ModelOptions options;
    options.fallback = Fallback::allow;
    return options;
}

Result<void> check_windows(const io::ModelShape& shape, std::span<const std::vector<int>> windows) {
    if (windows.empty()) return fail(ErrorKind::bad_input, "there are no tokens to calibrate with");
    for (std::size_t i = 0; i < windows.size(); ++i) {
        if (windows[i].empty() || windows[i].size() > shape.context)
            return fail(ErrorKind::bad_input, "calibration window ", i, " has ", windows[i].size(),
                        " tokens; the model takes 1 to ", shape.context);
        for (const int token : windows[i])
            if (token < 0 || static_cast<std::size_t>(token) >= shape.vocabulary)
                return fail(ErrorKind::bad_input, "calibration window ", i, " has token ", token,
                            ", outside the vocabulary of ", shape.vocabulary);
    }
    return {};
}

Result<CalibrationRun> CalibrationRun::create(const io::ModelShape& shape,
                                              std::span<const std::vector<int>> windows, bool beside,
                                              const CalibratedOptions& options, HessianCollector& collector,
                                              ExecutionContext context) {
    std::vector<std::size_t> tokens;
    for (const auto& window : windows) tokens.push_back(window.size());
    const auto make = [&] {
        return CalibrationStream::create(tokens, shape.dim, options.memory_bytes / (beside ? 2 : 1),
                                         options.scratch_folder);
    };
    auto stream = make();
    if (!stream) return Unexpected{std::move(stream).error()};
    CalibrationRun run(shape, windows, collector, context, *std::move(stream));
    if (beside) {
        auto second = make();
        if (!second) return Unexpected{std::move(second).error()};
        run.float_stream_.emplace(*std::move(second));
    }
    return run;
}

Result<void> CalibrationRun::embed(const QuantizedMatrix& embedding, const QuantizedMatrix& float_embedding) {
    const auto start = [&](CalibrationStream& stream, const QuantizedMatrix& rows) -> Result<void> {
        for (std::size_t i = 0; i < windows_.size(); ++i) {
            Matrix x(windows_[i].size(), rows.k());
            for (std::size_t m = 0; m < x.rows(); ++m)
                rows.dequantize(static_cast<std::size_t>(windows_[i][m]), 0, x.row(m));
            if (auto done = stream.store(i, x); !done) return done;
        }
        return {};
    };
    if (auto done = start(stream_, embedding); !done) return done;
    return float_stream_ ? start(*float_stream_, float_embedding) : Result<void>();
}

Result<void> CalibrationRun::run(const DecoderBlock& block, Matrix& x, const Layer* until, const Sees& sees) {
    io::ModelShape one = shape_;
    one.layers = 1;
    auto cache = KvCache::create(one, x.rows());
    if (!cache) return Unexpected{std::move(cache).error()};
    auto w = BlockWorkspace::create(one, x.rows(), *cache, context_);
    if (!w) return Unexpected{std::move(w).error()};
    for (std::size_t m = 0; m < x.rows(); ++m) std::copy_n(x.row(m).data(), x.cols(), w->x.row(m).data());
    w->set_position(0, one.rope_base, context_);
    const model::LayerObserver observer = [&](std::string_view layer, MatrixView<const float> input) {
        if (until != nullptr && layer == until->name) sees(input);
    };
    if (auto done = block.run(*w, *cache, 0, 0, context_, observer, until); !done) return done;
    if (until == nullptr)
        for (std::size_t m = 0; m < x.rows(); ++m) std::copy_n(w->x.row(m).data(), x.cols(), x.row(m).data());
    return {};
}

Result<TensorStatistics> CalibrationRun::statistics_before(const DecoderBlock& block,
                                                           const DecoderBlock* float_block,
                                                           std::size_t layer) {
    const KeepAwake awake(context_);
    const Layer& read = *block.layers()[layer];
    Gathered gathered(*collector_, read.name, float_block != nullptr, read.linear.hadamard());
    const auto observe = [&](const DecoderBlock& through, const CalibrationStream& stream, std::size_t i,
                             std::vector<float>& into) -> Result<void> {
        auto x = stream.load(i);
        if (!x) return Unexpected{std::move(x).error()};
        auto done = run(through, *x, through.layers()[layer],
                        [&](MatrixView<const float> input) { gathered.take(input, into); });
        if (!done) return within(i, done.error());
        return {};
    };
    for (std::size_t i = 0; i < windows_.size(); ++i) {
        if (auto done = observe(block, stream_, i, gathered.inputs); !done)
            return Unexpected{std::move(done).error()};
        if (float_block != nullptr)
            if (auto done = observe(*float_block, *float_stream_, i, gathered.exact); !done)
                return Unexpected{std::move(done).error()};
        if (auto added = gathered.add(false); !added) return within(i, added.error());
    }
    if (auto added = gathered.add(true); !added) return Unexpected{std::move(added).error()};
    return std::move(gathered.statistics);
}

Result<void> CalibrationRun::advance(const DecoderBlock& block, const DecoderBlock* float_block) {
    const KeepAwake awake(context_);
    const auto all = [&](const DecoderBlock& through, CalibrationStream& stream) -> Result<void> {
        for (std::size_t i = 0; i < windows_.size(); ++i) {
            auto x = stream.load(i);
            if (!x) return Unexpected{std::move(x).error()};
            if (auto done = run(through, *x, nullptr, {}); !done) return within(i, done.error());
            if (auto done = stream.store(i, *x); !done) return done;
        }
        return {};
    };
    if (auto done = all(block, stream_); !done) return done;
    return float_stream_ ? all(*float_block, *float_stream_) : Result<void>();
}

Result<TensorStatistics> CalibrationRun::statistics_of_head(std::span<const float> gains) {
    const KeepAwake awake(context_);
    Gathered gathered(*collector_, "lm_head", float_stream_.has_value());
    const auto observe = [&](const CalibrationStream& stream, std::size_t i,
                             std::vector<float>& into) -> Result<void> {
        auto x = stream.load(i);
        if (!x) return Unexpected{std::move(x).error()};
        Matrix normed(x->rows(), x->cols());
        model::rms_norm(std::as_const(*x).view(), gains, shape_.norm_epsilon, normed.view(), context_);
        gathered.take(std::as_const(normed).view(), into);
        return {};
    };
    for (std::size_t i = 0; i < windows_.size(); ++i) {
        if (auto done = observe(stream_, i, gathered.inputs); !done)
            return Unexpected{std::move(done).error()};
        if (float_stream_)
            if (auto done = observe(*float_stream_, i, gathered.exact); !done)
                return Unexpected{std::move(done).error()};
        if (auto added = gathered.add(i + 1 == windows_.size()); !added)
            return Unexpected{std::move(added).error()};
    }
    return std::move(gathered.statistics);
}

}  // namespace fewbit::inline v0::pipeline
