// `fewbit train`: trains the small model on the synthetic corpus, from nothing or from a checkpoint.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <csignal>
#include <system_error>

#include "fewbit/evaluate/behaviours.hpp"
#include "fewbit/evaluate/embedded_vocabulary.hpp"
#include "fewbit/io/atomic_file.hpp"
#include "fewbit/io/model_safetensors.hpp"
#include "fewbit/model/trainer.hpp"
#include "src/cli/load.hpp"
#include "src/cli/options.hpp"
#include "src/cli/training_data.hpp"
#include "src/cli/training_meter.hpp"

namespace fewbit::cli {
namespace {

struct TrainOptions {
    std::string out, checkpoint;
    std::size_t dim = 256, hidden = 256, layers = 4, heads = 8, kv_heads = 4, context = 512;
    std::size_t steps = 4500, warmup = 300, batch_tokens = 4096, seed = 1, corpus_seed = 1, minutes = 0;
    std::size_t items = 200, report_minutes = 5;
    double rate = 2e-3, prompt_weight = 0.1, gain_spread = 0.6;
    Fallback fallback = Fallback::refuse;
};

io::ModelShape shape_of(const TrainOptions& options) {
    if (options.heads == 0 || options.dim % options.heads != 0)
        throw Failure(fmt::format("--dim {} is no multiple of --heads {}", options.dim, options.heads));
    if (options.kv_heads == 0 || options.heads % options.kv_heads != 0)
        throw Failure(
            fmt::format("--heads {} is no multiple of --kv-heads {}", options.heads, options.kv_heads));
    if (options.dim / options.heads % 2 != 0)
        throw Failure(fmt::format("heads of {} elements cannot be rotated in pairs; dim / heads must be even",
                                  options.dim / options.heads));
    io::ModelShape shape;
    shape.dim = options.dim;
    shape.hidden = options.hidden;
    shape.layers = options.layers;
    shape.heads = options.heads;
    shape.kv_heads = options.kv_heads;
    shape.head_dim = options.dim / options.heads;
    shape.vocabulary = evaluate::embedded_vocabulary_size;
    shape.context = options.context;
    shape.tied_head = true;
    return shape;
}

std::string scores_text(const std::vector<evaluate::BehaviourScore>& scores) {
    std::string out;
    for (const auto& score : scores)
        out += fmt::format("{}{} {:.1f}", out.empty() ? "" : ", ", name(score.behaviour), 100 * score.share);
    return out;
}

/// Set by Ctrl-C and kill: the step is finished and the checkpoint written.
volatile std::sig_atomic_t asked_to_stop = 0;

class Training {
public:
    Training(const TrainOptions& options, Program& program)
        : options_(options),
          program_(program),
          tokenizer_(expect(model::Tokenizer::create(evaluate::embedded_vocabulary()))),
          trainer_(expect(
              model::Trainer::create(shape_of(options), training_options(options), program.context()))),
          data_(tokenizer_, options.corpus_seed, options.prompt_weight) {}

    Status run() {
        // A folder that is missing is not found out after hours.
        for (const std::string* file : {&options_.out, &options_.checkpoint})
            if (!file->empty()) expect(io::AtomicFile::create(path_of(*file)));
        std::error_code error;
        if (!options_.checkpoint.empty() && std::filesystem::exists(path_of(options_.checkpoint), error)) {
            data_.skip_to(expect(trainer_.resume(path_of(options_.checkpoint))));
            note("continuing after step {} of {}\n", trainer_.steps_done(), options_.steps);
        }
        std::signal(SIGINT, [](int) { asked_to_stop = 1; });
        std::signal(SIGTERM, [](int) { asked_to_stop = 1; });
        TrainingMeter meter(program_, trainer_, options_.steps);
        write_err(meter.headline());
        train(meter);
        save();
        const auto model = finished_model();
        expect(io::write_safetensors_model(path_of(options_.out), model));
        say("wrote {} after step {} of {}: loss {:.4f} nats\n", options_.out, trainer_.steps_done(),
            options_.steps, meter.loss());
        if (trainer_.steps_done() < options_.steps && !options_.checkpoint.empty())
            say("the same command goes on from there\n");
        Json result{{"out", options_.out}, {"documents", data_.documents_seen()}};
        result.update(meter.json());
        program_.write_json("train/1", std::move(result));
        return Status::done;
    }

private:
    static model::TrainingOptions training_options(const TrainOptions& options) {
        model::TrainingOptions training;
        training.schedule = {options.rate, 0.05, options.warmup, options.steps};
        training.micro_batch = std::max<std::size_t>(2048, options.context);
        training.seed = options.seed;
        training.gain_spread = options.gain_spread;
        training.fallback = options.fallback;
        return training;
    }

    void train(TrainingMeter& meter) {
        const auto minutes = [](std::size_t count) { return 60.0 * static_cast<double>(count); };
        double saved_at = 0, reported_at = 0;
        Progress progress("training");
        while (trainer_.steps_done() < options_.steps && asked_to_stop == 0) {
            const auto documents = data_.next(options_.batch_tokens);
            meter.start_step();
            meter.end_step(expect(trainer_.step(documents)));
            progress.update(trainer_.steps_done(), options_.steps, meter.short_line());
            if (meter.seconds() - reported_at > minutes(options_.report_minutes)) {
                reported_at = meter.seconds();
                progress.clear();
                write_err(meter.line());
                if (options_.items > 0) note("    {}\n", scores_text(scores()));
            }
            if (meter.seconds() - saved_at > minutes(1)) {
                saved_at = meter.seconds();
                save();
            }
            if (options_.minutes > 0 && meter.seconds() > minutes(options_.minutes)) break;
        }
    }

    void save() const {
        if (!options_.checkpoint.empty())
            expect(trainer_.save(path_of(options_.checkpoint), data_.documents_seen()));
    }

    [[nodiscard]] io::ModelFile finished_model() const {
        io::ModelFile model = expect(trainer_.model(Scalar::f16));
        model.metadata = {{"tokenizer", embedded_tokenizer_mark},
                          {"training_corpus_seed", std::to_string(options_.corpus_seed)},
                          {"training_steps", std::to_string(trainer_.steps_done())}};
        return model;
    }

    [[nodiscard]] std::vector<evaluate::BehaviourScore> scores() {
        const auto transformer =
            make_transformer(expect(trainer_.model(Scalar::f32)), {exact_activations(), options_.fallback},
                             program_.context());
        return expect(evaluate::measure_behaviours(
            transformer, tokenizer_, {.items = options_.items, .teacher_forced = true}, program_.context()));
    }

    const TrainOptions& options_;
    Program& program_;
    model::Tokenizer tokenizer_;
    model::Trainer trainer_;
    TrainingData data_;
};

}  // namespace

void add_train(CLI::App& app, Program& program) {
    auto options = std::make_shared<TrainOptions>();
    CLI::App* command = program.add(app, "train", "Train a small model on the synthetic corpus",
                                    [=, &program] { return Training(*options, program).run(); });
    command->add_option("-o,--out", options->out, "The model, f16, as safetensors")
        ->required()
        ->type_name("FILE");
    command
        ->add_option("--checkpoint", options->checkpoint,
                     "Saved once a minute and at the end (Ctrl-C is one); continued from where it exists")
        ->type_name("FILE");
    add_count(*command, "--steps", options->steps, "Steps in all, those of the checkpoint included", 1)
        ->default_str("4500");
    add_count(*command, "--minutes", options->minutes,
              "Stop after so many, to be continued; 0: at the last step");
    add_count(*command, "--batch-tokens", options->batch_tokens, "Predictions of a step", 1)
        ->default_str("4096");
    command->add_option("--learning-rate", options->rate, "The highest")
        ->type_name("R")
        ->capture_default_str();
    add_count(*command, "--warmup", options->warmup, "Steps until it is reached", 1)->default_str("300");
    command
        ->add_option("--prompt-weight", options->prompt_weight,
                     "What a prompt's token counts, which cannot be foreseen, beside 1 of an answer's")
        ->check(CLI::Range(0.0, 1.0))
        ->type_name("W")
        ->capture_default_str();
    add_count(*command, "--seed", options->seed, "Of the initial weights")->default_str("1");
    command
        ->add_option("--gain-spread", options->gain_spread,
                     "Deviation of the logarithms of initial norm gains; 0: all are 1, and the model "
                     "hardly notices rounding")
        ->check(CLI::Range(0.0, 3.0))
        ->type_name("S")
        ->capture_default_str();
    add_count(*command, "--corpus-seed", options->corpus_seed, "Of the documents")->default_str("1");
    add_count(*command, "--dim", options->dim, "Embedding length", 2, 65536)->default_str("256");
    add_count(*command, "--hidden", options->hidden, "Feed-forward length", 1, 65536)->default_str("256");
    add_count(*command, "--layers", options->layers, "Blocks", 1, 1024)->default_str("4");
    add_count(*command, "--heads", options->heads, "Query heads", 1, 1024)->default_str("8");
    add_count(*command, "--kv-heads", options->kv_heads, "Key-value heads", 1, 1024)->default_str("4");
    add_count(*command, "--context", options->context, "Longest sequence", evaluate::longest_corpus_document,
              65536)
        ->default_str("512");
    add_count(*command, "--report-minutes", options->report_minutes, "Between lines of report")
        ->default_str("5");
    add_count(*command, "--items", options->items, "Held-out items of each behaviour in a report; 0: none")
        ->default_str("200");
    add_fallback(*command, options->fallback);
}

}  // namespace fewbit::cli
