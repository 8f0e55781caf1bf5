// `fewbit evaluate`: perplexity on a text and, beside a reference, divergence (docs: evaluate/documents.hpp
// says how a text is cut and what is counted).
#include <algorithm>

#include "fewbit/evaluate/divergence.hpp"
#include "src/cli/load.hpp"
#include "src/cli/options.hpp"
#include "src/cli/plan.hpp"

namespace fewbit::cli {
namespace {

struct Options {
    std::string model, tokenizer, text, reference;
    evaluate::DocumentOptions documents;
    PlanOptions plan;
    ActivationFormat activations;
    Fallback fallback = Fallback::allow;
};

Json json_of(const evaluate::Distribution& kld) {
    return {{"mean", kld.mean}, {"median", kld.median}, {"p90", kld.p90},
            {"p99", kld.p99},   {"p999", kld.p999},     {"max", kld.max}};
}

void print_divergence(const evaluate::Divergence& found) {
    const evaluate::Distribution& kld = found.kld;
    Table table({{"KL divergence, nats"},
                 {"mean", Table::Align::right},
                 {"median", Table::Align::right},
                 {"90 %", Table::Align::right},
                 {"99 %", Table::Align::right},
                 {"99.9 %", Table::Align::right},
                 {"max", Table::Align::right}});
    const auto cell = [](double value) { return fmt::format("{:.3g}", value); };
    table.add({"per prediction", cell(kld.mean), cell(kld.median), cell(kld.p90), cell(kld.p99),
               cell(kld.p999), cell(kld.max)});
    say("\n{}\nreference   {:.4f} nats, perplexity {:.4f}\n", table.text(), found.reference.nll,
        found.reference.perplexity);
    say("top 1       agrees in {:.2f} % of the predictions; {:.2f} % lost, {:.2f} % gained\n",
        100 * found.top1_agreement, 100 * found.lost, 100 * found.gained);
}

Status run(const Options& given, Program& program) {
    Options options = given;
    io::ModelFile file = load_model(options.model);
    const model::Tokenizer tokenizer = load_tokenizer(options.tokenizer, file);
    if (options.documents.context == 0)
        options.documents.context = std::min<std::size_t>(512, file.shape.context);
    if (options.documents.context > file.shape.context)
        throw Failure(fmt::format("--context {}: the model was made for at most {} tokens",
                                  options.documents.context, file.shape.context));
    const Text text = load_text(options.text);
    const std::vector<evaluate::Window> windows =
        expect(evaluate::cut_windows(text.view(), options.documents, tokenizer));

    const bool on_the_fly = options.plan.format || !options.plan.overrides.empty();
    if (on_the_fly)
        file =
            quantize_model(file, make_plan(file, options.plan), options.plan.method, program.context()).file;
    const ModelSize size = size_of(file);
    const model::Transformer transformer =
        make_transformer(file, {options.activations, options.fallback}, program.context());
    const evaluate::TransformerSource source(transformer);
    const auto shown_by = [](Progress& progress) {
        return [&progress](std::size_t done, std::size_t total) { progress.update(done, total); };
    };

    evaluate::Perplexity perplexity;
    std::optional<evaluate::Divergence> divergence;
    std::vector<model::KernelUse> reference_kernels;
    const double seconds = [&] {
        const auto start = std::chrono::steady_clock::now();
        if (options.reference.empty()) {
            Progress progress("evaluating");
            perplexity =
                expect(evaluate::measure_perplexity(source, windows, program.context(), shown_by(progress)));
        } else {
            const io::ModelFile other = load_model(options.reference);
            if (other.shape.vocabulary != file.shape.vocabulary)
                throw Failure(fmt::format(
                    "the reference '{}' has {} tokens, '{}' has {}: they cannot be compared",
                    options.reference, other.shape.vocabulary, options.model, file.shape.vocabulary));
            // The reference is exact whatever --activations says: it is the yardstick.
            const model::Transformer exact =
                make_transformer(other, {exact_activations(), options.fallback}, program.context());
            reference_kernels = exact.kernels();
            const evaluate::TransformerSource exact_source(exact);
            Progress progress("reference");
            const evaluate::Reference reference = expect(evaluate::Reference::create(
                exact_source, windows, std::size_t{256} << 20, program.context(), shown_by(progress)));
            progress.clear();
            Progress second("evaluating");
            divergence = expect(reference.measure(source, program.context(), shown_by(second)));
            perplexity = divergence->model;
        }
        return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    }();

    say("model       {}\n", options.model);
    say("weights     {}{:.3f} bits per weight\n",
        on_the_fly
            ? fmt::format("{} by {}, ", options.plan.format ? name(*options.plan.format) : "as planned",
                          options.plan.method)
            : "",
        size.bits_per_weight());
    say("text        {}\n            {} window{} of at most {} tokens\n", options.text,
        grouped(windows.size()), windows.size() == 1 ? "" : "s", options.documents.context);
    say("activations {}\n\n", name(options.activations));
    say("predictions {}\nnll         {:.4f} nats per prediction\nperplexity  {:.4f}\n",
        grouped(perplexity.tokens), perplexity.nll, perplexity.perplexity);
    if (divergence) print_divergence(*divergence);
    say("\n{}", kernels_text(transformer.kernels()));
    say("{}, {:.0f} predictions per second\n", seconds_text(seconds),
        static_cast<double>(perplexity.tokens) / seconds);

    Json body{{"model", options.model},
              {"text", options.text},
              {"context", options.documents.context},
              {"split", options.documents.split},
              {"windows", windows.size()},
              {"activations", name(options.activations)},
              {"format", options.plan.format ? Json(name(*options.plan.format)) : Json()},
              {"method", on_the_fly ? Json(options.plan.method) : Json()},
              {"bits_per_weight", size.bits_per_weight()},
              {"tokens", perplexity.tokens},
              {"nll", perplexity.nll},
              {"perplexity", perplexity.perplexity},
              {"seconds", seconds},
              {"threads", program.executor().workers()},
              {"kernels", kernels_json(transformer.kernels())}};
    if (divergence) {
        body["kld"] = json_of(divergence->kld);
        body["top1_agreement"] = divergence->top1_agreement;
        body["flips"] = {{"lost", divergence->lost}, {"gained", divergence->gained}};
        body["reference"] = {{"model", options.reference},
                             {"nll", divergence->reference.nll},
                             {"perplexity", divergence->reference.perplexity},
                             {"kernels", kernels_json(reference_kernels)}};
    }
    program.write_json("evaluate/1", std::move(body));
    return Status::done;
}

}  // namespace

void add_evaluate(CLI::App& app, Program& program) {
    auto options = std::make_shared<Options>();
    options->documents.context = 0;
    CLI::App* command = program.add(app, "evaluate", "Perplexity on a text, divergence from a reference",
                                    [=, &program] { return run(*options, program); });
    add_model(*command, options->model);
    add_tokenizer(*command, options->tokenizer);
    command->add_option("--text", options->text, "The text to predict")->required()->type_name("FILE");
    command
        ->add_option("--reference", options->reference, "Compare with this model, prediction by prediction")
        ->type_name("MODEL");
    add_count(*command, "--context", options->documents.context,
              "Tokens of a window, BOS included; default: the model's, at most 512", 2);
    CLI::Option* split = command
                             ->add_option("--split", options->documents.split,
                                          "What stands between documents; each becomes one window")
                             ->type_name("MARK");
    add_count(*command, "--max-documents", options->documents.max_documents, "Use at most so many documents",
              1)
        ->needs(split);
    add_count(*command, "--max-tokens", options->documents.max_predictions, "Stop after so many predictions",
              1);
    add_plan_options(*command, options->plan, false);
    add_activations(*command, options->activations);
    add_fallback(*command, options->fallback);
}

}  // namespace fewbit::cli
