// `fewbit curves`: error against bits per weight, for synthetic matrices and for a model (docs/curves.md).
#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>

#include "fewbit/evaluate/metrics.hpp"
#include "fewbit/evaluate/synthetic.hpp"
#include "fewbit/io/atomic_file.hpp"
#include "src/cli/curves.hpp"
#include "src/cli/curves_methods.hpp"
#include "src/cli/embedded_model.hpp"
#include "src/cli/load.hpp"
#include "src/cli/options.hpp"

namespace fewbit::cli {
namespace {

constexpr std::size_t synthetic_rows = 256, synthetic_cols = 4096;  // 2^20 weights, rows as long as an LLM's
constexpr std::uint64_t synthetic_seed = 20240229;
constexpr int student_degrees = 5;

struct CurvesCommandOptions {
    ModelCurveOptions model;
    std::string out;
    bool no_model = false, no_pictures = false;
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

Status run(const CurvesCommandOptions& given, Program& program) {
    CurvesCommandOptions options = given;
    if (options.model.model.empty() && !options.no_model) {
        if (!embedded_model().empty())
            options.model.model = "embedded";
        else if (!options.model.text.empty() || !options.model.compare.empty() ||
                 !options.model.outliers.empty() || !options.model.methods.empty())
            throw Failure("name the model with --model FILE; this build carries no embedded one");
    }
    std::vector<std::string>& methods = options.model.methods;
    std::vector<std::string> known;
    for (const MethodCurve& curve : method_curves()) known.push_back(curve.name);
    if (methods == std::vector<std::string>{"all"}) methods = known;
    for (const std::string& method : methods)
        if (std::ranges::find(known, method) == known.end())
            throw Failure(
                fmt::format("--methods: '{}' is not known; known are {}", method, fmt::join(known, ", ")));
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
    if (!options.model.model.empty()) curves.model = measure_model(options.model, program.context());
    curves.matrices = measure_matrices(program.context());
    curves.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    curves.threads = program.executor().workers();

    say("{}", report_of(curves));
    Json body = json_of(curves);
    Json document{{"schema", "fewbit.curves/1"}};
    document.update(body);
    write_file(folder / "curves.csv", csv_of(curves));
    write_file(folder / "curves.json", document.dump(2, ' ', false, Json::error_handler_t::replace) + '\n');
    std::string files = "curves.csv, curves.json", pictures;
    for (const Page& page : pages_of(curves)) {
        write_file(folder / (page.name + ".gp"), gnuplot_script(page, "fewbit curves"));
        if (draws) draw(folder, page.name);
        files += fmt::format(", {0}.gp{1}", page.name, draws ? ", .svg, .png" : "");
        pictures += fmt::format("{}{}", pictures.empty() ? "" : ", ", page.name);
    }
    program.write_json("curves/1", std::move(body));
    say("{}\n", wrapped(fmt::format("{}: {}; {}", options.out, files, seconds_text(curves.seconds)), 80));
    if (!draws && !options.no_pictures)
        throw Failure(fmt::format(
            "pictures are missing ({}), because there is no gnuplot here; the numbers are written, and "
            "`gnuplot curves.gp` in '{}' draws them (--no-pictures does without)",
            pictures, options.out));
    return Status::done;
}

}  // namespace

void add_curves(CLI::App& app, Program& program) {
    auto options = std::make_shared<CurvesCommandOptions>();
    ModelCurveOptions& model = options->model;
    model.documents.context = 0;
    model.documents.max_predictions = 20000;
    CLI::App* command =
        program.add(app, "curves", "Error against bits per weight: tables, CSV, JSON and pictures",
                    [=, &program] { return run(*options, program); });
    CLI::Option* which =
        command->add_option("--model", model.model, "The model to draw curves of; default: embedded")
            ->type_name("MODEL");
    command->add_flag("--no-model", options->no_model, "Synthetic matrices only")->excludes(which);
    add_tokenizer(*command, model.tokenizer);
    command
        ->add_option("--text", model.text,
                     "The text to predict; default, for the embedded model: held-out documents of its "
                     "corpus, and behaviours")
        ->type_name("FILE");
    command
        ->add_option("--split", model.documents.split,
                     "What stands between documents; each becomes one window")
        ->type_name("MARK");
    command
        ->add_option("--context", model.documents.context,
                     "Tokens of a window, BOS included; default: the model's, at most 512")
        ->type_name("N");
    command->add_option("--max-tokens", model.documents.max_predictions, "Predictions per point, at most")
        ->type_name("N")
        ->capture_default_str();
    add_count(*command, "--items", model.items,
              "Held-out items of each behaviour, in those settings that the second picture shows; only "
              "without --text; 0: none")
        ->default_str("200");
    command
        ->add_option("--compare", model.compare,
                     "Quantized models to show beside the curves, as fewbit quantize and fewbit qat write "
                     "them")
        ->type_name("FILE ...");
    command
        ->add_option("--outliers", model.outliers,
                     "Also W8A8 on the model with outliers made by these factors, for instance 1,5,20,100")
        ->delimiter(',')
        ->allow_extra_args(false)
        ->type_name("F,...");
    command
        ->add_option("--methods", model.methods,
                     "Also int2-g64 to int6-g64 by these methods, or by all: rtn, mse, hqq, awq, gptq, "
                     "gptq-rotated, owq")
        ->delimiter(',')
        ->allow_extra_args(false)
        ->type_name("NAME,...");
    add_calibration_text(*command, model.calibration);
    command
        ->add_option(
            "--keep", model.keep,
            "Matrices that match this regular expression stay as they are, for instance embed_tokens|lm_head")
        ->type_name("REGEX");
    command->add_option("--out", options->out, "The folder for tables, scripts and pictures")
        ->required()
        ->type_name("DIR");
    command->add_flag("--no-pictures", options->no_pictures, "Draw nothing (gnuplot is not needed then)");
}

}  // namespace fewbit::cli
