// Definitions of cuda/matmul.hpp: shapes are checked, x is copied where rows are not whole chunks, the kernel is started.
#include "fewbit/cuda/matmul.hpp"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <span>
#include <utility>

#include "kernels/int_grouped/cuda/batch.hpp"
#include "kernels/int_grouped/cuda/decode.hpp"
#include "kernels/int_grouped/cuda/launch.hpp"
#include "src/cuda/number.hpp"
#include "src/cuda/status.hpp"

namespace fewbit::inline v0::cuda {
namespace {

namespace decoding = kernels::int_grouped_cuda;

constexpr std::size_t part_alignment = 256;

/// Rows of one pass, and which kernel takes them.
std::size_t token_tiles(std::size_t rows) { return rows <= 8 ? 1 : rows <= 16 ? 2 : 8; }
bool is_batch(std::size_t rows) { return rows > 16; }

decoding::KernelKind kind_of(const Mma16Matrix& w, Scalar x, std::size_t rows) {
    return {w.kind(), x == Scalar::f16 ? mma16::Half::f16 : mma16::Half::bf16, zero_of(w.format),
            static_cast<unsigned>(token_tiles(rows))};
}

/// The work of a pass, in as many blocks as are resident.
mma16::Partition partition_of(const Mma16Matrix& w, std::size_t rows, std::size_t resident) {
    const std::size_t tiles = is_batch(rows) ? ceil_div(w.tiles, std::size_t{decoding::tiles_per_block}) : w.tiles;
    const std::size_t chunks = is_batch(rows) ? decoding::chunks_per_unit : decoding::warps_per_block;
    const std::size_t units = std::max<std::size_t>(1, ceil_div(w.chunks, chunks));
    return {static_cast<std::uint32_t>(tiles), static_cast<std::uint32_t>(units),
            static_cast<std::uint32_t>(std::max<std::size_t>(1, std::min(resident, tiles * units)))};
}

std::size_t part_bytes(std::size_t rows) {
    return sizeof(float) * (is_batch(rows)             ? decoding::batch_part_floats<8>
                            : token_tiles(rows) == 1 ? decoding::part_floats<1>
                                                     : decoding::part_floats<2>);
}

struct Room {
    std::size_t parts = 0, x = 0;  ///< where they start, behind the counters
    std::size_t end = 0;
};
Room room_for(const Mma16Matrix& w, std::size_t rows, std::size_t resident) {
    Room room;
    room.parts = round_up(w.tiles * sizeof(std::uint32_t), part_alignment);
    room.x = round_up(room.parts + 2 * partition_of(w, rows, resident).blocks * part_bytes(rows), part_alignment);
    room.end = room.x + rows * w.padded_k() * sizeof(std::uint16_t);
    return room;
}

constexpr std::size_t largest_k = std::size_t{mma16::half_inputs} << 16;  // mma16::Divisor
constexpr std::size_t largest_n = std::numeric_limits<std::uint32_t>::max() / 2;

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

Result<Product> Product::create(const Mma16Matrix& weights, Scalar x, std::size_t max_rows, Fallback fallback) {
    auto device = current_device();
    if (!device) return Unexpected{std::move(device).error()};
    if (x != Scalar::f16 && x != Scalar::bf16)
        return fail(ErrorKind::no_kernel, "no CUDA kernel multiplies x of ", name(x), "; there are f16 and bf16");
    if (weights.format.element == Element::nf4 && x == Scalar::bf16)
        return fail(ErrorKind::no_kernel, "the numbers of nf4 do not survive bf16 (errors of 2^-9); x of f16 keeps them");
    if (weights.codes.space() != MemorySpace::cuda)
        return fail(ErrorKind::bad_input, "the weights are not on the device; cuda::to_device copies them");
    if (device->major < 8)
        return fail(ErrorKind::no_kernel, "the device '", device->name, "' is sm_", device->major, device->minor,
                    "; the CUDA kernels need sm_80");
    if (weights.n > largest_n || weights.padded_k() > largest_k)
        return fail(ErrorKind::unsupported, "a matrix of ", weights.n, " x ", weights.k, " is too large for the CUDA kernels");
    Product product;
    if (max_rows > rows_per_pass) {
        product.fallback_reason_ = text(max_rows, " rows of x take ", ceil_div(max_rows, rows_per_pass),
                                        " passes over the weights; no CUDA kernel takes more than ", rows_per_pass, " at once yet");
        if (fallback == Fallback::refuse)
            return fail(ErrorKind::no_kernel, product.fallback_reason_, " (Fallback::allow lets it)");
    }
    product.weights_ = weights;
    product.x_ = x;
    product.max_rows_ = max_rows;
    for (std::size_t i = 0; i < 3; ++i) {
        int resident = 0;
        if (auto done = checked(decoding::resident_blocks(kind_of(weights, x, i == 0 ? 8 : i == 1 ? 16 : rows_per_pass), resident),
                                "asking how many blocks a multiprocessor holds");
            !done)
            return Unexpected{std::move(done).error()};
        product.resident_blocks_[i] = static_cast<std::size_t>(std::max(1, resident) * device->multiprocessors);
    }
    return product;
}

std::size_t Product::resident(std::size_t rows) const noexcept {
    return resident_blocks_[rows <= 8 ? 0 : rows <= 16 ? 1 : 2];
}

std::size_t Product::workspace_bytes() const noexcept {
    std::size_t most = 0;  // fewer rows may run in more blocks
    for (const std::size_t rows : {std::size_t{8}, std::size_t{16}, rows_per_pass})
        if (rows == 8 || max_rows_ > (rows == 16 ? 8u : 16u))
            most = std::max(most, room_for(weights_, rows, resident(rows)).end);
    return most;
}

Result<RunReport> Product::run(const View& x, const View& y, const float* bias, Workspace& workspace, Stream stream) const {
    if (x.type != x_ || x.cols != weights_.k || x.rows > max_rows_ || x.stride < x.cols)
        return fail(ErrorKind::bad_input, "x is (", x.rows, ", ", x.cols, ") of ", name(x.type), " with a stride of ", x.stride,
                    "; this product takes up to ", max_rows_, " rows of ", weights_.k, " in ", name(x_));
    if (y.rows != x.rows || y.cols != weights_.n || y.stride < y.cols || !is_number(y.type))
        return fail(ErrorKind::bad_input, "y is (", y.rows, ", ", y.cols, ") of ", name(y.type), " with a stride of ", y.stride,
                    "; this product gives (", x.rows, ", ", weights_.n, ") in f32, f16 or bf16");
    if (workspace.size_bytes() < workspace_bytes())
        return fail(ErrorKind::bad_input, "the workspace has ", workspace.size_bytes(), " bytes; this product needs ",
                    workspace_bytes());
    RunReport report;
    report.kernel = kernel();
    report.passes = ceil_div(x.rows, rows_per_pass);
    report.weight_bytes = weights_.size_bytes();
    if (x.rows == 0 || weights_.n == 0) return report;

    const auto cuda_stream = static_cast<cudaStream_t>(stream);
    std::byte* const memory = workspace.memory_.mutable_bytes().data();
    const bool as_it_is = weights_.k == weights_.padded_k() && x.stride % 8 == 0 &&
                          reinterpret_cast<std::uintptr_t>(x.data) % 16 == 0;
    report.copied_x = !as_it_is && weights_.k != 0;
    for (std::size_t first = 0; first < x.rows; first += rows_per_pass) {
        const std::size_t rows = std::min(rows_per_pass, x.rows - first);
        const Room room = room_for(weights_, rows, resident(rows));
        const auto* from = static_cast<const std::uint16_t*>(x.data) + first * x.stride;
        std::size_t stride = x.stride;
        if (report.copied_x) {
            auto* const copy = reinterpret_cast<std::uint16_t*>(memory + room.x);
            stride = weights_.padded_k();
            if (auto done = checked(cudaMemsetAsync(copy, 0, rows * stride * sizeof *copy, cuda_stream), "clearing a copy of x"); !done)
                return Unexpected{std::move(done).error()};
            if (auto done = checked(cudaMemcpy2DAsync(copy, stride * sizeof *copy, from, x.stride * sizeof *from,
                                                      x.cols * sizeof *from, rows, cudaMemcpyDeviceToDevice, cuda_stream),
                                    "copying x");
                !done)
                return Unexpected{std::move(done).error()};
            from = copy;
        }
        decoding::Call call{};
        call.codes = weights_.codes.bytes().data();
        call.scales = weights_.scales.bytes().data();
        call.offsets = weights_.offsets.bytes().data();
        call.x = from;
        call.bias = bias;
        call.y = static_cast<std::byte*>(y.data) + first * y.stride * size_bytes(y.type);
        call.parts = reinterpret_cast<float*>(memory + room.parts);
        call.counters = reinterpret_cast<std::uint32_t*>(memory);
        call.x_stride = stride;
        call.y_stride = y.stride;
        call.m = static_cast<std::uint32_t>(rows);
        call.n = static_cast<std::uint32_t>(weights_.n);
        call.chunks = static_cast<std::uint32_t>(weights_.chunks);
        call.groups = static_cast<std::uint32_t>(weights_.groups);
        call.halves_per_group = mma16::Divisor::of(static_cast<std::uint32_t>(weights_.halves_per_group));
        call.partition = partition_of(weights_, rows, resident(rows));
        call.scale_type = number_of(weights_.scales.type());
        call.y_type = number_of(y.type);
        const std::span<const float> table = weights_.format.codebook();
        for (std::size_t i = 0; i < table.size(); ++i)
            call.table[i] = x_ == Scalar::f16 ? f16_from_float(table[i]) : bf16_from_float(table[i]);
        if (auto done = checked(decoding::launch(kind_of(weights_, x_, rows), call, cuda_stream), "starting the kernel"); !done)
            return Unexpected{std::move(done).error()};
    }
    return report;
}

Result<Workspace> Workspace::create(const Product& product) {
    auto memory = allocate(Scalar::u8, {product.workspace_bytes()});
    if (!memory) return Unexpected{std::move(memory).error()};
    Workspace workspace;
    workspace.memory_ = *std::move(memory);
    return workspace;
}

}  // namespace fewbit::inline v0::cuda
