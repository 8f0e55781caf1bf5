// Definitions of device.hpp.
#include "src/cli/device.hpp"

#include <CLI/CLI.hpp>
#include <utility>

#include "fewbit/cuda/device.hpp"
#include "src/cli/print.hpp"

namespace fewbit::cli {
namespace {

model::CudaModelOptions cuda_options(const DeviceOptions& given) {
    model::CudaModelOptions options;
    options.fallback = given.fallback;
    if (given.activations_given->count() > 0) {
        if (!(given.activations == bf16_activations()))
            throw Failure(fmt::format(
                "--activations {}: with --device cuda activations are f16, as without the option, or bf16",
                name(given.activations)));
        options.activations = Scalar::bf16;
    }
    options.cache = options.activations;
    if (given.cache_given->count() + given.rotation_given->count() == 0) return options;
    const model::KvCacheOptions& cache = given.cache;
    for (const Scalar type : {Scalar::f16, Scalar::bf16})
        if (cache.keys == float_format(type)) options.cache = type;
    const bool is_int8 = cache.keys == *model::parse_cache_format("int8-row");
    if (is_int8) options.cache = Scalar::i8;
    const bool known =
        is_int8 || cache.keys == float_format(Scalar::f16) || cache.keys == float_format(Scalar::bf16);
    if (!known || !(cache.keys == cache.values) || cache.rotate_keys)
        throw Failure(
            fmt::format("--kv-cache {},{}{}: with --device cuda keys and values are both f16, bf16 or "
                        "int8-row, not rotated",
                        model::cache_format_name(cache.keys), model::cache_format_name(cache.values),
                        cache.rotate_keys ? " --rotate-keys" : ""));
    return options;
}

RunningModel on_cpu(const io::ModelFile& file, const DeviceOptions& options,
                    std::map<std::string, StaticRange, std::less<>> ranges, ExecutionContext context) {
    model::ModelOptions how{options.activations, options.fallback};
    how.static_ranges = std::move(ranges);
    how.cache = options.cache;
    RunningModel out;
    out.cpu = std::make_unique<model::Transformer>(make_transformer(file, how, context));
    out.bytes_per_token = out.cpu->bytes_per_token();
    out.activations = name(options.activations);
    out.cache_text = cache_text(options.cache, file.shape), out.cache = cache_json(options.cache, file.shape);
    out.kernels = kernel_rows(*out.cpu);
    return out;
}

RunningModel on_cuda(const io::ModelFile& file, const DeviceOptions& options, ExecutionContext context) {
    const model::CudaModelOptions how = cuda_options(options);
    auto made = model::CudaTransformer::create(file, how, context);
    if (!made && made.error().kind == ErrorKind::fallback_refused)
        throw Failure(made.error().message + "\n--fallback allow does so.");
    RunningModel out;
    out.cuda = expect(std::move(made));
    out.bytes_per_token = out.cuda->bytes_per_token();
    out.activations = name(how.activations);
    const bool int8 = how.cache == Scalar::i8;
    const std::string cache{int8 ? "int8-row" : name(how.cache)};
    const double bits =
        int8 ? 8 + 32.0 / static_cast<double>(std::max<std::size_t>(1, file.shape.head_dim)) : 16;
    out.cache_text = fmt::format("{} keys and values: {:.3g} bits per element", cache, bits);
    out.cache = {{"keys", cache}, {"values", cache}, {"rotation", 0}, {"bits_per_element", bits}};
    for (const model::CudaKernelUse& use : out.cuda->kernels())
        out.kernels.push_back({std::string(use.kernel),
                               use.prompt_kernel == use.kernel ? "" : std::string(use.prompt_kernel), "cuda",
                               name(use.weights), std::string(name(use.activations)), use.note,
                               use.fallback_reason, use.layers});
    return out;
}

}  // namespace

void add_device_options(CLI::App& command, DeviceOptions& options, StaticActivations ranges) {
    command
        .add_option_function<std::string>(
            "--device",
            [&options](const std::string& name) {
                options.device = name == "cuda" ? DeviceKind::cuda : DeviceKind::cpu;
            },
            "Where the model runs: cpu, or whole on a cuda device (activations f16 or bf16, --kv-cache f16, "
            "bf16 or int8-row)")
        ->check(CLI::IsMember({"cpu", "cuda"}))
        ->type_name("NAME")
        ->default_str("cpu");
    options.activations_given = add_activations(command, options.activations, ranges);
    add_cache_options(command, options.cache);
    options.cache_given = command.get_option("--kv-cache");
    options.rotation_given = command.get_option("--rotate-keys");
    add_fallback(command, options.fallback);
}

void check_device(const DeviceOptions& options, const io::ModelShape& shape) {
    if (options.device == DeviceKind::cpu) return check_cache(options.cache, shape);
    static_cast<void>(cuda_options(options));
    static_cast<void>(expect(cuda::current_device()));
}

std::string name(DeviceKind device) { return device == DeviceKind::cpu ? "cpu" : "cuda"; }

RunningModel start_model(const io::ModelFile& file, const DeviceOptions& options,
                         std::map<std::string, StaticRange, std::less<>> ranges, ExecutionContext context) {
    return options.device == DeviceKind::cpu ? on_cpu(file, options, std::move(ranges), context)
                                             : on_cuda(file, options, context);
}

}  // namespace fewbit::cli
