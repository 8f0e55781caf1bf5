// `fewbit evaluate`: perplexity on a text and, beside a reference, divergence (docs: evaluate/documents.hpp
// says how a text is cut and what is counted).
#include <CLI/CLI.hpp>
#include <algorithm>

#include "fewbit/evaluate/behaviours.hpp"
#include "fewbit/evaluate/cuda_source.hpp"
#include "fewbit/evaluate/divergence.hpp"
#include "src/cli/allocation.hpp"
#include "src/cli/calibration.hpp"
#include "src/cli/device.hpp"
#include "src/cli/evaluate_output.hpp"
#include "src/cli/load.hpp"
#include "src/cli/options.hpp"
#include "src/cli/quantize_model.hpp"
#include "src/cli/windows.hpp"

namespace fewbit::cli {
namespace {

struct EvaluateOptions {
    std::string model, tokenizer, text, reference;
    evaluate::DocumentOptions documents;
    std::size_t worst = 3, items = 1000;
    PlanOptions plan;
    AllocationOptions allocation;
    DeviceOptions how{.fallback = Fallback::allow};
    CalibrationOptions calibration;
};

std::unique_ptr<evaluate::LogitSource> source_of(const RunningModel& running) {
    if (running.cuda) return std::make_unique<evaluate::CudaSource>(*running.cuda);
    return std::make_unique<evaluate::TransformerSource>(*running.cpu);
}

Status run(const EvaluateOptions& given, Program& program) {
    EvaluateOptions options = given;
    if (options.documents.max_documents != evaluate::unlimited && !options.text.empty() &&
        options.documents.split.empty())
        throw Failure(
            "--max-documents: the text is one document; --split MARK says what stands between "
            "documents");
    io::ModelFile file = load_model(options.model);
    check_device(options.how, file.shape);
    const model::Tokenizer tokenizer = load_tokenizer(options.tokenizer, file, options.model);
    options.documents.context = window_context(options.documents.context, file.shape.context);
    const bool on_corpus = options.text.empty();
    const auto windows = load_windows(options.text, options.documents, tokenizer);

    const auto outliers = make_outliers(file, options.plan, options.model);
    const auto rotations = make_rotations(file, options.plan, options.model, program.context());
    const bool on_the_fly = options.plan.any() || options.allocation.target;
    std::optional<AllocationReport> allocation;
    if (on_the_fly) {
        const auto same_tokenizer = [&] { return tokenizer; };
        std::vector<PlannedLayer> plan = make_plan(file, options.plan);
        allocation = allocate_formats(file, plan, options.plan, options.allocation,
                                      options.calibration.source, same_tokenizer, program.context());
        if (allocation) print_allocation(*allocation);
        file = quantize_model(file, plan, options.plan.method, options.calibration.source, same_tokenizer,
                              program.context())
                   .file;
    }
    const ModelSize size = size_of(file);
    const bool on_cpu = options.how.device == DeviceKind::cpu;
    const bool static_ranges = on_cpu && options.how.activations.is_static;
    const RunningModel running = start_model(
        file, options.how,
        on_cpu ? calibrate(file, tokenizer, options.how.activations, options.calibration, program.context())
               : std::map<std::string, StaticRange, std::less<>>{},
        program.context());
    const auto source = source_of(running);
    const auto shown_by = [](Progress& progress) {
        return [&progress](std::size_t done, std::size_t total) { progress.update(done, total); };
    };

    evaluate::Perplexity perplexity;
    std::optional<evaluate::Divergence> divergence;
    std::vector<KernelRow> reference_kernels;
    const double seconds = [&] {
        const auto start = std::chrono::steady_clock::now();
        if (options.reference.empty()) {
            Progress progress("evaluating");
            perplexity =
                expect(evaluate::measure_perplexity(*source, windows, program.context(), shown_by(progress)));
        } else {
            io::ModelFile other = load_model(options.reference);
            if (other.shape.vocabulary != file.shape.vocabulary)
                throw Failure(fmt::format(
                    "the reference '{}' has {} tokens, '{}' has {}: they cannot be compared",
                    options.reference, other.shape.vocabulary, options.model, file.shape.vocabulary));
            make_outliers(other, options.plan,
                          options.reference);  // the same function, so the same yardstick
            // The reference is exact whatever --activations and --kv-cache say: it is the yardstick.
            const model::Transformer exact =
                make_transformer(other, {exact_activations(), options.how.fallback}, program.context());
            reference_kernels = kernel_rows(exact);
            const evaluate::TransformerSource exact_source(exact);
            Progress progress("reference");
            const evaluate::Reference reference = expect(evaluate::Reference::create(
                exact_source, windows, std::size_t{256} << 20, program.context(), shown_by(progress)));
            progress.clear();
            Progress second("evaluating");
            divergence =
                expect(reference.measure(*source, program.context(), shown_by(second), options.worst));
            perplexity = divergence->model;
        }
        return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    }();
    std::vector<evaluate::BehaviourScore> behaviours;
    if (on_corpus && options.items > 0) {
        Progress progress("behaviours");
        behaviours = expect(evaluate::measure_behaviours(*source, tokenizer, {.items = options.items},
                                                         program.context(), shown_by(progress)));
    }

    say("model       {}\n", options.model);
    say("weights     {}{:.3f} bits per weight\n",
        on_the_fly
            ? fmt::format("{} by {}, ",
                          allocation ? "as allocated" : options.plan.format_name().value_or("as planned"),
                          options.plan.method.name)
            : "",
        size.bits_per_weight());
    if (outliers) print_outliers(*outliers);
    if (rotations) say("rotations   {}\n", wrapped(rotations->text(), 80, 12));
    say("text        {}{}\n            {} window{} of at most {} tokens\n", name_of_text(options.text),
        on_corpus ? " (docs/corpus.md)" : "", grouped(windows.size()), windows.size() == 1 ? "" : "s",
        options.documents.context);
    say("activations {}{}\n", running.activations, on_cpu ? "" : ", on a CUDA device");
    if (static_ranges)
        say("            ranges: {}\n", wrapped(calibration_text(options.calibration), 80, 12));
    say("kv cache    {}\n", wrapped(running.cache_text, 80, 12));
    say("\n");
    say("predictions {}\nnll         {:.4f} nats per prediction\nperplexity  {:.4f}\n",
        grouped(perplexity.tokens), perplexity.nll, perplexity.perplexity);
    if (divergence) print_divergence(*divergence, windows, tokenizer);
    if (!behaviours.empty()) print_behaviours(behaviours);
    say("\n{}", kernels_text(running.kernels));
    say("{}, {:.0f} predictions per second\n", seconds_text(seconds),
        static_cast<double>(perplexity.tokens) / seconds);

    Json body{{"model", options.model},
              {"text", on_corpus ? "synthetic corpus" : options.text},
              {"context", options.documents.context},
              {"split", options.documents.split},
              {"windows", windows.size()},
              {"device", name(options.how.device)},
              {"activations", running.activations},
              {"calibration", static_ranges ? calibration_json(options.calibration) : Json()},
              {"kv_cache", running.cache},
              {"format", options.plan.format_name() ? Json(*options.plan.format_name()) : Json()},
              {"method", on_the_fly ? Json(options.plan.method.name) : Json()},
              {"allocation", allocation_json(allocation)},
              {"bits_per_weight", size.bits_per_weight()},
              {"outliers", outliers ? outliers_json(*outliers) : Json()},
              {"rotations", rotations ? Json(rotations->text()) : Json()},
              {"tokens", perplexity.tokens},
              {"nll", perplexity.nll},
              {"perplexity", perplexity.perplexity},
              {"seconds", seconds},
              {"threads", program.executor().workers()},
              {"kernels", kernels_json(running.kernels)}};
    if (divergence) {
        put_divergence(body, *divergence, windows, tokenizer);
        body["reference"] = {{"model", options.reference},
                             {"nll", divergence->reference.nll},
                             {"perplexity", divergence->reference.perplexity},
                             {"kernels", kernels_json(reference_kernels)}};
    }
    if (!behaviours.empty()) put_behaviours(body, behaviours);
    program.write_json("evaluate/1", std::move(body));
    return Status::done;
}

}  // namespace

void add_evaluate(CLI::App& app, Program& program) {
    auto options = std::make_shared<EvaluateOptions>();
    options->documents.context = 0;
    CLI::App* command = program.add(app, "evaluate", "Perplexity on a text, divergence from a reference",
                                    [=, &program] { return run(*options, program); });
    add_model(*command, options->model);
    add_tokenizer(*command, options->tokenizer);
    command
        ->add_option(
            "--text", options->text,
            "The text to predict; default, for the embedded model: held-out documents of its corpus, "
            "and behaviours")
        ->type_name("FILE");
    add_count(*command, "--items", options->items,
              "Held-out items of each behaviour, answered greedily; only without --text; 0: none")
        ->default_str("1000");
    CLI::Option* reference = command
                                 ->add_option("--reference", options->reference,
                                              "Compare with this model, prediction by prediction")
                                 ->type_name("MODEL");
    add_count(*command, "--worst", options->worst,
              "Show so many of the predictions that diverge most, with what stands before them", 0, 1000)
        ->default_str("3")
        ->needs(reference);
    add_count(*command, "--context", options->documents.context,
              "Tokens of a window, BOS included; default: the model's, at most 512", 2);
    command
        ->add_option("--split", options->documents.split,
                     "What stands between documents; each becomes one window")
        ->type_name("MARK");
    add_count(*command, "--max-documents", options->documents.max_documents,
              "Use at most so many documents (of --split, or of the corpus, there 1024)", 1);
    add_count(*command, "--max-tokens", options->documents.max_predictions, "Stop after so many predictions",
              1);
    add_plan_options(*command, options->plan, false);
    add_rotate_option(*command, options->plan);
    add_allocation_options(*command, options->allocation);
    add_outliers_option(*command, options->plan);
    add_device_options(*command, options->how, StaticActivations::calibrated);
    add_calibration_options(*command, options->calibration);
}

}  // namespace fewbit::cli
