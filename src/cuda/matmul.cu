// Definitions of cuda/matmul.hpp: shapes are checked, x is copied where rows are not whole chunks, the kernel is started.
#include "fewbit/cuda/matmul.hpp"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <span>
#include <utility>

#include "fewbit/cuda/selection.hpp"
#include "kernels/int_grouped/cuda/launch.hpp"
#include "src/cuda/number.hpp"
#include "src/cuda/plan.hpp"
#include "src/cuda/product_checks.hpp"
#include "src/cuda/status.hpp"

namespace fewbit::inline v0::cuda {
namespace {

decoding::KernelKind kind_of(const Mma16Matrix& w, Scalar x, Way way, bool wgmma) {
    return {w.kind(), x == Scalar::f16 ? mma16::Half::f16 : mma16::Half::bf16, zero_of(w.format),
            way == Way::prompt ? decoding::any_rows : static_cast<unsigned>(most_rows(way, 0) / 8),
            wgmma && way == Way::prompt};
}

constexpr std::size_t largest_k = std::size_t{mma16::half_inputs} << 16;  // mma16::Divisor
constexpr std::size_t largest_n = std::numeric_limits<std::uint32_t>::max() / 2;
constexpr std::size_t most_tiles = std::size_t{1} << 31;  // mma16::Partition

}  // namespace

Result<Mma16Matrix> to_device(const Mma16Matrix& packed) {
    Mma16Matrix out = packed;
    for (Tensor* tensor : {&out.codes, &out.scales, &out.offsets}) {
        auto copy = to_device(*tensor);
        if (!copy) return Unexpected{std::move(copy).error()};
        *tensor = *std::move(copy);
    }
    return out;
}

Result<Product> Product::create(const Mma16Matrix& weights, Scalar x, std::size_t max_rows) {
    auto device = current_device();
    if (!device) return Unexpected{std::move(device).error()};
    if (x != Scalar::f16 && x != Scalar::bf16)
        return fail(ErrorKind::no_kernel, "no CUDA kernel multiplies x of ", name(x),
                    "; there are f16 and bf16");
    if (auto selected = select_kernel(weights.format, x, max_rows); !selected)
        return Unexpected{std::move(selected).error()};
    if (weights.codes.space() != MemorySpace::cuda)
        return fail(ErrorKind::bad_input, "the weights are not on the device; cuda::to_device copies them");
    if (device->major < 8)
        return fail(ErrorKind::no_kernel, "the device '", device->name, "' is sm_", device->major,
                    device->minor, "; the CUDA kernels need sm_80");
    if (weights.n > largest_n || weights.padded_k() > largest_k || max_rows > largest_n ||
        ceil_div(weights.tiles, std::size_t{decoding::prompt_block_tiles}) *
                ceil_div(max_rows, std::size_t{decoding::prompt_block_rows}) >=
            most_tiles)
        return fail(ErrorKind::unsupported, max_rows, " rows times a matrix of ", weights.n, " x ", weights.k,
                    " are too large for the CUDA kernels");
    Product product;
    product.weights_ = weights;
    product.x_ = x;
    product.max_rows_ = max_rows;
    if (device->major == 9)
        if (auto asked = checked(decoding::has_wgmma(product.wgmma_), "asking for kernels of sm_90a"); !asked)
            return Unexpected{std::move(asked).error()};
    for (std::size_t i = 0; i < ways; ++i) {
        int resident = 0;
        if (auto done = checked(
                decoding::resident_blocks(kind_of(weights, x, static_cast<Way>(i), product.wgmma_), resident),
                "asking how many blocks a multiprocessor holds");
            !done)
            return Unexpected{std::move(done).error()};
        product.resident_blocks_[i] =
            static_cast<std::size_t>(std::max(1, resident) * device->multiprocessors);
    }
    return product;
}

std::string_view Product::kernel(std::size_t rows) const noexcept {
    const auto selected = select_kernel(weights_.format, x_, rows, wgmma_);
    return selected ? selected->name : std::string_view{};
}

Product::Needs Product::needs() const noexcept {
    const Memory memory = memory_of(weights_.tiles, weights_.chunks, weights_.padded_k(),
                                    std::max<std::size_t>(1, max_rows_), resident_blocks_, wgmma_);
    // x is read in pieces of 16 bytes: its copy comes first.
    return {std::max<std::size_t>(1, memory.counters),
            round_up(memory.x_elements * sizeof(std::uint16_t), 256), memory.part_floats * sizeof(float)};
}

WorkspaceSize Product::workspace_size() const noexcept {
    const Needs n = needs();
    return {n.counters, n.x_bytes + n.part_bytes};
}

/// Rows of padded K, whole chunks and aligned.
Result<void> Product::pad(const View& x, void* to, ExecutionContext context) const {
    const std::size_t bytes = weights_.padded_k() * sizeof(std::uint16_t), element = sizeof(std::uint16_t);
    const auto cuda_stream = stream_of(context);
    if (auto done = checked(cudaMemsetAsync(to, 0, x.rows * bytes, cuda_stream), "clearing a copy of x");
        !done)
        return done;
    return checked(cudaMemcpy2DAsync(to, bytes, x.data, x.stride * element, x.cols * element, x.rows,
                                     cudaMemcpyDeviceToDevice, cuda_stream),
                   "copying x");
}

/// Rows as prompt_wgmma.hpp wants them.
Result<void> Product::arrange(const View& x, void* to, ExecutionContext context) const {
    const decoding::ArrangeCall call{x.data,
                                     to,
                                     x.stride,
                                     static_cast<std::uint32_t>(x.rows),
                                     static_cast<std::uint32_t>(x.cols),
                                     static_cast<std::uint32_t>(weights_.padded_k() / mma16::half_inputs)};
    return checked(decoding::launch(call, stream_of(context)), "arranging x");
}

Result<RunReport> Product::run(const View& x, const View& y, const float* bias, Workspace& workspace,
                               ExecutionContext context) const {
    if (x.type != x_ || x.cols != weights_.k || x.rows > max_rows_ || x.stride < x.cols)
        return fail(ErrorKind::bad_input, "x is (", x.rows, ", ", x.cols, ") of ", name(x.type),
                    " with a stride of ", x.stride, "; this product takes up to ", max_rows_, " rows of ",
                    weights_.k, " in ", name(x_));
    if (auto fits = check_y(y, x.rows, weights_.n); !fits) return Unexpected{std::move(fits).error()};
    const Needs need = needs();
    if (auto fits = check_workspace(workspace.size(), workspace_size()); !fits)
        return Unexpected{std::move(fits).error()};
    RunReport report;
    report.kernel = kernel(x.rows);
    report.weight_bytes = weights_.size_bytes();
    if (x.rows == 0 || weights_.n == 0) return report;

    const auto cuda_stream = stream_of(context);
    std::byte* const memory = workspace.memory_.mutable_bytes().data();
    const bool as_it_is = weights_.k == weights_.padded_k() && x.stride % 8 == 0 &&
                          reinterpret_cast<std::uintptr_t>(x.data) % 16 == 0;
    const Way way = way_of(x.rows);
    const bool arranged = wgmma_ && way == Way::prompt;
    report.copied_x = (arranged || !as_it_is) && weights_.k != 0;
    const auto* from = static_cast<const std::uint16_t*>(x.data);
    std::size_t stride = x.stride;
    if (report.copied_x) {
        auto* const copy = reinterpret_cast<std::uint16_t*>(memory);
        if (auto done = arranged ? arrange(x, copy, context) : pad(x, copy, context); !done)
            return Unexpected{std::move(done).error()};
        from = copy;
        stride = weights_.padded_k();
    }
    const Plan plan =
        plan_of(weights_.tiles, weights_.chunks, x.rows, resident_blocks_[static_cast<std::size_t>(way)]);
    decoding::Call call{};
    call.codes = weights_.codes.bytes().data();
    call.scales = weights_.scales.bytes().data();
    call.offsets = weights_.offsets.bytes().data();
    call.x = from;
    call.bias = bias;
    call.y = y.data;
    call.parts = reinterpret_cast<float*>(memory + need.x_bytes);
    call.counters = reinterpret_cast<std::uint32_t*>(workspace.counters_.mutable_bytes().data());
    call.x_stride = stride;
    call.y_stride = y.stride;
    call.m = static_cast<std::uint32_t>(x.rows);
    call.n = static_cast<std::uint32_t>(weights_.n);
    call.chunks = static_cast<std::uint32_t>(weights_.chunks);
    call.groups = static_cast<std::uint32_t>(weights_.groups);
    call.halves_per_group = mma16::Divisor::of(static_cast<std::uint32_t>(weights_.halves_per_group));
    call.partition = plan.partition;
    call.scale_type = number_of(weights_.scales.type());
    call.y_type = number_of(y.type);
    const std::span<const float> table = weights_.format.codebook();
    for (std::size_t i = 0; weights_.kind() == mma16::Codes::table4 && i < table.size(); ++i)
        call.table[i] = x_ == Scalar::f16 ? f16_from_float(table[i]) : bf16_from_float(table[i]);
    if (auto done = checked(decoding::launch(kind_of(weights_, x_, way, wgmma_), call, cuda_stream),
                            "starting the kernel");
        !done)
        return Unexpected{std::move(done).error()};
    return report;
}

Result<Workspace> Workspace::create(const WorkspaceSize& size) {
    auto counters = allocate(Scalar::i32, {size.counters});
    if (!counters) return Unexpected{std::move(counters).error()};
    auto memory = allocate(Scalar::u8, {size.bytes});
    if (!memory) return Unexpected{std::move(memory).error()};
    Workspace workspace;
    workspace.counters_ = *std::move(counters);
    workspace.memory_ = *std::move(memory);
    return workspace;
}

}  // namespace fewbit::inline v0::cuda
