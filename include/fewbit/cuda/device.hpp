// The CUDA device that the calling thread has chosen (cudaSetDevice): what it is, memory on it, copies. Every function
// is there in every build of fewbit::fewbit; without CUDA (FEWBIT_CUDA) or without a device each says so as an error.
#pragma once

#include <cstddef>
#include <string>

#include "fewbit/core/config.hpp"
#include "fewbit/core/executor.hpp"
#include "fewbit/core/result.hpp"
#include "fewbit/core/tensor.hpp"

namespace fewbit::inline v0::cuda {

/// Where calls enqueue: each takes an ExecutionContext, which a stream is, too.
using Stream = DeviceStream;

struct Device {
    std::string name;
    int index = 0;
    int major = 0, minor = 0;  ///< compute capability
    int multiprocessors = 0;
    std::size_t memory_bytes = 0;
    std::size_t l2_bytes = 0;
};

/// Whether this build has CUDA kernels.
[[nodiscard]] FEWBIT_API bool is_built() noexcept;

/// Error: no CUDA in this build; no device, or a driver that is too old, in CUDA's words.
[[nodiscard]] FEWBIT_API Result<Device> current_device();

/// Memory on the device, zeroed. Errors: those of current_device(), out of memory.
[[nodiscard]] FEWBIT_API Result<Tensor> allocate(Scalar type, Tensor::Shape shape);
/// Copies; they return when the bytes are there.
[[nodiscard]] FEWBIT_API Result<Tensor> to_device(const Tensor& host);
[[nodiscard]] FEWBIT_API Result<Tensor> to_host(const Tensor& device);

}  // namespace fewbit::inline v0::cuda
