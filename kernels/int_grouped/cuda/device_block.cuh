// A block of threads of the device, seen from one of its threads; tests/cuda/host_warp.hpp has its twin.
#pragma once

#include "kernels/int_grouped/cuda/device_math.cuh"

namespace fewbit::inline v0::kernels::int_grouped_cuda {

template <class WarpOfBlock>
class BasicDeviceBlock {
public:
    using Warp = WarpOfBlock;
    /// What a warp keeps between barriers.
    template <class T>
    struct PerWarp {
        T value;
    };

    __device__ BasicDeviceBlock(std::uint32_t* words, unsigned* last) : words_(words), last_(last) {}

    /// Read anew each time: what follows from it need not wait in registers.
    __device__ unsigned index() const {
        unsigned out;
        asm volatile("mov.u32 %0, %%ctaid.x;" : "=r"(out));
        return out;
    }
    __device__ std::uint32_t* words() const { return words_; }
    template <class T = float>
    __device__ T* shared() const {
        return reinterpret_cast<T*>(words_);
    }
    template <class F>
    __device__ void each_warp(F&& f) const {
        const unsigned t = thread();
        f(Warp(t % mma16::lanes), t / mma16::lanes);
    }
    /// f(warp, its number, what the warp keeps), once for each.
    template <class T, class F>
    __device__ void each_warp(PerWarp<T>& kept, F&& f) const {
        const unsigned t = thread();
        f(Warp(t % mma16::lanes), t / mma16::lanes, kept.value);
    }
    template <class F>
    __device__ void each_thread(F&& f) const {
        f(thread());
    }
    /// Starts a copy of 16 bytes to shared memory at `word`, of zeros where `there` is false; then `base + offset` is not read.
    __device__ void copy16(unsigned word, const void* base, std::uint64_t offset, bool there) const {
        const auto to = static_cast<std::uint32_t>(__cvta_generic_to_shared(words_ + word));
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to),
                     "l"(static_cast<const unsigned char*>(base) + offset), "r"(there ? 16 : 0)
                     : "memory");
    }
    /// The copies that the thread has started since the last call form a group.
    __device__ void commit() const { asm volatile("cp.async.commit_group;" ::: "memory"); }
    /// Until all of its groups but the last `Pending` are there; for other threads, behind the next barrier.
    template <unsigned Pending>
    __device__ void wait() const {
        asm volatile("cp.async.wait_group %0;" ::"n"(Pending) : "memory");
    }
    __device__ void barrier() const { __syncthreads(); }
    /// Whether `others` blocks have been here before; the counter is 0 again after the last. What they wrote before is
    /// visible to all threads then.
    __device__ bool comes_last(std::uint32_t* counter, std::uint32_t others) const {
        __threadfence();
        __syncthreads();
        if (thread() == 0) {
            *last_ = atomicAdd(counter, 1u) == others;
            if (*last_ != 0) *counter = 0;
        }
        __syncthreads();
        const bool last = *last_ != 0;
        if (last) __threadfence();
        return last;
    }
    template <class T>
    __device__ T read_part(const T* part) const {
        return __ldcg(part);
    }
    __device__ void store(const Call& call, unsigned token, unsigned channel, float sum) const {
        if (token >= call.m || channel >= call.n) return;
        if (call.bias != nullptr) sum += __ldg(call.bias + channel);
        DecodeMath::store_number(call.y, call.y_type, token * call.y_stride + channel, sum);
    }

private:
    __device__ static unsigned thread() {
        unsigned out;
        asm volatile("mov.u32 %0, %%tid.x;" : "=r"(out));
        return out;
    }

    std::uint32_t* words_;
    unsigned* last_;
};

using DeviceBlock = BasicDeviceBlock<DecodeWarp>;

}  // namespace fewbit::inline v0::kernels::int_grouped_cuda
