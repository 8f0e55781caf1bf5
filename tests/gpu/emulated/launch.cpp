// Launches of all CUDA kernels, on the host: the blocks of a launch one after another, from the last to the first and back in turn.
// With it src/cuda and the GPU test run where there is no GPU.
#include <cstdio>
#include <cstdlib>

#include "cuda/host_launch.hpp"
#include "kernels/encode/cuda/launch.hpp"
#include "kernels/int_grouped/cuda/launch.hpp"
#include "kernels/operators/cuda/launch.hpp"

namespace fewbit::inline v0::kernels {
namespace {

using fewbit::testing::HostBlock;

template <class F>
cudaError_t each_block(cudaStream_t stream, std::uint64_t blocks, F&& f) {
    return emulated_enqueue(stream, [blocks, f] {
        thread_local bool backward = false;
        backward = !backward;
        for (std::uint64_t b = 0; b < blocks; ++b) f(static_cast<unsigned>(backward ? blocks - 1 - b : b));
    });
}

}  // namespace

namespace int_grouped_cuda {

// Two blocks on each of three multiprocessors: small products share tiles, too.
cudaError_t resident_blocks(const KernelKind&, int& per_multiprocessor) {
    per_multiprocessor = 2;
    return cudaSuccess;
}
cudaError_t launch(const KernelKind& kind, const Call& call, cudaStream_t stream) {
    const cuda::Way way = kind.token_tiles == 1   ? cuda::Way::decode8
                          : kind.token_tiles == 2 ? cuda::Way::decode16
                          : kind.token_tiles == 8 ? cuda::Way::batch
                                                  : cuda::Way::prompt;
    if (call.m > cuda::most_rows(way, call.m) || (kind.wgmma && emulated_major() != 9) ||
        (kind.w8a8 && kind.codes == Codes::fp8 && !kind.wgmma))
        return cudaErrorInvalidValue;
    return each_block(stream, call.partition.blocks, [=](unsigned b) {
        unsigned hazards = 0;
        if (kind.w8a8)
            hazards = kind.codes == Codes::fp8
                          ? fewbit::testing::run_w8a8_block<Codes::fp8>(call, kind.wgmma, b)
                          : fewbit::testing::run_w8a8_block<Codes::int8>(call, kind.wgmma, b);
        else
            with_kind(kind.codes, kind.type, kind.offset, [&]<Codes Kind, Half Type, Zero Offset>() {
                hazards = kind.wgmma ? fewbit::testing::run_wgmma_block<Kind, Type, Offset>(call, b)
                                     : fewbit::testing::run_block<Kind, Type, Offset>(call, way, b);
            });
        if (hazards == 0) return;
        std::printf("FAILED: a block lacks %u barriers\n", hazards);
        std::exit(1);
    });
}
cudaError_t launch(Codes codes, const RoundCall& call, cudaStream_t stream) {
    return each_block(stream, ceil_div(call.m, std::size_t{warps_per_block}), [=](unsigned b) {
        if (codes == Codes::fp8)
            round_rows<Codes::fp8>(call, HostBlock(b, 1));
        else
            round_rows<Codes::int8>(call, HostBlock(b, 1));
    });
}
cudaError_t has_fp8_mma(bool& has) {
    has = false;  // the emulated devices are of sm_80 and sm_90a
    return cudaSuccess;
}
cudaError_t has_wgmma(bool& has) {
    has = emulated_major() == 9;
    return cudaSuccess;
}
cudaError_t launch(const ArrangeCall& call, cudaStream_t stream) {
    return each_block(stream, ceil_div(call.threads(), std::uint64_t{threads_per_block}),
                      [=](unsigned b) { arrange_rows(call, HostBlock(b, 1)); });
}
cudaError_t launch(const GatherCall& call, std::uint32_t rows, cudaStream_t stream) {
    return each_block(stream, rows, [=](unsigned b) { gather_row(call, HostBlock(b, 1)); });
}

}  // namespace int_grouped_cuda

namespace encode_cuda {

using int_grouped_cuda::threads_per_block;

cudaError_t launch(const RangeCall& call, cudaStream_t stream) {
    return each_block(stream, ceil_div(call.all, std::uint64_t{warps_per_block}),
                      [=](unsigned b) { find_ranges(call, HostBlock(b, 1)); });
}
cudaError_t launch(Codes codes, bool from_weights, const OrderCall& call, cudaStream_t stream) {
    return each_block(stream, ceil_div(call.all, std::uint64_t{threads_per_block}), [=](unsigned b) {
        with_codes(codes, [&]<Codes Kind>() {
            if (from_weights)
                order_codes<Kind, true>(call, HostBlock(b, 1));
            else
                order_codes<Kind, false>(call, HostBlock(b, 1));
        });
    });
}

}  // namespace encode_cuda

namespace operators_cuda {

cudaError_t launch(const PickCall& call, std::uint32_t rows, cudaStream_t stream) {
    return each_block(stream, rows, [=](unsigned b) { pick_row(call, HostBlock(b, 1)); });
}
cudaError_t launch(const NormCall& call, std::uint32_t rows, cudaStream_t stream) {
    return each_block(stream, rows, [=](unsigned b) {
        HostBlock block(b, warps_per_block);
        norm_row(call, block);
    });
}
cudaError_t launch(const GateCall& call, std::uint32_t rows, cudaStream_t stream) {
    return each_block(stream, rows * call.blocks_per_row,
                      [=](unsigned b) { gate_row(call, HostBlock(b, 1)); });
}
cudaError_t launch(const StoreCall& call, cudaStream_t stream) {
    return each_block(stream, ceil_div(call.warps(), std::uint64_t{warps_per_block}),
                      [=](unsigned b) { rotate_and_store(call, HostBlock(b, 1)); });
}
cudaError_t launch(const PositionCall& call, cudaStream_t stream) {
    return each_block(stream, 1,
                      [=](unsigned) { *call.position = call.value + (call.add ? *call.position : 0); });
}
cudaError_t launch(const AttentionCall& call, std::uint32_t rows, cudaStream_t stream) {
    return each_block(stream, std::uint64_t{rows} * call.units() * call.runs,
                      [=](unsigned b) { fewbit::testing::run_attention_block(call, b); });
}

}  // namespace operators_cuda
}  // namespace fewbit::inline v0::kernels
