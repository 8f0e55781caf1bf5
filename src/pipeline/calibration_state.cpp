// Definitions of calibration_state.hpp.
#include "src/pipeline/calibration_state.hpp"

#include <utility>

#include "fewbit/core/text.hpp"
#include "src/pipeline/calibration_run.hpp"

namespace fewbit::inline v0::pipeline {

Result<void> CalibrationState::check(std::span<const std::vector<int>> windows) const {
    if (options_.statistics == nullptr) {
        if (auto fine = check_windows(file_.shape, windows); !fine) return fine;
    } else if (!windows.empty()) {
        return fail(ErrorKind::bad_input, "there are statistics and ", windows.size(),
                    " windows to calibrate with; one of them is too much");
    }
    for (const auto& [layer, choice] : plan_) {
        const auto found = file_.linears.find(layer);
        if (found == file_.linears.end())
            return fail(ErrorKind::bad_input, "the model has no matrix '", layer, "'");
        if (!found->second.weights.format().is_float())
            return fail(ErrorKind::bad_input, "layer '", layer, "' is ", name(found->second.weights.format()),
                        " already; start from the float model, or the report would hide a part of the error");
        if (found->second.transform.reorders_or_scales() || !found->second.columns.empty())
            return fail(ErrorKind::bad_input, "layer '", layer,
                        "' has an input transform or float columns, which the method's would replace");
    }
    return {};
}

Result<void> CalibrationState::open(std::span<const std::vector<int>> windows) {
    if (auto fine = check(windows); !fine) return fine;
    if (options_.checkpoint.empty()) return {};
    auto prints = fingerprints_of(file_, plan_, windows, options_);
    if (!prints) return Unexpected{std::move(prints).error()};
    auto checkpoint = Checkpoint::open(options_.checkpoint, options_.resume, *std::move(prints));
    if (!checkpoint) return Unexpected{std::move(checkpoint).error()};
    checkpoint_.emplace(*std::move(checkpoint));
    return {};
}

const LayerChoice* CalibrationState::choice_of(std::string_view layer) const {
    const auto found = plan_.find(std::string(layer));
    return found == plan_.end() ? nullptr : &found->second;
}

Result<void> CalibrationState::fold_in(const Fold& fold, const std::vector<float>& scales,
                                       const std::string& how) {
    if (auto done = fold_scales(file_, fold, scales); !done) return done;
    folded_[fold.readers.front()] = scales;
    for (const std::string& reader : fold.readers) {
        scales_[reader] = how;
        divisors_[reader] = scales;
        result_.file.linears.at(reader) = file_.linears.at(reader);
    }
    if (fold.norm.empty())
        result_.file.linears.at(fold.writer) = file_.linears.at(fold.writer);
    else
        result_.file.vectors.at(fold.norm) = file_.vectors.at(fold.norm);
    return {};
}

Result<void> CalibrationState::finish(const std::string& step, const std::vector<std::string>& layers) {
    if (checkpoint_) {
        FinishedStep finished;
        for (const std::string& layer : layers) {
            finished.layers.emplace(layer, result_.file.linears.at(layer));
            finished.outcomes.emplace(layer, result_.layers.find(layer)->second);
            if (const auto scales = folded_.find(layer); scales != folded_.end())
                finished.scales.insert(*scales);
        }
        if (options_.keep_statistics) finished.statistics = std::move(step_statistics_);
        if (auto done = checkpoint_->save(step, finished); !done) return done;
        if (options_.keep_statistics) {
            finished.statistics.reset();  // out of memory before they are back from the disk
            auto kept = checkpoint_->saved_statistics(step);
            if (!kept) return Unexpected{std::move(kept).error()};
            step_statistics_ = *std::move(kept);
        }
    }
    result_.statistics.tensors.merge(step_statistics_.tensors);
    step_statistics_ = {};
    return {};
}

Result<bool> CalibrationState::restore(const std::string& step, std::optional<std::size_t> block) {
    if (!checkpoint_) return false;
    auto loaded = checkpoint_->load(step, options_.keep_statistics);
    if (!loaded) return Unexpected{std::move(loaded).error()};
    if (!*loaded) return false;
    FinishedStep& finished = **loaded;
    for (std::size_t i = 0; block && i < fold_sites.size(); ++i) {
        const Fold fold = fold_of(file_.shape, *block, fold_sites[i]);
        const auto scales = finished.scales.find(fold.readers.front());
        if (scales == finished.scales.end()) continue;
        if (auto done = fold_in(fold, scales->second, {}); !done) return Unexpected{std::move(done).error()};
    }
    for (auto& [layer, linear] : finished.layers) {
        const auto target = result_.file.linears.find(layer);
        if (choice_of(layer) == nullptr || target == result_.file.linears.end() ||
            target->second.n() != linear.n() || target->second.k() != linear.k())
            return fail(ErrorKind::bad_input, "the checkpoint has a layer '", layer, "' of ", linear.n(),
                        " x ", linear.k(), ", which this run does not make");
        target->second = std::move(linear);
    }
    result_.layers.merge(finished.outcomes);
    if (finished.statistics) result_.statistics.tensors.merge(finished.statistics->tensors);
    return true;
}

}  // namespace fewbit::inline v0::pipeline
