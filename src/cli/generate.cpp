// `fewbit generate`: text on stdout as it comes; speed and kernels on stderr.
#include <CLI/CLI.hpp>
#include <memory>

#include "fewbit/cuda/device.hpp"
#include "fewbit/model/generate.hpp"

#include "src/cli/cache_options.hpp"
#include "src/cli/device.hpp"
#include "src/cli/load.hpp"
#include "src/cli/options.hpp"
#include "src/cli/quantize_model.hpp"

namespace fewbit::cli {
namespace {

struct GenerateOptions {
    std::string model, tokenizer, prompt;
    PlanOptions plan;
    CalibrationText calibration;
    model::GenerateOptions generate;
    ActivationFormat activations = int8_group_activations(32);
    model::KvCacheOptions cache;
    Fallback fallback = Fallback::refuse;
    std::size_t seed = 0;
    DeviceKind device = DeviceKind::cpu;
    const CLI::Option *activations_given = nullptr, *cache_given = nullptr, *rotation_given = nullptr;
};

/// A model with one sequence on it, and what is to be said of them.
struct Running {
    std::unique_ptr<model::Transformer> transformer;  // what the sequence runs on the CPU
    std::unique_ptr<model::Sequence> sequence;
    std::size_t bytes_per_token = 0;
    std::string activations, cache_text, kernels_text;
    Json cache, kernels;
};

Running on_cpu(const GenerateOptions& options, const io::ModelFile& file, std::size_t positions,
               ExecutionContext context) {
    model::ModelOptions how{options.activations, options.fallback};
    how.cache = options.cache;
    Running out;
    out.transformer = std::make_unique<model::Transformer>(make_transformer(file, how, context));
    out.sequence = std::make_unique<model::TransformerSequence>(
        expect(model::TransformerSequence::create(*out.transformer, positions)));
    out.bytes_per_token = out.transformer->bytes_per_token();
    out.activations = name(options.activations);
    out.cache_text = cache_text(options.cache, file.shape), out.cache = cache_json(options.cache, file.shape);
    out.kernels_text = kernels_text(out.transformer->kernels()),
    out.kernels = kernels_json(out.transformer->kernels());
    return out;
}

model::CudaModelOptions options_on_cuda(const GenerateOptions& options) {
    const bool cache = options.cache_given->count() + options.rotation_given->count() > 0;
    return cuda_options(options.activations_given->count() > 0 ? &options.activations : nullptr,
                        cache ? &options.cache : nullptr, options.fallback);
}

/// Throws Failure before anything long begins: no device, options that mean nothing there.
void check_cuda(const GenerateOptions& options) {
    static_cast<void>(options_on_cuda(options));
    static_cast<void>(expect(cuda::current_device()));
}

Running on_cuda(const GenerateOptions& options, const io::ModelFile& file, std::size_t positions,
                ExecutionContext context) {
    const model::CudaModelOptions how = options_on_cuda(options);
    const model::CudaTransformer transformer = make_cuda_transformer(file, how, context);
    Running out;
    out.sequence =
        std::make_unique<model::CudaSequence>(expect(model::CudaSequence::create(transformer, positions)));
    out.bytes_per_token = transformer.bytes_per_token();
    out.activations = name(how.activations);
    out.cache_text = cache_text(how, file.shape), out.cache = cache_json(how, file.shape);
    out.kernels_text = kernels_text(transformer.kernels()), out.kernels = kernels_json(transformer.kernels());
    return out;
}

std::string_view name_of(model::StopReason reason) {
    switch (reason) {
        case model::StopReason::end_of_text: return "end_of_text";
        case model::StopReason::max_tokens: return "max_tokens";
        case model::StopReason::context_full: return "context_full";
        case model::StopReason::asked: return "asked";
    }
    return "?";
}

double rate(std::size_t tokens, double seconds) {
    return seconds > 0 ? static_cast<double>(tokens) / seconds : 0;
}

Status run(const GenerateOptions& given, Program& program) {
    GenerateOptions options = given;
    options.generate.sampling.seed = options.seed;
    io::ModelFile file = load_model(options.model);
    if (options.device == DeviceKind::cpu)
        check_cache(options.cache, file.shape);
    else
        check_cuda(options);
    const model::Tokenizer tokenizer = load_tokenizer(options.tokenizer, file, options.model);
    make_rotations(file, options.plan, options.model, program.context());
    if (options.plan.any())
        file = quantize_model(
                   file, make_plan(file, options.plan), options.plan.method, options.calibration,
                   [&] { return tokenizer; }, program.context())
                   .file;
    const std::size_t positions =
        model::positions_of(file.shape, tokenizer, options.prompt, options.generate);
    const Running running = options.device == DeviceKind::cpu
                                ? on_cpu(options, file, positions, program.context())
                                : on_cuda(options, file, positions, program.context());

    write_out(options.prompt);
    flush_out();
    bool closed = false;  // nobody listens: stop, but not by an exception through the library
    const auto generation = model::generate(*running.sequence, tokenizer, options.prompt, options.generate,
                                            program.context(), [&closed](std::string_view piece) {
                                                try {
                                                    write_out(piece);
                                                    flush_out();
                                                } catch (const BrokenPipe&) {
                                                    closed = true;
                                                } catch (const Failure&) {
                                                    closed = true;
                                                }
                                                return !closed;
                                            });
    if (closed) flush_out();  // throws what the callback could not
    if (!generation) {
        write_out("\n");
        throw Failure(generation.error().message);
    }
    write_out("\n");
    flush_out();
    const double prompt_rate = rate(generation->prompt_tokens, generation->prompt_seconds);
    const double generation_rate = rate(generation->evaluated_tokens, generation->generation_seconds);
    note(
        "\nprompt      {} tokens, {:.1f} per second\ngeneration  {} tokens, {:.1f} per second, {} thread{}, "
        "stopped: {}\n",
        generation->prompt_tokens, prompt_rate, generation->tokens.size(), generation_rate,
        program.executor().workers(), program.executor().workers() == 1 ? "" : "s",
        name_of(generation->stop));
    note("kv cache    {}\n", wrapped(running.cache_text, 80, 12));
    write_err(running.kernels_text);
    program.write_json("generate/1", {{"model", options.model},
                                      {"prompt", options.prompt},
                                      {"text", generation->text},
                                      {"tokens", generation->tokens},
                                      {"stop", name_of(generation->stop)},
                                      {"temperature", options.generate.sampling.temperature},
                                      {"top_p", options.generate.sampling.top_p},
                                      {"seed", options.generate.sampling.seed},
                                      {"device", options.device == DeviceKind::cpu ? "cpu" : "cuda"},
                                      {"threads", program.executor().workers()},
                                      {"prompt_tokens", generation->prompt_tokens},
                                      {"prompt_seconds", generation->prompt_seconds},
                                      {"prompt_tokens_per_second", prompt_rate},
                                      {"generated_tokens", generation->tokens.size()},
                                      {"generation_seconds", generation->generation_seconds},
                                      {"generation_tokens_per_second", generation_rate},
                                      {"bytes_per_token", running.bytes_per_token},
                                      {"activations", running.activations},
                                      {"kv_cache", running.cache},
                                      {"kernels", running.kernels}});
    return Status::done;
}

}  // namespace

void add_generate(CLI::App& app, Program& program) {
    auto options = std::make_shared<GenerateOptions>();
    CLI::App* command =
        program.add(app, "generate", "Continue a prompt", [=, &program] { return run(*options, program); });
    add_model(*command, options->model);
    add_tokenizer(*command, options->tokenizer);
    command->add_option("--prompt", options->prompt, "The text to continue")->required()->type_name("TEXT");
    add_count(*command, "--tokens", options->generate.max_tokens, "Generate at most so many")
        ->default_str("256");
    command
        ->add_option("--temperature", options->generate.sampling.temperature,
                     "0: always the likeliest token; 1: as the model says")
        ->type_name("T")
        ->capture_default_str();
    command
        ->add_option("--top-p", options->generate.sampling.top_p,
                     "Draw among the likeliest tokens that together reach P")
        ->type_name("P")
        ->capture_default_str();
    add_count(*command, "--seed", options->seed, "The same seed draws the same text")->default_str("0");
    add_plan_options(*command, options->plan, false);
    add_rotate_option(*command, options->plan);
    add_calibration_text(*command, options->calibration);
    add_device(*command, options->device);
    options->activations_given = add_activations(*command, options->activations);
    add_cache_options(*command, options->cache);
    options->cache_given = command->get_option("--kv-cache");
    options->rotation_given = command->get_option("--rotate-keys");
    add_fallback(*command, options->fallback);
}

}  // namespace fewbit::cli
