// Statistics of an earlier run as those of a layer in this one.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string>

#include "fewbit/calibrate/statistics.hpp"
#include "fewbit/core/result.hpp"
#include "fewbit/pipeline/folds.hpp"
#include "fewbit/quantize/quantize.hpp"

namespace fewbit::inline v0::pipeline {

struct SavedInput {
    TensorStatistics statistics;
    std::string note;  ///< a sentence where they are not what a run with windows would have; else empty
};

/// The input of `layer`, which reads k channels, divided by `scales` (k; empty: not divided). Nothing where
/// there is none and the method needs none. Errors: there is none and it does; another number of channels.
[[nodiscard]] Result<std::optional<SavedInput>> saved_input(const Statistics& saved, const std::string& layer,
                                                            std::size_t k, std::span<const float> scales,
                                                            const Method& method);

/// The input of a fold's readers, not divided by anything. Errors: there is none; another number of channels.
[[nodiscard]] Result<TensorStatistics> saved_input(const Statistics& saved, const Fold& fold);

}  // namespace fewbit::inline v0::pipeline
