// Streams, graphs and copies of a CUDA device, for code that has no CUDA headers of its own.
//
//   auto stream = cuda::OwnStream::create();
//   auto graph = cuda::Graph::capture(stream->get(), [&] { return product->run(x, y, nullptr, *workspace, stream->get()); });
//   graph->launch(stream->get());      // all of it again, for the price of one launch
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <span>

#include "fewbit/cuda/device.hpp"

namespace fewbit::inline v0::cuda {

/// A stream that does not wait for the default one. Copies share it; the last one destroys it.
class OwnStream {
public:
    /// Errors: those of current_device().
    [[nodiscard]] FEWBIT_API static Result<OwnStream> create();
    [[nodiscard]] Stream get() const noexcept { return {stream_.get()}; }

private:
    OwnStream() = default;
    std::shared_ptr<void> stream_;
};

/// Waits until everything on the context's stream is done. Error: what went wrong in any of it.
[[nodiscard]] FEWBIT_API Result<void> synchronize(ExecutionContext context);

/// Enqueue copies of bytes between the host and a tensor on the device, from its byte `at` on. The host's bytes have to live, and those
/// that copy_to_host writes are there, until and after synchronize(). Errors: a tensor that is not on the device or too small.
[[nodiscard]] FEWBIT_API Result<void> copy_to_device(std::span<const std::byte> host, Tensor& device,
                                                     std::size_t at, ExecutionContext context);
[[nodiscard]] FEWBIT_API Result<void> copy_to_host(const Tensor& device, std::size_t at,
                                                   std::span<std::byte> host, ExecutionContext context);

/// What was enqueued on a stream once, to be enqueued again. Everything that it reads and writes has to live as long. Copies share it.
class Graph {
public:
    /// Writes down what `enqueue` enqueues on the context's stream, none of which is run. Errors: those of `enqueue`, and what CUDA cannot
    /// capture (memory that is allocated meanwhile, the default stream).
    [[nodiscard]] FEWBIT_API static Result<Graph> capture(ExecutionContext context,
                                                          const std::function<Result<void>()>& enqueue);
    [[nodiscard]] FEWBIT_API Result<void> launch(ExecutionContext context) const;

private:
    Graph() = default;
    std::shared_ptr<void> graph_;
};

}  // namespace fewbit::inline v0::cuda
