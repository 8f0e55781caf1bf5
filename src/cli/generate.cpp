// `fewbit generate`: text on stdout as it comes; speed and kernels on stderr.
#include <CLI/CLI.hpp>
#include <memory>

#include "fewbit/model/generate.hpp"

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
    DeviceOptions how{.activations = int8_group_activations(32)};
    std::size_t seed = 0;
};

std::unique_ptr<model::Sequence> sequence_of(const RunningModel& running, std::size_t positions) {
    if (running.cuda)
        return std::make_unique<model::CudaSequence>(
            expect(model::CudaSequence::create(*running.cuda, positions)));
    return std::make_unique<model::TransformerSequence>(
        expect(model::TransformerSequence::create(*running.cpu, positions)));
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
    check_device(options.how, file.shape);
    const model::Tokenizer tokenizer = load_tokenizer(options.tokenizer, file, options.model);
    make_rotations(file, options.plan, options.model, program.context());
    if (options.plan.any())
        file = quantize_model(
                   file, make_plan(file, options.plan), options.plan.method, options.calibration,
                   [&] { return tokenizer; }, program.context())
                   .file;
    const std::size_t positions =
        model::positions_of(file.shape, tokenizer, options.prompt, options.generate);
    const RunningModel running = start_model(file, options.how, {}, program.context());
    const auto sequence = sequence_of(running, positions);

    write_out(options.prompt);
    flush_out();
    bool closed = false;  // nobody listens: stop, but not by an exception through the library
    const auto generation = model::generate(*sequence, tokenizer, options.prompt, options.generate,
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
    write_err(kernels_text(running.kernels));
    program.write_json("generate/1", {{"model", options.model},
                                      {"prompt", options.prompt},
                                      {"text", generation->text},
                                      {"tokens", generation->tokens},
                                      {"stop", name_of(generation->stop)},
                                      {"temperature", options.generate.sampling.temperature},
                                      {"top_p", options.generate.sampling.top_p},
                                      {"seed", options.generate.sampling.seed},
                                      {"device", name(options.how.device)},
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
                                      {"kernels", kernels_json(running.kernels)}});
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
    add_device_options(*command, options->how);
}

}  // namespace fewbit::cli
