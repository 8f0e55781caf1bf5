// `fewbit curves`: error against bits per weight, for synthetic matrices and for a model (docs/curves.md).
#include <algorithm>
#include <chrono>
#include <regex>

#include "fewbit/evaluate/metrics.hpp"
#include "fewbit/evaluate/synthetic.hpp"
#include "fewbit/io/atomic_file.hpp"
#include "src/cli/curves.hpp"
#include "src/cli/load.hpp"

namespace fewbit::cli {
namespace {

constexpr std::size_t synthetic_rows = 256, synthetic_cols = 4096;  // 2^20 weights, rows as long as an LLM's
constexpr std::uint64_t synthetic_seed = 20240229;
constexpr int student_degrees = 5;

struct Options {
    std::string model, tokenizer, text, out, keep;
    evaluate::DocumentOptions documents;
    bool no_pictures = false;
};

/// Kept matrices are found as `fewbit quantize --keep` finds them; an empty pattern keeps none.
class Keep {
public:
    explicit Keep(const std::string& pattern) try : empty_(pattern.empty()), pattern_(pattern) {
    } catch (const std::regex_error& error) {
        throw Failure(fmt::format("--keep '{}' is no regular expression: {}", pattern, error.what()));
    }
    bool operator()(std::string_view layer) const {
        return !empty_ && std::regex_search(layer.begin(), layer.end(), pattern_);
    }

private:
    bool empty_;
    std::regex pattern_;
};

std::vector<MatrixCurves> measure_matrices(ExecutionContext context) {
    const auto settings = evaluate::curve_settings();
    Progress progress("synthetic matrices");
    std::vector<MatrixCurves> all;
    for (const bool gaussian : {true, false}) {
        const Matrix w =
            gaussian ? evaluate::gaussian_matrix(synthetic_rows, synthetic_cols, synthetic_seed, context)
                     : evaluate::student_t_matrix(synthetic_rows, synthetic_cols, student_degrees,
                                                  synthetic_seed, context);
        MatrixCurves curves;
        curves.data = gaussian ? "gaussian" : "student-t";
        curves.title =
            gaussian ? "Gaussian" : fmt::format("Student-t, {} degrees of freedom", student_degrees);
        curves.rows = w.rows();
        curves.cols = w.cols();
        curves.seed = synthetic_seed;
        curves.bound_db = gaussian ? 0 : evaluate::student_t_bound_db(student_degrees);
        for (const evaluate::CurveSetting& setting : settings) {
            const Linear linear = expect(evaluate::quantize_for_curve(w, setting, curves.data, context));
            const auto metrics = expect(evaluate::compare(w, linear.weights));
            curves.points.push_back({setting, linear.bits_per_weight(), metrics.sqnr_db});
            progress.update(all.size() * settings.size() + curves.points.size(), 2 * settings.size(),
                            curves.title);
        }
        all.push_back(std::move(curves));
    }
    return all;
}

ModelCurves measure_model(const Options& options, Program& program) {
    if (options.text.empty()) throw Failure("--model needs a text to predict: name it with --text FILE");
    const io::ModelFile file = load_model(options.model);
    const model::Tokenizer tokenizer = load_tokenizer(options.tokenizer, file);
    evaluate::DocumentOptions documents = options.documents;
    if (documents.context == 0) documents.context = std::min<std::size_t>(512, file.shape.context);
    if (documents.context > file.shape.context)
        throw Failure(fmt::format("--context {}: the model was made for at most {} tokens", documents.context,
                                  file.shape.context));
    const Text text = load_text(options.text);
    const auto windows = expect(evaluate::cut_windows(text.view(), documents, tokenizer));
    const Keep keep(options.keep);

    ModelCurves curves;
    curves.model = options.model;
    curves.text = options.text;
    curves.split = documents.split;
    curves.keep = options.keep;
    curves.context = documents.context;
    curves.windows = windows.size();
    curves.tied_head = file.shape.tied_head;
    for (const auto& [layer, linear] : file.linears)
        if (keep(layer))
            curves.kept.push_back(layer);
        else
            ++curves.quantized_matrices;
    if (curves.quantized_matrices == 0)
        throw Failure(fmt::format("--keep '{}' keeps every matrix of '{}'", options.keep, options.model));

    // Curves measure error, not speed: generic kernels may run, and the report says where they did.
    const auto ready = [&](const io::ModelFile& which, const ActivationFormat& activations) {
        return make_transformer(which, {activations, Fallback::allow}, program.context());
    };
    const model::Transformer exact = ready(file, exact_activations());
    const evaluate::TransformerSource exact_source(exact);
    curves.reference_kernels = exact.kernels();

    const auto settings = evaluate::curve_settings();
    const std::vector<ActivationFormat> kinds{exact_activations(), int8_row_activations()};
    const std::size_t runs = 1 + settings.size() * kinds.size(),
                      tokens = evaluate::count_predictions(windows);
    Progress progress("curves");
    std::size_t run = 0;
    std::string doing = "f32";
    const evaluate::Progress show = [&](std::size_t done, std::size_t) {
        progress.update(run * tokens + done, runs * tokens, doing);
    };
    const evaluate::Reference reference = expect(
        evaluate::Reference::create(exact_source, windows, std::size_t{512} << 20, program.context(), show));
    curves.reference = reference.perplexity();
    ++run;
    for (const evaluate::CurveSetting& setting : settings) {
        const evaluate::CurveModel quantized =
            expect(evaluate::quantize_model_for_curve(file, setting, keep, program.context()));
        curves.parameters = quantized.parameters;
        curves.quantized_weights = quantized.quantized_weights;
        for (const ActivationFormat& activations : kinds) {
            doing = fmt::format("{} {}, {}", name(setting.format), evaluate::name(setting.variant),
                                name(activations));
            const model::Transformer transformer = ready(quantized.file, activations);
            ModelPoint point;
            point.setting = setting;
            point.activations = activations;
            point.bits_per_weight = quantized.bits_per_weight;
            point.quantized_bits_per_weight = quantized.quantized_bits_per_weight;
            point.sqnr_db = quantized.sqnr_db;
            point.divergence =
                expect(reference.measure(evaluate::TransformerSource(transformer), program.context(), show));
            point.divergence.values = {};
            point.kernels = transformer.kernels();
            curves.points.push_back(std::move(point));
            ++run;
        }
    }
    return curves;
}

Status run(const Options& options, Program& program) {
    const std::filesystem::path folder = path_of(options.out);
    std::error_code error;
    std::filesystem::create_directories(folder, error);
    if (error) throw Failure(fmt::format("cannot create the folder '{}': {}", options.out, error.message()));
    // A folder that takes no files, or a missing gnuplot, is told now and not after minutes of work.
    (void)expect(io::AtomicFile::create(folder / "curves.csv"));
    const bool draws = !options.no_pictures && has_gnuplot();
    if (!draws && !options.no_pictures)
        note(
            "fewbit: there is no gnuplot here, so there will be no pictures (Debian, Ubuntu: gnuplot-nox)\n");

    const auto start = std::chrono::steady_clock::now();
    Curves curves;
    if (!options.model.empty()) curves.model = measure_model(options, program);
    curves.matrices = measure_matrices(program.context());
    curves.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    curves.threads = program.executor().workers();

    say("{}", report_of(curves));
    Json body = json_of(curves);
    Json document{{"schema", "fewbit.curves/1"}};
    document.update(body);
    write_file(folder / "curves.csv", csv_of(curves));
    write_file(folder / "curves.json", document.dump(2, ' ', false, Json::error_handler_t::replace) + '\n');
    write_file(folder / "curves.gp", gnuplot_script(curves));
    program.write_json("curves/1", std::move(body));
    if (draws) draw(folder);
    say("{}: curves.csv, .json, .gp{}; {}\n", options.out, draws ? ", .svg, .png" : "",
        seconds_text(curves.seconds));
    if (!draws && !options.no_pictures)
        throw Failure(
            fmt::format("curves.svg and curves.png are missing, because there is no gnuplot here; the "
                        "numbers are written, "
                        "and `gnuplot curves.gp` in '{}' draws them (--no-pictures does without)",
                        options.out));
    return Status::done;
}

}  // namespace

void add_curves(CLI::App& app, Program& program) {
    auto options = std::make_shared<Options>();
    options->documents.context = 0;
    options->documents.max_predictions = 20000;
    CLI::App* command =
        program.add(app, "curves", "Error against bits per weight: tables, CSV, JSON and a picture",
                    [=, &program] { return run(*options, program); });
    command
        ->add_option("--model", options->model,
                     "A model to draw curves of (needs --text); without it: synthetic matrices only")
        ->type_name("MODEL");
    command
        ->add_option("--tokenizer", options->tokenizer,
                     "The model's tokenizer, as llama2.c writes it (tokenizer.bin)")
        ->type_name("FILE");
    command->add_option("--text", options->text, "The text to predict")->type_name("FILE");
    command
        ->add_option("--split", options->documents.split,
                     "What stands between documents; each becomes one window")
        ->type_name("MARK");
    command
        ->add_option("--context", options->documents.context,
                     "Tokens of a window, BOS included; default: the model's, at most 512")
        ->type_name("N");
    command->add_option("--max-tokens", options->documents.max_predictions, "Predictions per point, at most")
        ->type_name("N")
        ->capture_default_str();
    command
        ->add_option(
            "--keep", options->keep,
            "Matrices that match this regular expression stay as they are, for instance embed_tokens|lm_head")
        ->type_name("REGEX");
    command->add_option("--out", options->out, "The folder for curves.csv, .json, .gp, .svg and .png")
        ->required()
        ->type_name("DIR");
    command->add_flag("--no-pictures", options->no_pictures, "Draw nothing (gnuplot is not needed then)");
}

}  // namespace fewbit::cli
