// Definitions of device.hpp.
#include "src/cli/device.hpp"

#include <CLI/CLI.hpp>

#include "src/cli/print.hpp"

namespace fewbit::cli {
namespace {

double cache_bits(const model::CudaModelOptions& options, const io::ModelShape& shape) {
    if (options.cache != Scalar::i8) return 16;
    return 8 + 32.0 / static_cast<double>(std::max<std::size_t>(1, shape.head_dim));
}
std::string_view cache_name(const model::CudaModelOptions& options) {
    return options.cache == Scalar::i8 ? "int8-row" : name(options.cache);
}

}  // namespace

void add_device(CLI::App& command, DeviceKind& device) {
    command
        .add_option_function<std::string>(
            "--device",
            [&device](const std::string& name) {
                device = name == "cuda" ? DeviceKind::cuda : DeviceKind::cpu;
            },
            "Where the model runs: cpu, or whole on a cuda device (activations f16 or bf16, --kv-cache f16, "
            "bf16 or "
            "int8-row)")
        ->check(CLI::IsMember({"cpu", "cuda"}))
        ->type_name("NAME")
        ->default_str("cpu");
}

model::CudaModelOptions cuda_options(const ActivationFormat* activations, const model::KvCacheOptions* cache,
                                     Fallback fallback) {
    model::CudaModelOptions options;
    options.fallback = fallback;
    if (activations != nullptr) {
        if (!(*activations == bf16_activations()))
            throw Failure(fmt::format(
                "--activations {}: with --device cuda activations are f16, as without the option, or bf16",
                name(*activations)));
        options.activations = Scalar::bf16;
    }
    options.cache = options.activations;
    if (cache == nullptr) return options;
    for (const Scalar type : {Scalar::f16, Scalar::bf16})
        if (cache->keys == float_format(type)) options.cache = type;
    const bool is_int8 = cache->keys == *model::parse_cache_format("int8-row");
    if (is_int8) options.cache = Scalar::i8;
    const bool known =
        is_int8 || cache->keys == float_format(Scalar::f16) || cache->keys == float_format(Scalar::bf16);
    if (!known || !(cache->keys == cache->values) || cache->rotate_keys)
        throw Failure(
            fmt::format("--kv-cache {},{}{}: with --device cuda keys and values are both f16, bf16 or "
                        "int8-row, not rotated",
                        model::cache_format_name(cache->keys), model::cache_format_name(cache->values),
                        cache->rotate_keys ? " --rotate-keys" : ""));
    return options;
}

model::CudaTransformer make_cuda_transformer(const io::ModelFile& model,
                                             const model::CudaModelOptions& options,
                                             ExecutionContext context) {
    auto made = model::CudaTransformer::create(model, options, context);
    if (!made && made.error().message.find("Fallback::allow") != std::string::npos)
        throw Failure(made.error().message + "\n--fallback allow does so.");
    return expect(std::move(made));
}

std::string kernels_text(const std::vector<model::CudaKernelUse>& kernels) {
    std::string out;
    for (const model::CudaKernelUse& use : kernels) {
        out += fmt::format(
            "kernel  {}: {} weights, {} activations, {}\n", use.kernel, name(use.weights),
            name(use.activations),
            use.layers.size() == 1 ? use.layers.front() : fmt::format("{} layers", use.layers.size()));
        if (use.prompt_kernel != use.kernel) out += fmt::format("        prompts: {}\n", use.prompt_kernel);
        if (!use.note.empty()) out += "        " + wrapped(use.note, 80, 8) + '\n';
        if (!use.fallback_reason.empty())
            out += "        " + wrapped("FALLBACK: " + use.fallback_reason, 80, 8) + '\n';
    }
    return out;
}

Json kernels_json(const std::vector<model::CudaKernelUse>& kernels) {
    Json rows = Json::array();
    for (const model::CudaKernelUse& use : kernels)
        rows.push_back({{"kernel", use.kernel},
                        {"isa", "cuda"},
                        {"format", name(use.weights)},
                        {"activations", name(use.activations)},
                        {"layers", use.layers},
                        {"fallback", !use.fallback_reason.empty()},
                        {"reason", use.fallback_reason},
                        {"note", use.note}});
    return rows;
}

std::string cache_text(const model::CudaModelOptions& options, const io::ModelShape& shape) {
    return fmt::format("{} keys and values: {:.3g} bits per element", cache_name(options),
                       cache_bits(options, shape));
}

Json cache_json(const model::CudaModelOptions& options, const io::ModelShape& shape) {
    return {{"keys", cache_name(options)},
            {"values", cache_name(options)},
            {"rotation", 0},
            {"bits_per_element", cache_bits(options, shape)}};
}

}  // namespace fewbit::cli
