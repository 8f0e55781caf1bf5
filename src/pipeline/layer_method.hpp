// What rounds one layer of a model.
#pragma once

#include <string>

#include "fewbit/quantize/quantize.hpp"

namespace fewbit::inline v0::pipeline {

/// The method that was asked for, or mse where that needs statistics and the layer has no input to gather them from.
struct LayerMethod {
    Method method;
    const TensorStatistics* statistics;  ///< never null
    bool replaced;
};

inline LayerMethod layer_method(const Method& asked, const std::string& layer,
                                const TensorStatistics* statistics) {
    static const TensorStatistics none;
    const bool replaced = statistics == nullptr && needs_statistics(asked);
    return {for_tensor(replaced ? Method{MseOptions{}} : asked, layer),
            statistics != nullptr ? statistics : &none, replaced};
}

}  // namespace fewbit::inline v0::pipeline
