// `fewbit qat`: trains a float model further while its weights (and inputs) are rounded as they will be
// stored, with the float model as the teacher, and writes the quantized model.
#include <CLI/CLI.hpp>
#include <algorithm>

#include "fewbit/evaluate/documents.hpp"
#include "fewbit/io/atomic_file.hpp"
#include "fewbit/io/model_safetensors.hpp"
#include "fewbit/model/quantized_training.hpp"
#include "src/cli/load.hpp"
#include "src/cli/options.hpp"
#include "src/cli/plan.hpp"
#include "src/cli/training_data.hpp"
#include "src/cli/training_meter.hpp"

namespace fewbit::cli {
namespace {

struct QatOptions {
    std::string model, tokenizer, text, out;
    PlanOptions plan;
    ActivationFormat activations;
    evaluate::DocumentOptions documents;
    std::size_t steps = 1000, warmup = 50, batch_tokens = 4096, corpus_seed = 2;
    double rate = 3e-4, scale_rate = 1e-3, prompt_weight = 0.5;
    Fallback fallback = Fallback::refuse;
};

/// Windows of a text, again and again.
class TextData {
public:
    TextData(std::vector<evaluate::Window> windows) : windows_(std::move(windows)) {}

    [[nodiscard]] std::vector<model::TrainingDocument> next(std::size_t tokens) {
        std::vector<model::TrainingDocument> documents;
        for (std::size_t count = 0; count < tokens; count += documents.back().weights.size()) {
            const auto& window = windows_[next_++ % windows_.size()];
            documents.push_back({window.tokens, std::vector<float>(window.predictions(), 1.0f)});
        }
        return documents;
    }

private:
    std::vector<evaluate::Window> windows_;
    std::size_t next_ = 0;
};

model::TrainingOptions training_options(const QatOptions& options, const io::ModelShape& shape) {
    model::TrainingOptions training;
    training.schedule = {options.rate, 0.02, options.warmup, options.steps};
    training.adamw.weight_decay = 0;
    training.micro_batch = std::max<std::size_t>(2048, shape.context);
    training.fallback = options.fallback;
    return training;
}

Status run(const QatOptions& options, Program& program) {
    expect(io::AtomicFile::create(path_of(options.out)));  // found out now, not after the training
    const io::ModelFile file = load_model(options.model);
    const model::Tokenizer tokenizer = load_tokenizer(options.tokenizer, file, options.model);
    auto trainer =
        expect(model::Trainer::from_model(file, training_options(options, file.shape), program.context()));
    const std::vector<float> teacher(trainer.parameters().begin(), trainer.parameters().end());

    std::map<std::string, Format, std::less<>> formats;
    for (const PlannedLayer& layer : make_plan(file, options.plan))
        if (layer.format) formats[layer.name] = *layer.format;
    const auto format_of = [&](std::string_view layer) {
        const auto found = formats.find(layer);
        // What is kept stays in the type that it has.
        return found == formats.end() ? file.linears.at(std::string(layer)).weights.format() : found->second;
    };
    model::LearnedScaleOptions scales;
    scales.peak = options.rate;
    scales.relative_rate = options.scale_rate;
    auto weights = expect(model::QuantizedWeights::create(trainer.table(), trainer.parameters(), format_of,
                                                          scales, program.context()));
    auto inputs = expect(model::QuantizedInputs::create(options.activations));
    const model::Guidance guidance{.weights = &weights,
                                   .inputs = options.activations == exact_activations() ? nullptr : &inputs,
                                   .teacher = teacher};

    std::function<std::vector<model::TrainingDocument>(std::size_t)> next;
    Text text;
    if (options.text.empty()) {
        if (!is_embedded_tokenizer(tokenizer))
            throw Failure(
                "name the text to train on with --text FILE; without one the synthetic corpus is "
                "used, which is for models with its vocabulary");
        next = [data = TrainingData(tokenizer, options.corpus_seed, options.prompt_weight)](
                   std::size_t tokens) mutable { return data.next(tokens); };
    } else {
        text = load_text(options.text);
        auto cut = options.documents;
        cut.context = std::min(cut.context, file.shape.context);
        next = [data = TextData(expect(evaluate::cut_windows(text.view(), cut, tokenizer)))](
                   std::size_t tokens) mutable { return data.next(tokens); };
    }

    TrainingMeter meter(program, trainer, options.steps);
    write_err(meter.headline());
    {
        Progress progress("training");
        while (trainer.steps_done() < options.steps) {
            const auto documents = next(options.batch_tokens);
            meter.start_step();
            meter.end_step(expect(trainer.step(documents, guidance)));
            progress.update(trainer.steps_done(), options.steps, meter.short_line());
        }
    }
    io::ModelFile result = expect(weights.model_file(trainer.table(), trainer.parameters()));
    result.metadata = file.metadata;
    result.metadata["quantization"] =
        fmt::format("qat, {} steps, activations {}", options.steps, name(options.activations));
    expect(io::write_safetensors_model(path_of(options.out), result));
    const ModelSize size = size_of(result);
    say("wrote {}: {:.3f} bits per weight, divergence from the float model {:.4f} nats in training\n",
        options.out, size.bits_per_weight(), meter.loss());
    Json json{{"model", options.model},
              {"out", options.out},
              {"activations", name(options.activations)},
              {"bits_per_weight", size.bits_per_weight()}};
    json.update(meter.json());
    program.write_json("qat/1", std::move(json));
    return Status::done;
}

}  // namespace

void add_qat(CLI::App& app, Program& program) {
    auto options = std::make_shared<QatOptions>();
    CLI::App* command = program.add(app, "qat", "Quantization-aware training of a small float model",
                                    [=, &program] { return run(*options, program); });
    add_model(*command, options->model);
    add_tokenizer(*command, options->tokenizer);
    command->add_option("-o,--out", options->out, "The quantized model, as safetensors")
        ->required()
        ->type_name("FILE");
    add_plan_options(*command, options->plan, true);
    add_activations(*command, options->activations);
    command->add_option("--text", options->text, "What to train on; default: the synthetic corpus")
        ->type_name("FILE");
    command->add_option("--split", options->documents.split, "What stands between documents of the text")
        ->type_name("MARK");
    add_count(*command, "--context", options->documents.context, "Tokens of a window of the text", 2)
        ->default_str("512");
    add_count(*command, "--steps", options->steps, "Updates", 1)->default_str("1000");
    add_count(*command, "--warmup", options->warmup, "Steps to the highest rate", 1)->default_str("50");
    add_count(*command, "--batch-tokens", options->batch_tokens, "Predictions of a step", 1)
        ->default_str("4096");
    command->add_option("--learning-rate", options->rate, "The highest")
        ->type_name("R")
        ->capture_default_str();
    command
        ->add_option("--scale-rate", options->scale_rate,
                     "What a scale changes per step at most, as a share of its first value")
        ->type_name("R")
        ->capture_default_str();
    command->add_option("--prompt-weight", options->prompt_weight, "As in train")
        ->check(CLI::Range(0.0, 1.0))
        ->type_name("W")
        ->capture_default_str();
    add_count(*command, "--corpus-seed", options->corpus_seed, "Of the documents")->default_str("2");
    add_fallback(*command, options->fallback);
}

}  // namespace fewbit::cli
