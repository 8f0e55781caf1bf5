// What calibrated quantizing has made so far: the quantized model, the float model with the scales that were
// folded into it, and the steps (the embedding, each block) that a checkpoint keeps and an interrupted run
// takes over.
#pragma once

#include <cstddef>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "fewbit/core/result.hpp"
#include "fewbit/pipeline/calibrated_quantizer.hpp"
#include "fewbit/pipeline/folds.hpp"
#include "src/pipeline/checkpoint.hpp"

namespace fewbit::inline v0::pipeline {

class CalibrationState {
protected:
    /// `plan` and `options` have to live as long.
    CalibrationState(const io::ModelFile& file, const std::map<std::string, LayerChoice>& plan,
                     const CalibratedOptions& options)
        : file_(file), plan_(plan), options_(options) {
        result_.file = file;
    }

    /// Before the first step. Errors: what is wrong with windows, statistics, plan or an earlier checkpoint.
    [[nodiscard]] Result<void> open(std::span<const std::vector<int>> windows);

    /// Null where the layer stays as it is.
    [[nodiscard]] const LayerChoice* choice_of(std::string_view layer) const;

    /// Folds scales into the float model, and into the result, whose layers are float there yet.
    [[nodiscard]] Result<void> fold_in(const Fold& fold, const std::vector<float>& scales,
                                       const std::string& how);

    /// Keeps what a step made of its layers.
    [[nodiscard]] Result<void> finish(const std::string& step, const std::vector<std::string>& layers);
    /// Takes over a step; `block`: which one it is, if it is one. False: it was not finished.
    [[nodiscard]] Result<bool> restore(const std::string& step, std::optional<std::size_t> block);

    io::ModelFile file_;  ///< the float model, with the scales that were folded, without what is finished
    const std::map<std::string, LayerChoice>& plan_;
    const CalibratedOptions& options_;
    CalibratedModel result_;
    std::map<std::string, std::string> scales_;           ///< by layer: how its inputs were scaled
    std::map<std::string, std::vector<float>> divisors_;  ///< by layer: what they were divided by
    Statistics step_statistics_;                          ///< of the step that runs, where they are kept

private:
    [[nodiscard]] Result<void> check(std::span<const std::vector<int>> windows) const;

    std::optional<Checkpoint> checkpoint_;
    std::map<std::string, std::vector<float>> folded_;  ///< by the first reader of each fold
};

}  // namespace fewbit::inline v0::pipeline
