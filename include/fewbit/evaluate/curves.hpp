// Error against bits: one matrix or one model, quantized in many ways, each a point of a curve.
//
//   bits       2 .. 8
//   grouping   tensor, channel, g128, g64, g32
//   variant    symmetric    rtn, all 2^b codes
//              asymmetric   rtn, integer zero point
//              mse          integer zero point, range clipped where that lowers the squared error
//              narrow       rtn, 2^b - 1 codes, which are symmetric around zero; only per channel
//
// A point's place on the x axis is its effective bits per weight: scales and zero points count.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "fewbit/core/config.hpp"
#include "fewbit/core/executor.hpp"
#include "fewbit/core/result.hpp"
#include "fewbit/core/tensor.hpp"
#include "fewbit/formats/format.hpp"
#include "fewbit/formats/linear.hpp"
#include "fewbit/io/model_file.hpp"

namespace fewbit::inline v0::evaluate {

enum class Variant : std::uint8_t { symmetric, asymmetric, mse, narrow };

/// "symmetric", "asymmetric", "mse", "narrow".
[[nodiscard]] FEWBIT_API std::string_view name(Variant variant) noexcept;

/// One way to quantize: a point of a curve.
struct CurveSetting {
    Format format;
    Variant variant = Variant::symmetric;

    /// "tensor", "channel", "g128": the curve to which it belongs, with the variant.
    [[nodiscard]] FEWBIT_API std::string grouping() const;
};

/// All of the table above, 112 settings: by grouping from coarse to fine, then variant, then bits upwards.
[[nodiscard]] FEWBIT_API std::vector<CurveSetting> curve_settings();

/// W (N, K), quantized. Errors: those of quantize_rtn and quantize_mse; `tensor` names the matrix in them.
[[nodiscard]] FEWBIT_API Result<Linear> quantize_for_curve(MatrixView<const float> w,
                                                           const CurveSetting& setting,
                                                           std::string_view tensor = {},
                                                           ExecutionContext context = {});

/// A model of which every matrix went through one setting, except those that were to be kept.
struct CurveModel {
    io::ModelFile file;
    std::size_t parameters = 0;         ///< of the whole model: matrices, biases and norm gains
    std::size_t quantized_weights = 0;  ///< in the matrices that were quantized
    double bits_per_weight = 0;  ///< of the whole model: embedding, head, norm gains (32 each) included
    double quantized_bits_per_weight = 0;  ///< of the matrices that were quantized
    double sqnr_db = 0;                    ///< over all weights that were quantized, pooled
};

/// Quantizes the matrices of a float model, the embedding (which a tied head shares) and the head among them,
/// but not those whose names `keep` accepts. `file` stays as it is. Errors: a matrix that is quantized
/// already, or has a transform or float columns; those of quantize_for_curve.
[[nodiscard]] FEWBIT_API Result<CurveModel> quantize_model_for_curve(
    const io::ModelFile& file, const CurveSetting& setting, FunctionRef<bool(std::string_view layer)> keep,
    ExecutionContext context = {});

}  // namespace fewbit::inline v0::evaluate
