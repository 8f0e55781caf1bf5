// Definitions of cuda/quantize.hpp: the device finds ranges and codes, the host the grid of each group.
#include "fewbit/cuda/quantize.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <span>
#include <utility>
#include <vector>

#include "fewbit/cuda/stream.hpp"
#include "fewbit/formats/sorted_table.hpp"
#include "fewbit/quantize/grid.hpp"
#include "kernels/encode/cuda/launch.hpp"
#include "src/cuda/number.hpp"
#include "src/cuda/status.hpp"

namespace fewbit::inline v0::cuda {
namespace {

namespace encoding = kernels::encode_cuda;

constexpr std::size_t most_threads = std::size_t{std::numeric_limits<std::int32_t>::max()} * 8;

/// Copies the parameters to the device and makes room for codes there.
Result<void> move_to_device(Mma16Matrix& matrix) {
    for (Tensor* tensor : {&matrix.scales, &matrix.offsets}) {
        auto copy = to_device(*tensor);
        if (!copy) return Unexpected{std::move(copy).error()};
        *tensor = *std::move(copy);
    }
    auto codes = allocate(Scalar::u8, {matrix.tiles, matrix.chunks, mma16::chunk_bytes});
    if (!codes) return Unexpected{std::move(codes).error()};
    matrix.codes = *std::move(codes);
    return {};
}

/// Runs the kernel that makes the codes of `matrix`, and waits for it.
Result<void> order_codes(encoding::OrderCall& call, bool from_weights, Mma16Matrix& matrix,
                         ExecutionContext context) {
    call.codes = matrix.codes.mutable_bytes().data();
    call.n = static_cast<std::uint32_t>(matrix.n), call.k = static_cast<std::uint32_t>(matrix.k);
    call.chunks = static_cast<std::uint32_t>(matrix.chunks);
    call.all = std::uint64_t{matrix.tiles} * matrix.chunks * mma16::lanes;
    if (call.all == 0) return {};
    if (call.all > most_threads || matrix.n > std::numeric_limits<std::uint32_t>::max() / 2)
        return fail(ErrorKind::unsupported, "a matrix of ", matrix.n, " x ", matrix.k,
                    " is too large for the CUDA kernels");
    if (auto done = checked(encoding::launch(matrix.kind(), from_weights, call, stream_of(context)),
                            "starting the ordering of codes");
        !done)
        return done;
    return synchronize(context);
}

/// One grid for each group, or the sentence that says which group has none.
Result<std::vector<GroupGrid>> find_grids(const Format& format, std::span<const float> ranges, std::size_t n,
                                          std::size_t groups) {
    std::vector<GroupGrid> grids(n * groups);
    for (std::size_t i = 0; i < grids.size(); ++i)
        if (std::isnan(ranges[2 * i]))
            return fail(ErrorKind::bad_input, "row ", i / groups, ", group ", i % groups,
                        ": a weight is NaN or infinite");
    if (format.granularity == Granularity::tensor && !grids.empty()) {
        float low = ranges[0], high = ranges[1];
        for (std::size_t i = 1; i < grids.size(); ++i)
            low = std::min(low, ranges[2 * i]), high = std::max(high, ranges[2 * i + 1]);
        const auto grid = fit_grid(format, low, high);
        if (!grid) return Unexpected{grid.error()};
        std::ranges::fill(grids, *grid);
        return grids;
    }
    for (std::size_t i = 0; i < grids.size(); ++i) {
        const auto grid = fit_grid(format, ranges[2 * i], ranges[2 * i + 1]);
        if (!grid)
            return fail(grid.error().kind, "row ", i / groups, ", group ", i % groups, ": ",
                        grid.error().message);
        grids[i] = *grid;
    }
    return grids;
}

void set_levels(const Format& format, encoding::OrderCall& call) {
    const auto table = [&](const codebooks::SortedTable& sorted) {
        call.levels = encoding::Levels::table;
        std::copy_n(sorted.borders.begin(), std::size(call.borders), call.borders);
        std::copy_n(sorted.codes.begin(), std::size(call.sorted), call.sorted);
    };
    switch (format.element) {
        case Element::nf4: return table(codebooks::sorted_nf4);
        case Element::e2m1: return table(codebooks::sorted_e2m1);
        case Element::iq4: return table(codebooks::sorted_iq4);
        case Element::fp8_e4m3: call.levels = encoding::Levels::e4m3; return;
        default: call.levels = encoding::Levels::steps;
    }
    call.min_code = format.min_code(), call.max_code = format.max_code();
}

}  // namespace

Result<Mma16Matrix> quantize(const View& weights, const Format& format, ExecutionContext context) {
    if (auto device = current_device(); !device) return Unexpected{std::move(device).error()};
    if (auto valid = validate(format); !valid) return Unexpected{std::move(valid).error()};
    if (format.is_block() || format.is_float() || format.double_quantized())
        return fail(ErrorKind::unsupported, "weights are not quantized to ", name(format),
                    " on a CUDA device; quantize_rtn and cuda::pack do it");
    if (!is_number(weights.type) || weights.stride < weights.cols)
        return fail(ErrorKind::bad_input, "weights of ", name(weights.type), " with a stride of ",
                    weights.stride, " for rows of ", weights.cols, "; they have to be of f32, f16 or bf16");
    const std::size_t n = weights.rows, k = weights.cols;
    auto frame = fewbit::detail::mma16_frame(format, n, k);
    if (!frame) return frame;
    Mma16Matrix out = *std::move(frame);
    const std::size_t group = format.group_elements(k), groups = format.groups_per_row(k);
    if (n * groups > most_threads)
        return fail(ErrorKind::unsupported, n * groups, " groups are too many for the CUDA kernels");

    auto device_ranges = allocate(Scalar::f32, {n, groups, 2});
    if (!device_ranges) return Unexpected{std::move(device_ranges).error()};
    if (n * groups != 0) {
        const encoding::RangeCall call{weights.data,
                                       device_ranges->as_mutable<float>().data(),
                                       weights.stride,
                                       static_cast<std::uint32_t>(k),
                                       static_cast<std::uint32_t>(group),
                                       static_cast<std::uint32_t>(groups),
                                       n * groups,
                                       number_of(weights.type)};
        auto done = checked(encoding::launch(call, stream_of(context)), "starting the search of ranges");
        if (done) done = synchronize(context);
        if (!done) return Unexpected{std::move(done).error()};
    }
    const auto ranges = to_host(*device_ranges);
    if (!ranges) return Unexpected{ranges.error()};
    const auto grids = find_grids(format, ranges->as<float>(), n, groups);
    if (!grids) return Unexpected{grids.error()};

    auto host_grids = Tensor::allocate(Scalar::u8, {n * groups * sizeof(encoding::Grid)});
    if (!host_grids) return Unexpected{std::move(host_grids).error()};
    auto* const to = reinterpret_cast<encoding::Grid*>(host_grids->mutable_bytes().data());
    for (std::size_t i = 0; i < grids->size(); ++i) {
        const GroupGrid& grid = (*grids)[i];
        to[i] = {grid.scale, grid.offset, grid.zero};
        fewbit::detail::set_mma16_parameters(out, i / groups, i % groups, grid.scale, grid.zero, grid.offset);
    }
    const auto device_grids = to_device(*host_grids);
    if (!device_grids) return Unexpected{device_grids.error()};
    if (auto moved = move_to_device(out); !moved) return Unexpected{std::move(moved).error()};
    encoding::OrderCall call{};
    call.from = weights.data;
    call.stride = weights.stride;
    call.grids = reinterpret_cast<const encoding::Grid*>(device_grids->bytes().data());
    call.group = static_cast<std::uint32_t>(std::max<std::size_t>(1, group));
    call.groups = static_cast<std::uint32_t>(groups);
    call.type = number_of(weights.type);
    set_levels(format, call);
    if (auto done = order_codes(call, true, out, context); !done) return Unexpected{std::move(done).error()};
    return out;
}

Result<Mma16Matrix> pack(const QuantizedMatrix& weights, ExecutionContext context) {
    if (auto device = current_device(); !device) return Unexpected{std::move(device).error()};
    if (weights.format().is_block()) {
        const auto packed = pack_mma16(weights, context);
        if (!packed) return Unexpected{packed.error()};
        return to_device(*packed);
    }
    auto frame = fewbit::detail::mma16_frame(weights.format(), weights.n(), weights.k());
    if (!frame) return frame;
    Mma16Matrix out = *std::move(frame);
    context.parallel_for(
        weights.n(), [&](std::size_t r, std::size_t) { fewbit::detail::pack_mma16_scales(weights, r, out); });
    if (auto moved = move_to_device(out); !moved) return Unexpected{std::move(moved).error()};
    const auto codes = to_device(weights.codes.bytes());
    if (!codes) return Unexpected{codes.error()};
    encoding::OrderCall call{};
    call.from = codes->bytes().data();
    call.stride = weights.codes.row_bytes();
    call.bits = static_cast<std::uint32_t>(weights.format().bits);
    if (auto done = order_codes(call, false, out, context); !done) return Unexpected{std::move(done).error()};
    return out;
}

}  // namespace fewbit::inline v0::cuda
