// Definitions of cuda/operators.hpp but those of caches (attention.cu): shapes are checked, kernels are started.
#include "fewbit/cuda/operators.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <span>

#include "kernels/int_grouped/cuda/launch.hpp"
#include "src/cuda/fits.hpp"
#include "src/cuda/status.hpp"

namespace fewbit::inline v0::cuda {

Result<void> embed(const Mma16Matrix& weights, const std::int32_t* tokens, const View& y,
                   ExecutionContext context) {
    if (auto ok = fits("y", y, y.rows, weights.k); !ok) return ok;
    if (weights.codes.space() != MemorySpace::cuda)
        return fail(ErrorKind::bad_input, "the weights are not on the device; cuda::to_device copies them");
    if (weights.n > most_positions)
        return fail(ErrorKind::unsupported, weights.n, " rows are more than ", most_positions);
    if (y.rows == 0 || y.cols == 0) return {};
    kernels::int_grouped_cuda::GatherCall call{};
    call.codes = weights.codes.bytes().data();
    call.scales = weights.scales.bytes().data();
    call.offsets = weights.offsets.bytes().data();
    call.rows = tokens;
    call.y = y.data;
    call.y_stride = y.stride;
    call.n = static_cast<std::uint32_t>(weights.n), call.k = static_cast<std::uint32_t>(weights.k);
    call.chunks = static_cast<std::uint32_t>(weights.chunks),
    call.groups = static_cast<std::uint32_t>(weights.groups);
    call.halves_per_group = mma16::Divisor::of(static_cast<std::uint32_t>(weights.halves_per_group));
    call.kind = weights.kind(), call.zero = zero_of(weights.format);
    call.scale_type = number_of(weights.scales.type()), call.y_type = number_of(y.type);
    const std::span<const float> table = weights.format.codebook();
    if (call.kind == mma16::Codes::table4) std::copy(table.begin(), table.end(), call.table);
    return checked(
        kernels::int_grouped_cuda::launch(call, static_cast<std::uint32_t>(y.rows), stream_of(context)),
        "starting an embedding");
}

Result<void> embed(const Tensor& table, const std::int32_t* tokens, const View& y, ExecutionContext context) {
    if (table.space() != MemorySpace::cuda || table.shape().size() != 2 || !is_number(table.type()))
        return fail(ErrorKind::bad_input,
                    "a table of floats has to be a matrix of f32, f16 or bf16 on the device");
    const std::size_t n = table.shape()[0], k = table.shape()[1];
    if (auto ok = fits("y", y, y.rows, k); !ok) return ok;
    if (n > most_positions) return fail(ErrorKind::unsupported, n, " rows are more than ", most_positions);
    if (n == 0) return fail(ErrorKind::bad_input, "the table has no rows");
    if (y.rows == 0 || k == 0) return {};
    operators::PickCall call{};
    call.table = table.bytes().data();
    call.rows = tokens;
    call.y = y.data;
    call.y_stride = y.stride;
    call.n = static_cast<std::uint32_t>(n), call.k = static_cast<std::uint32_t>(k);
    call.type = number_of(table.type()), call.y_type = number_of(y.type);
    return checked(operators::launch(call, static_cast<std::uint32_t>(y.rows), stream_of(context)),
                   "starting an embedding");
}

Result<void> rms_norm(const View& residual, const View* delta, const float* gain, float epsilon,
                      const View& y, ExecutionContext context) {
    if (auto ok = first_error(
            fits("the residual", residual, residual.rows, residual.cols),
            fits("y", y, residual.rows, residual.cols),
            delta == nullptr ? Result<void>() : fits("delta", *delta, residual.rows, residual.cols));
        !ok)
        return ok;
    if (residual.type != Scalar::f32)
        return fail(ErrorKind::bad_input, "the residual is of ", name(residual.type),
                    "; it has to be of f32");
    if (residual.rows == 0 || residual.cols == 0) return {};
    operators::NormCall call{};
    call.residual = static_cast<float*>(residual.data);
    call.delta = delta == nullptr ? nullptr : delta->data;
    call.gain = gain;
    call.y = y.data;
    call.residual_stride = residual.stride;
    call.delta_stride = delta == nullptr ? 0 : delta->stride;
    call.y_stride = y.stride;
    call.dim = static_cast<std::uint32_t>(residual.cols);
    call.epsilon = epsilon;
    call.delta_type = delta == nullptr ? operators::Number::f32 : number_of(delta->type);
    call.y_type = number_of(y.type);
    return checked(operators::launch(call, static_cast<std::uint32_t>(residual.rows), stream_of(context)),
                   "starting a norm");
}

Result<void> silu_multiply(const View& gate, const View& up, const View& y, ExecutionContext context) {
    if (auto ok = first_error(fits("gate", gate, gate.rows, gate.cols), fits("up", up, gate.rows, gate.cols),
                              fits("y", y, gate.rows, gate.cols));
        !ok)
        return ok;
    if (gate.type != up.type)
        return fail(ErrorKind::bad_input, "gate is of ", name(gate.type), " and up of ", name(up.type),
                    "; they have to be of one type");
    if (gate.rows == 0 || gate.cols == 0) return {};
    operators::GateCall call{};
    call.gate = gate.data, call.up = up.data, call.y = y.data;
    call.gate_stride = gate.stride, call.up_stride = up.stride, call.y_stride = y.stride;
    call.n = static_cast<std::uint32_t>(gate.cols);
    const std::size_t per_row = ceil_div(gate.cols, std::size_t{operators::gate_columns});
    if (gate.rows * per_row > std::numeric_limits<std::int32_t>::max())
        return fail(ErrorKind::unsupported, "gate of ", gate.rows, " x ", gate.cols,
                    " is too large for a launch");
    call.blocks_per_row = static_cast<std::uint32_t>(per_row);
    call.type = number_of(gate.type), call.y_type = number_of(y.type);
    return checked(operators::launch(call, static_cast<std::uint32_t>(gate.rows), stream_of(context)),
                   "starting SwiGLU");
}

Result<Tensor> rope_turns(std::size_t positions, std::size_t head_dim, float base) {
    if (head_dim % 2 != 0) return fail(ErrorKind::bad_input, "heads of ", head_dim, " have no pairs to turn");
    auto table = Tensor::allocate(Scalar::f32, {positions, head_dim});
    if (!table) return table;
    const auto to = table->as_mutable<float>();
    for (std::size_t i = 0; i < head_dim; i += 2) {
        const double frequency =
            std::pow(static_cast<double>(base), -static_cast<double>(i) / static_cast<double>(head_dim));
        for (std::size_t p = 0; p < positions; ++p) {
            to[p * head_dim + i] = static_cast<float>(std::cos(static_cast<double>(p) * frequency));
            to[p * head_dim + i + 1] = static_cast<float>(std::sin(static_cast<double>(p) * frequency));
        }
    }
    return to_device(*table);
}

}  // namespace fewbit::inline v0::cuda
