// Definitions of cuda/int8_product.hpp: shapes are checked, kernels are started.
#include "fewbit/cuda/int8_product.hpp"

#include <cstdint>
#include <limits>
#include <utility>

#include "kernels/int_grouped/cuda/launch.hpp"
#include "src/cuda/number.hpp"
#include "src/cuda/status.hpp"

namespace fewbit::inline v0::cuda {
namespace {

namespace decoding = kernels::int_grouped_cuda;

constexpr std::size_t most_rows = std::numeric_limits<std::int32_t>::max() / 2;

}  // namespace

Result<Int8Rows> Int8Rows::create(std::size_t max_rows, std::size_t k) {
    if (k > max_k)
        return fail(ErrorKind::unsupported, "rows of ", k, " are longer than the ", max_k,
                    " whose products int32 holds");
    if (max_rows > most_rows)
        return fail(ErrorKind::unsupported, max_rows, " rows are more than the ", most_rows, " of a launch");
    Int8Rows out;
    out.k_ = k;
    const auto make = [](Tensor& tensor, Scalar type, Tensor::Shape shape) -> Result<void> {
        auto memory = allocate(type, std::move(shape));
        if (!memory) return Unexpected{std::move(memory).error()};
        tensor = *std::move(memory);
        return {};
    };
    if (auto done = make(out.codes_, Scalar::i8, {max_rows, round_up(k, std::size_t{mma16::half_inputs})});
        !done)
        return Unexpected{std::move(done).error()};
    if (auto done = make(out.scales_, Scalar::f32, {max_rows}); !done)
        return Unexpected{std::move(done).error()};
    if (auto done = make(out.sums_, Scalar::i32, {max_rows}); !done)
        return Unexpected{std::move(done).error()};
    return out;
}

Result<void> Int8Rows::quantize(const View& x, Stream stream) {
    if (x.cols != k_ || x.rows > codes_.shape()[0] || x.stride < x.cols || !is_number(x.type))
        return fail(ErrorKind::bad_input, "x is (", x.rows, ", ", x.cols, ") of ", name(x.type),
                    " with a stride of ", x.stride, "; here are up to ", codes_.shape()[0], " rows of ", k_,
                    " in f32, f16 or bf16");
    rows_ = x.rows;
    if (x.rows == 0) return {};
    decoding::QuantizeCall call{};
    call.x = x.data;
    call.codes = codes_.as_mutable<std::int8_t>().data();
    call.scales = scales_.as_mutable<float>().data();
    call.sums = sums_.as_mutable<std::int32_t>().data();
    call.stride = x.stride;
    call.m = static_cast<std::uint32_t>(x.rows);
    call.k = static_cast<std::uint32_t>(k_);
    call.padded_k = static_cast<std::uint32_t>(codes_.shape()[1]);
    call.type = number_of(x.type);
    return checked(decoding::launch(call, static_cast<cudaStream_t>(stream)), "starting the rounding of x");
}

Result<Int8Product> Int8Product::create(const Mma16Matrix& weights) {
    auto device = current_device();
    if (!device) return Unexpected{std::move(device).error()};
    if (weights.codes.space() != MemorySpace::cuda)
        return fail(ErrorKind::bad_input, "the weights are not on the device; cuda::to_device copies them");
    if (weights.kind() != mma16::Codes::int8 || weights.groups > 1)
        return fail(ErrorKind::no_kernel,
                    "W8A8 multiplies codes of 8 bits with a scale per channel or tensor, not ",
                    name(weights.format), "; int8-channel has such");
    if (device->major < 8)
        return fail(ErrorKind::no_kernel, "the device '", device->name, "' is sm_", device->major,
                    device->minor, "; the CUDA kernels need sm_80");
    if (weights.k > Int8Rows::max_k || weights.n > std::numeric_limits<std::uint32_t>::max() / 2)
        return fail(ErrorKind::unsupported, "a matrix of ", weights.n, " x ", weights.k,
                    " is too large for the CUDA kernels");
    Int8Product product;
    product.weights_ = weights;
    return product;
}

Result<RunReport> Int8Product::run(const Int8Rows& x, const View& y, const float* bias, Stream stream) const {
    if (x.k() != weights_.k)
        return fail(ErrorKind::bad_input, "x has rows of ", x.k(), "; this product takes rows of ",
                    weights_.k);
    if (y.rows != x.rows() || y.cols != weights_.n || y.stride < y.cols || !is_number(y.type))
        return fail(ErrorKind::bad_input, "y is (", y.rows, ", ", y.cols, ") of ", name(y.type),
                    " with a stride of ", y.stride, "; this product gives (", x.rows(), ", ", weights_.n,
                    ") in f32, f16 or bf16");
    RunReport report;
    report.kernel = kernel();
    report.weight_bytes = weights_.size_bytes();
    if (x.rows() == 0 || weights_.n == 0) return report;
    decoding::Int8Call call{};
    call.codes = weights_.codes.bytes().data();
    call.scales = weights_.scales.bytes().data();
    call.offsets = weights_.offsets.bytes().data();
    call.x = x.codes_.as<std::int8_t>().data();
    call.x_scales = x.scales_.as<float>().data();
    call.x_sums = x.sums_.as<std::int32_t>().data();
    call.bias = bias;
    call.y = y.data;
    call.x_stride = x.codes_.shape()[1];
    call.y_stride = y.stride;
    call.m = static_cast<std::uint32_t>(x.rows());
    call.n = static_cast<std::uint32_t>(weights_.n);
    call.chunks = static_cast<std::uint32_t>(weights_.chunks);
    call.scale_type = number_of(weights_.scales.type());
    call.y_type = number_of(y.type);
    call.zero = zero_of(weights_.format);
    if (auto done = checked(decoding::launch(call, static_cast<cudaStream_t>(stream)), "starting the kernel");
        !done)
        return Unexpected{std::move(done).error()};
    return report;
}

}  // namespace fewbit::inline v0::cuda
