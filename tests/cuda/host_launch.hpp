// One block of threads of the kernel that so many rows of x ask for, on the host.
#pragma once

#include <algorithm>
#include <cstddef>

#include "cuda/host_warp.hpp"
#include "src/cuda/plan.hpp"

namespace fewbit::testing {

/// How often the block would have needed a barrier that is not there.
template <mma16::Codes Kind, Half Type, decoding::Zero Offset>
unsigned run_block(const decoding::Call& call, cuda::Way way, unsigned index) {
    const auto run = [&](std::size_t words, auto&& kernel) {
        HostBlock block(index, words);
        kernel(block);
        return block.hazards();
    };
    switch (way) {
        case cuda::Way::decode8:
            return run(decoding::shared_words<Kind, 1>,
                       [&](HostBlock& b) { decoding::decode<Kind, Type, Offset, 1>(call, b); });
        case cuda::Way::decode16:
            return run(decoding::shared_words<Kind, 2>,
                       [&](HostBlock& b) { decoding::decode<Kind, Type, Offset, 2>(call, b); });
        case cuda::Way::batch:
            return run(decoding::batch_shared_words<Kind>,
                       [&](HostBlock& b) { decoding::batch<Kind, Type, Offset, 8>(call, b); });
        default:
            return run(decoding::MmaMemory<Kind>::words, [&](HostBlock& b) {
                decoding::prompt<decoding::MmaWay<Kind, Type, Offset>>(call, b);
            });
    }
}

/// A block of prompt_wgmma.hpp; call.x is arranged.
template <mma16::Codes Kind, Half Type, decoding::Zero Offset>
unsigned run_wgmma_block(const decoding::Call& call, unsigned index) {
    using Way = decoding::WgmmaWay<Kind, Type, Offset>;
    HostBlock block(index, Way::Memory::words);
    block.wgmma_reads_copies();
    decoding::prompt<Way>(call, block);
    return block.hazards();
}

/// A block of W8A8.
template <mma16::Codes Kind>
unsigned run_w8a8_block(const decoding::Call& call, bool wgmma, unsigned index) {
    HostBlock block(
        index, std::max(decoding::W8A8Mma<Kind>::Memory::words, decoding::W8A8Wgmma<Kind>::Memory::words));
    if (wgmma) {
        block.wgmma_reads_copies();
        decoding::prompt<decoding::W8A8Wgmma<Kind>>(call, block);
    } else {
        decoding::prompt<decoding::W8A8Mma<Kind>>(call, block);
    }
    return block.hazards();
}

/// A block of attention, with as many columns for a lane as the device takes.
template <kernels::operators_cuda::CacheType Cache>
void run_attention_block(const kernels::operators_cuda::AttentionCall& call, unsigned index) {
    namespace operators = kernels::operators_cuda;
    HostBlock block(index, operators::attention_floats(call.head_dim));
    if (call.head_dim <= 32) return operators::attend<Cache, 1>(call, block);
    if (call.head_dim <= 64) return operators::attend<Cache, 2>(call, block);
    if (call.head_dim <= 128) return operators::attend<Cache, 4>(call, block);
    operators::attend<Cache, 8>(call, block);
}
inline void run_attention_block(const kernels::operators_cuda::AttentionCall& call, unsigned index) {
    using kernels::operators_cuda::CacheType;
    switch (call.cache) {
        case CacheType::f16: return run_attention_block<CacheType::f16>(call, index);
        case CacheType::bf16: return run_attention_block<CacheType::bf16>(call, index);
        default: return run_attention_block<CacheType::int8>(call, index);
    }
}

}  // namespace fewbit::testing
