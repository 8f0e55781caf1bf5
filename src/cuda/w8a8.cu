// Definitions of cuda/w8a8.hpp: shapes are checked, kernels are started.
#include "fewbit/cuda/w8a8.hpp"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <utility>

#include "fewbit/cuda/selection.hpp"
#include "kernels/int_grouped/cuda/launch.hpp"
#include "src/cuda/number.hpp"
#include "src/cuda/plan.hpp"
#include "src/cuda/product_checks.hpp"
#include "src/cuda/status.hpp"

namespace fewbit::inline v0::cuda {
namespace {

constexpr std::size_t most_numbers = std::numeric_limits<std::int32_t>::max() / 2;

mma16::Codes codes_of(Scalar type) { return type == Scalar::i8 ? mma16::Codes::int8 : mma16::Codes::fp8; }

decoding::KernelKind kind_of(const Mma16Matrix& weights, bool wgmma) {
    return {weights.kind(), mma16::Half::f16, decoding::Zero::middle, decoding::any_rows, wgmma, true};
}

}  // namespace

Result<RoundedRows> RoundedRows::create(std::size_t max_rows, std::size_t k, Scalar type) {
    if (type != Scalar::i8 && type != Scalar::fp8_e4m3)
        return fail(ErrorKind::bad_input, "rows of x are rounded to i8 or fp8-e4m3, not to ", name(type));
    if (k > max_k)
        return fail(ErrorKind::unsupported, "rows of ", k, " are longer than the ", max_k,
                    " whose products int32 holds");
    if (max_rows > most_numbers)
        return fail(ErrorKind::unsupported, max_rows, " rows are more than the ", most_numbers,
                    " of a launch");
    RoundedRows out;
    out.k_ = k, out.max_rows_ = max_rows, out.type_ = type;
    const auto make = [](Tensor& tensor, Scalar of, std::size_t count) -> Result<void> {
        auto memory = allocate(of, {count});
        if (!memory) return Unexpected{std::move(memory).error()};
        tensor = *std::move(memory);
        return {};
    };
    const std::size_t padded_k = round_up(k, std::size_t{mma16::half_inputs});
    auto made = make(out.codes_, Scalar::u8, decoding::rounded_bytes(max_rows, padded_k));
    if (made) made = make(out.scales_, Scalar::f32, max_rows);
    if (made && type == Scalar::i8) made = make(out.sums_, Scalar::i32, max_rows);
    if (!made) return Unexpected{std::move(made).error()};
    return out;
}

Result<void> RoundedRows::quantize(const View& x, ExecutionContext context) {
    if (x.cols != k_ || x.rows > max_rows_ || x.stride < x.cols || !is_number(x.type))
        return fail(ErrorKind::bad_input, "x is (", x.rows, ", ", x.cols, ") of ", name(x.type),
                    " with a stride of ", x.stride, "; here are up to ", max_rows_, " rows of ", k_,
                    " in f32, f16 or bf16");
    rows_ = x.rows;
    if (x.rows == 0) return {};
    decoding::RoundCall call{};
    call.x = x.data;
    call.rounded = codes_.mutable_bytes().data();
    call.scales = scales_.as_mutable<float>().data();
    call.sums = type_ == Scalar::i8 ? sums_.as_mutable<std::int32_t>().data() : nullptr;
    call.stride = x.stride;
    call.m = static_cast<std::uint32_t>(x.rows);
    call.k = static_cast<std::uint32_t>(k_);
    call.padded_k = static_cast<std::uint32_t>(round_up(k_, std::size_t{mma16::half_inputs}));
    call.type = number_of(x.type);
    return checked(decoding::launch(codes_of(type_), call, stream_of(context)), "starting the rounding of x");
}

Result<W8A8Product> W8A8Product::create(const Mma16Matrix& weights, std::size_t max_rows) {
    auto device = current_device();
    if (!device) return Unexpected{std::move(device).error()};
    if (weights.codes.space() != MemorySpace::cuda)
        return fail(ErrorKind::bad_input, "the weights are not on the device; cuda::to_device copies them");
    W8A8Product product;
    product.weights_ = weights;
    product.max_rows_ = max_rows;
    if (auto selected = select_kernel(weights.format, product.activations(), max_rows); !selected)
        return Unexpected{std::move(selected).error()};
    if (device->major == 9)
        if (auto asked = checked(decoding::has_wgmma(product.wgmma_), "asking for kernels of sm_90a"); !asked)
            return Unexpected{std::move(asked).error()};
    bool served = device->major >= 8;
    if (product.activations() == Scalar::fp8_e4m3 && !product.wgmma_)
        if (auto asked = checked(decoding::has_fp8_mma(served), "asking for kernels of fp8"); !asked)
            return Unexpected{std::move(asked).error()};
    if (!served)
        return fail(ErrorKind::no_kernel, "the device '", device->name, "' is sm_", device->major,
                    device->minor, "; W8A8 needs sm_80, with fp8 sm_89, and a build for them");
    const std::size_t row_blocks = ceil_div(max_rows, std::size_t{decoding::prompt_block_rows});
    if (weights.k > RoundedRows::max_k || weights.n > most_numbers || max_rows > most_numbers ||
        ceil_div(weights.tiles, std::size_t{decoding::prompt_block_tiles}) * row_blocks > most_numbers)
        return fail(ErrorKind::unsupported, max_rows, " rows times a matrix of ", weights.n, " x ", weights.k,
                    " are too large for the CUDA kernels");
    int resident = 0;
    if (auto done = checked(decoding::resident_blocks(kind_of(weights, product.wgmma_), resident),
                            "asking how many blocks a multiprocessor holds");
        !done)
        return Unexpected{std::move(done).error()};
    product.resident_blocks_ = static_cast<std::size_t>(std::max(1, resident) * device->multiprocessors);
    const Plan plan = plan_as(Way::prompt, weights.tiles, weights.chunks, std::max<std::size_t>(1, max_rows),
                              product.resident_blocks_);
    // Fewer rows may share tiles where `max_rows` do not.
    product.workspace_ = {std::max<std::size_t>(1, plan.counters()),
                          2 * product.resident_blocks_ * decoding::prompt_part_floats * sizeof(float)};
    return product;
}

std::string_view W8A8Product::kernel() const noexcept {
    const auto selected = select_kernel(weights_.format, activations(), max_rows_, wgmma_);
    return selected ? selected->name : std::string_view{};
}

Result<RunReport> W8A8Product::run(const RoundedRows& x, const View& y, const float* bias,
                                   Workspace& workspace, ExecutionContext context) const {
    if (x.k() != weights_.k || x.type() != activations() || x.rows() > max_rows_)
        return fail(ErrorKind::bad_input, "x has ", x.rows(), " rows of ", x.k(), " in ", name(x.type()),
                    "; this product takes up to ", max_rows_, " rows of ", weights_.k, " in ",
                    name(activations()));
    if (auto fits = check_y(y, x.rows(), weights_.n); !fits) return Unexpected{std::move(fits).error()};
    if (auto fits = check_workspace(workspace.size(), workspace_); !fits)
        return Unexpected{std::move(fits).error()};
    RunReport report;
    report.kernel = kernel();
    report.weight_bytes = weights_.size_bytes();
    if (x.rows() == 0 || weights_.n == 0) return report;
    const Plan plan = plan_as(Way::prompt, weights_.tiles, weights_.chunks, x.rows(), resident_blocks_);
    decoding::Call call{};
    call.codes = weights_.codes.bytes().data();
    call.scales = weights_.scales.bytes().data();
    call.offsets = weights_.offsets.bytes().data();
    call.x = x.codes_.bytes().data();
    call.x_scales = x.scales_.as<float>().data();
    call.x_sums = x.type_ == Scalar::i8 ? x.sums_.as<std::int32_t>().data() : nullptr;
    call.bias = bias;
    call.y = y.data;
    call.parts = reinterpret_cast<float*>(workspace.memory_.mutable_bytes().data());
    call.counters = reinterpret_cast<std::uint32_t*>(workspace.counters_.mutable_bytes().data());
    call.y_stride = y.stride;
    call.m = static_cast<std::uint32_t>(x.rows());
    call.n = static_cast<std::uint32_t>(weights_.n);
    call.chunks = static_cast<std::uint32_t>(weights_.chunks);
    call.groups = 1;
    call.partition = plan.partition;
    call.scale_type = number_of(weights_.scales.type());
    call.y_type = number_of(y.type);
    call.zero = zero_of(weights_.format);
    if (auto done = checked(decoding::launch(kind_of(weights_, wgmma_), call, stream_of(context)),
                            "starting the kernel");
        !done)
        return Unexpected{std::move(done).error()};
    return report;
}

}  // namespace fewbit::inline v0::cuda
