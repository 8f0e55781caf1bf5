// --device: whether a model runs on the CPU or whole on a CUDA device, and what the other options mean there.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "fewbit/model/cuda_transformer.hpp"
#include "src/cli/cache_options.hpp"
#include "src/cli/command.hpp"
#include "src/cli/load.hpp"
#include "src/cli/options.hpp"

namespace fewbit::cli {

enum class DeviceKind : std::uint8_t { cpu, cuda };

/// How a model runs: --device cpu|cuda, --activations, --kv-cache, --rotate-keys, --fallback. What is not given means something else
/// on CUDA, which rounds no activations and stores no few-bit caches but int8.
struct DeviceOptions {
    DeviceKind device = DeviceKind::cpu;
    ActivationFormat activations{};
    model::KvCacheOptions cache{};
    Fallback fallback = Fallback::refuse;
    const CLI::Option *activations_given = nullptr, *cache_given = nullptr, *rotation_given = nullptr;
};
/// `options` holds the defaults.
void add_device_options(CLI::App& command, DeviceOptions& options,
                        StaticActivations ranges = StaticActivations::refused);
/// Throws Failure before anything long begins: caches that do not fit the model; no device, or options that mean nothing there.
void check_device(const DeviceOptions& options, const io::ModelShape& shape);
[[nodiscard]] std::string name(DeviceKind device);

/// A model where it runs: one of the two.
struct RunningModel {
    std::unique_ptr<model::Transformer> cpu;
    std::optional<model::CudaTransformer> cuda;
    std::size_t bytes_per_token = 0;
    std::string activations;  ///< their name
    std::string cache_text;
    Json cache;
    std::vector<KernelRow> kernels;
};
/// `ranges`: of static activations. Throws Failure; where only fallbacks fit, the message says how to allow them.
[[nodiscard]] RunningModel start_model(const io::ModelFile& file, const DeviceOptions& options,
                                       std::map<std::string, StaticRange, std::less<>> ranges,
                                       ExecutionContext context);

}  // namespace fewbit::cli
