// Definitions of cuda/stream.hpp.
#include "fewbit/cuda/stream.hpp"

#include <utility>

#include "src/cuda/status.hpp"

namespace fewbit::inline v0::cuda {

Result<OwnStream> OwnStream::create() {
    cudaStream_t stream = nullptr;
    if (auto done =
            checked(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "making a CUDA stream");
        !done)
        return Unexpected{std::move(done).error()};
    OwnStream out;
    out.stream_ = std::shared_ptr<void>(
        stream, [](void* s) { static_cast<void>(cudaStreamDestroy(static_cast<cudaStream_t>(s))); });
    return out;
}

Result<void> synchronize(ExecutionContext context) {
    return checked(cudaStreamSynchronize(stream_of(context)), "waiting for a CUDA stream");
}

namespace {

Result<void> check_place(const Tensor& device, std::size_t at, std::size_t bytes) {
    if (device.space() != MemorySpace::cuda) return fail(ErrorKind::bad_input, "the tensor is on no device");
    if (at > device.size_bytes() || bytes > device.size_bytes() - at)
        return fail(ErrorKind::bad_input, "the tensor on the device has ", device.size_bytes(),
                    " bytes, not ", bytes, " from byte ", at, " on");
    return {};
}

}  // namespace

Result<void> copy_to_device(std::span<const std::byte> host, Tensor& device, std::size_t at,
                            ExecutionContext context) {
    if (auto ok = check_place(device, at, host.size()); !ok) return ok;
    return checked(cudaMemcpyAsync(device.mutable_bytes().data() + at, host.data(), host.size(),
                                   cudaMemcpyHostToDevice, stream_of(context)),
                   "copying to the device");
}

Result<void> copy_to_host(const Tensor& device, std::size_t at, std::span<std::byte> host,
                          ExecutionContext context) {
    if (auto ok = check_place(device, at, host.size()); !ok) return ok;
    return checked(cudaMemcpyAsync(host.data(), device.bytes().data() + at, host.size(),
                                   cudaMemcpyDeviceToHost, stream_of(context)),
                   "copying from the device");
}

Result<Graph> Graph::capture(ExecutionContext context, const std::function<Result<void>()>& enqueue) {
    const auto cuda_stream = stream_of(context);
    if (auto done = checked(cudaStreamBeginCapture(cuda_stream, cudaStreamCaptureModeThreadLocal),
                            "starting to capture a graph");
        !done)
        return Unexpected{std::move(done).error()};
    auto enqueued = enqueue();
    cudaGraph_t captured = nullptr;
    auto ended = checked(cudaStreamEndCapture(cuda_stream, &captured), "capturing a graph");
    const std::shared_ptr<void> owner(captured, [](void* g) {
        if (g != nullptr) static_cast<void>(cudaGraphDestroy(static_cast<cudaGraph_t>(g)));
    });
    if (!enqueued) return Unexpected{std::move(enqueued).error()};
    if (!ended) return Unexpected{std::move(ended).error()};
    cudaGraphExec_t ready = nullptr;
    if (auto done = checked(cudaGraphInstantiate(&ready, captured, 0), "making a graph ready to launch");
        !done)
        return Unexpected{std::move(done).error()};
    Graph out;
    out.graph_ = std::shared_ptr<void>(
        ready, [](void* g) { static_cast<void>(cudaGraphExecDestroy(static_cast<cudaGraphExec_t>(g))); });
    return out;
}

Result<void> Graph::launch(ExecutionContext context) const {
    return checked(cudaGraphLaunch(static_cast<cudaGraphExec_t>(graph_.get()), stream_of(context)),
                   "launching a graph");
}

}  // namespace fewbit::inline v0::cuda
