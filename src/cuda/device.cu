// Definitions of cuda/device.hpp.
#include "fewbit/cuda/device.hpp"

#include <memory>
#include <utility>

#include "fewbit/core/checked.hpp"
#include "src/cuda/status.hpp"

namespace fewbit::inline v0::cuda {

namespace {

/// cudaMemset and cudaMemcpy return before the device is done (CUDA runtime API, "API synchronization behavior"), and other streams
/// need not wait for the default one.
Result<void> wait_for_default_stream() {
    return checked(cudaStreamSynchronize(nullptr), "waiting for the device");
}

}  // namespace

bool is_built() noexcept { return true; }

Result<Device> current_device() {
    Device device;
    if (auto done = checked(cudaGetDevice(&device.index), "no CUDA device"); !done)
        return Unexpected{std::move(done).error()};
    cudaDeviceProp properties{};
    if (auto done = checked(cudaGetDeviceProperties(&properties, device.index), "asking the CUDA device");
        !done)
        return Unexpected{std::move(done).error()};
    device.name = properties.name;
    device.major = properties.major, device.minor = properties.minor;
    device.multiprocessors = properties.multiProcessorCount;
    device.memory_bytes = properties.totalGlobalMem;
    device.l2_bytes = static_cast<std::size_t>(properties.l2CacheSize);
    return device;
}

Result<Tensor> allocate(Scalar type, Tensor::Shape shape) {
    const auto bytes = checked_product(shape, size_bytes(type));
    if (!bytes)
        return fail(ErrorKind::bad_input, "a tensor of shape ", shape_text(shape),
                    " is larger than memory can address");
    void* memory = nullptr;
    const std::size_t at_least = *bytes == 0 ? 1 : *bytes;
    if (auto done =
            checked(cudaMalloc(&memory, at_least), text("no memory on the device for ", *bytes, " bytes"));
        !done)
        return Unexpected{std::move(done).error()};
    std::shared_ptr<void> owner(memory, [](void* p) { static_cast<void>(cudaFree(p)); });
    if (auto done = checked(cudaMemset(memory, 0, at_least), "clearing memory on the device"); !done)
        return Unexpected{std::move(done).error()};
    if (auto done = wait_for_default_stream(); !done) return Unexpected{std::move(done).error()};
    return Tensor::adopt(type, std::move(shape), static_cast<std::byte*>(memory), std::move(owner),
                         MemorySpace::cuda);
}

Result<Tensor> to_device(const Tensor& host) {
    if (host.space() != MemorySpace::host)
        return fail(ErrorKind::bad_input, "the tensor is on a device already");
    auto out = allocate(host.type(), host.shape());
    if (!out) return out;
    if (auto done = checked(cudaMemcpy(out->mutable_bytes().data(), host.bytes().data(), host.size_bytes(),
                                       cudaMemcpyHostToDevice),
                            "copying to the device");
        !done)
        return Unexpected{std::move(done).error()};
    if (auto done = wait_for_default_stream(); !done) return Unexpected{std::move(done).error()};
    return out;
}

Result<Tensor> to_host(const Tensor& device) {
    if (device.space() != MemorySpace::cuda) return fail(ErrorKind::bad_input, "the tensor is on no device");
    auto out = Tensor::allocate(device.type(), device.shape());
    if (!out) return out;
    if (auto done = checked(cudaMemcpy(out->mutable_bytes().data(), device.bytes().data(),
                                       device.size_bytes(), cudaMemcpyDeviceToHost),
                            "copying from the device");
        !done)
        return Unexpected{std::move(done).error()};
    return out;
}

}  // namespace fewbit::inline v0::cuda
