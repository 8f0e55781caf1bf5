// Static ranges: runs a model with exact activations over some tokens and finds, for every layer that will
// read int<b>-tensor-static activations, what its input spans. ModelOptions::static_ranges takes the answer.
//
// Calibrate the file that will run, its weights quantized and its transforms in place: a range is that of
// T(x), which is what a layer quantizes (formats/linear.hpp). LayerObserver tells x, so T is applied here.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "fewbit/core/config.hpp"
#include "fewbit/core/executor.hpp"
#include "fewbit/core/result.hpp"
#include "fewbit/formats/activation_format.hpp"
#include "fewbit/io/model_file.hpp"

namespace fewbit::inline v0::pipeline {

/// How the ranges are chosen from what was seen; calibrate/observers.hpp has the rules.
enum class RangeRule : std::uint8_t { min_max, moving_average, percentile, mse };

struct StaticRangeOptions {
    RangeRule rule = RangeRule::min_max;
    double momentum = 0.99;  ///< moving_average: of a window's range, window by window
    double tail = 1e-4;      ///< percentile: share of the values left outside at each end, 0 <= tail < 0.5
};

using StaticRanges = std::map<std::string, StaticRange, std::less<>>;

/// Ranges by layer, of all layers of `file` with integer weights, lm_head included. `windows`: token
/// sequences, each evaluated from an empty cache. `format` says for which grids (bits, asymmetric) `mse`
/// looks; other rules do not depend on it. The result does not depend on the number of threads. Errors: no
/// windows, an empty one or one longer than the model's context; a token outside the vocabulary; options out
/// of range; activations that are not finite, with the layer's name; what Transformer::create refuses.
[[nodiscard]] FEWBIT_API Result<StaticRanges> calibrate_static_ranges(
    const io::ModelFile& file, std::span<const std::vector<int>> windows, const ActivationFormat& format,
    const StaticRangeOptions& options = {}, ExecutionContext context = {});

}  // namespace fewbit::inline v0::pipeline
