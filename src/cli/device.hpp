// --device: whether a model runs on the CPU or whole on a CUDA device, and what the other options mean there.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "fewbit/model/cuda_transformer.hpp"
#include "src/cli/command.hpp"

namespace fewbit::cli {

enum class DeviceKind : std::uint8_t { cpu, cuda };

/// --device cpu|cuda; `device` holds the default.
void add_device(CLI::App& command, DeviceKind& device);

/// Options of a model on CUDA. `activations` and `cache`: what --activations and --kv-cache asked for, or null. Throws Failure
/// where CUDA has nothing of the kind: it rounds no activations and stores no few-bit caches but int8.
[[nodiscard]] model::CudaModelOptions cuda_options(const ActivationFormat* activations,
                                                   const model::KvCacheOptions* cache, Fallback fallback);

/// CudaTransformer::create; where it fails because only fallbacks fit, the message says how to allow them.
[[nodiscard]] model::CudaTransformer make_cuda_transformer(const io::ModelFile& model,
                                                           const model::CudaModelOptions& options,
                                                           ExecutionContext context);

/// As kernels_text and kernels_json of a Transformer's kernels.
[[nodiscard]] std::string kernels_text(const std::vector<model::CudaKernelUse>& kernels);
[[nodiscard]] Json kernels_json(const std::vector<model::CudaKernelUse>& kernels);

/// "f16 keys and values on the device: 16 bits per element", and the same keys as cache_json.
[[nodiscard]] std::string cache_text(const model::CudaModelOptions& options, const io::ModelShape& shape);
[[nodiscard]] Json cache_json(const model::CudaModelOptions& options, const io::ModelShape& shape);

}  // namespace fewbit::cli
