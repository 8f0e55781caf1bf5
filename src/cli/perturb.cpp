// `fewbit perturb`: which layers matter, and which errors hurt (evaluate/perturbation.hpp).
#include <CLI/CLI.hpp>
#include <algorithm>
#include <map>

#include "fewbit/evaluate/perturbation.hpp"
#include "src/cli/load.hpp"
#include "src/cli/options.hpp"
#include "src/cli/plan.hpp"
#include "src/cli/windows.hpp"

namespace fewbit::cli {
namespace {

using evaluate::LayerDamage;
using evaluate::NoiseFamily;

struct PerturbOptions {
    std::string model, tokenizer, text;
    std::optional<std::string> layers;
    evaluate::DocumentOptions documents;
    std::vector<NoiseFamily> families{NoiseFamily::gaussian, NoiseFamily::large_weights,
                                      NoiseFamily::small_weights, NoiseFamily::outliers};
    std::vector<double> sqnr_db{20};
    std::size_t draws = 1;
};

std::string number_cell(double value) { return fmt::format("{:.3g}", value); }

std::vector<std::string> layers_of(const io::ModelFile& file, const PerturbOptions& options) {
    const LayerPattern wanted("--layers", options.layers.value_or("")), keep("", default_keep);
    std::vector<std::string> layers;
    for (const auto& [layer, linear] : file.linears)
        if (options.layers ? wanted(layer) : !keep(layer)) layers.push_back(layer);
    if (layers.empty())
        throw Failure(options.layers ? fmt::format("--layers '{}': no layer of the model has such a name",
                                                   *options.layers)
                                     : "the model has no layers but the embedding and the head");
    return layers;
}

/// The damages of one SQNR by layer and family.
class Square {
public:
    Square(const std::vector<LayerDamage>& damages, double sqnr_db) {
        for (const LayerDamage& damage : damages)
            if (damage.asked_db == sqnr_db) by_layer_[damage.layer][damage.family] = damage.kld;
    }
    [[nodiscard]] double kld(const std::string& layer, NoiseFamily family) const {
        return by_layer_.at(layer).at(family);
    }
    [[nodiscard]] double mean(NoiseFamily family) const {
        double sum = 0;
        for (const auto& [layer, families] : by_layer_) sum += families.at(family);
        return sum / static_cast<double>(by_layer_.size());
    }
    /// Layers, those that a family damages most first; of equal ones the first by name.
    [[nodiscard]] std::vector<std::string> worst_first(NoiseFamily family) const {
        std::vector<std::string> layers;
        for (const auto& [layer, families] : by_layer_) layers.push_back(layer);
        std::ranges::stable_sort(layers, std::greater(),
                                 [&](const auto& layer) { return kld(layer, family); });
        return layers;
    }

private:
    std::map<std::string, std::map<NoiseFamily, double>> by_layer_;
};

void print_families(const std::vector<LayerDamage>& damages, const PerturbOptions& options) {
    std::vector<Table::Column> columns{{"errors"}};
    for (const double db : options.sqnr_db)
        columns.push_back({fmt::format("{:g} dB", db), Table::Align::right});
    Table table(std::move(columns));
    for (const NoiseFamily family : options.families) {
        std::vector<std::string> cells{std::string(name(family))};
        for (const double db : options.sqnr_db)
            cells.push_back(number_cell(Square(damages, db).mean(family)));
        table.add(std::move(cells));
    }
    say("Mean KL divergence of one damaged layer, nats\n{}", table.text());
}

void print_layers(const std::vector<LayerDamage>& damages, const PerturbOptions& options, double db) {
    constexpr std::size_t families_beside = 4;  // what fits beside a name in 80 columns
    const Square square(damages, db);
    const std::vector<std::string> layers = square.worst_first(options.families.front());
    for (std::size_t first = 0; first < options.families.size(); first += families_beside) {
        const auto beside = std::span(options.families)
                                .subspan(first, std::min(families_beside, options.families.size() - first));
        std::vector<Table::Column> columns{{"layer"}};
        for (const NoiseFamily family : beside)
            columns.push_back({std::string(name(family)), Table::Align::right});
        Table table(std::move(columns));
        for (const std::string& layer : layers) {
            std::vector<std::string> cells{shortened(short_name(layer), 26)};
            for (const NoiseFamily family : beside) cells.push_back(number_cell(square.kld(layer, family)));
            table.add(std::move(cells));
        }
        say("\nKL divergence at {:g} dB, nats; the layer that {} errors damage most first\n{}", db,
            name(options.families.front()), table.text());
    }
}

Json layers_json(const std::vector<LayerDamage>& damages) {
    Json rows = Json::array();
    for (const LayerDamage& damage : damages)
        rows.push_back({{"layer", damage.layer},
                        {"family", name(damage.family)},
                        {"asked_db", damage.asked_db},
                        {"sqnr_db", damage.sqnr_db},
                        {"kld", damage.kld},
                        {"kld_p99", damage.kld_p99},
                        {"nll_rise", damage.nll_rise},
                        {"top1_agreement", damage.top1_agreement}});
    return rows;
}

Status run(const PerturbOptions& given, Program& program) {
    PerturbOptions options = given;
    const io::ModelFile file = load_model(options.model);
    const model::Tokenizer tokenizer = load_tokenizer(options.tokenizer, file, options.model);
    options.documents.context = window_context(options.documents.context, file.shape.context);
    const auto windows = load_windows(options.text, options.documents, tokenizer);
    const evaluate::PerturbationPlan plan{layers_of(file, options), options.families, options.sqnr_db,
                                          options.draws};
    std::vector<LayerDamage> damages;
    {
        Progress progress("perturbing");
        damages = expect(evaluate::measure_damage(
            file, plan, windows, program.context(),
            [&](std::size_t done, std::size_t total) { progress.update(done, total); }));
    }
    say("model       {}\ntext        {}, {} predictions\n\n", options.model, name_of_text(options.text),
        grouped(evaluate::count_predictions(windows)));
    print_families(damages, options);
    for (const double db : options.sqnr_db) print_layers(damages, options, db);
    program.write_json("perturb/1", {{"model", options.model},
                                     {"text", options.text.empty() ? "synthetic corpus" : options.text},
                                     {"split", options.documents.split},
                                     {"context", options.documents.context},
                                     {"windows", windows.size()},
                                     {"tokens", evaluate::count_predictions(windows)},
                                     {"draws", options.draws},
                                     {"damages", layers_json(damages)}});
    return Status::done;
}

}  // namespace

void add_perturb(CLI::App& app, Program& program) {
    auto options = std::make_shared<PerturbOptions>();
    options->documents.context = 0;
    options->documents.max_predictions = 4096;
    CLI::App* command = program.add(app, "perturb", "Errors in one layer at a time: which layers matter",
                                    [=, &program] { return run(*options, program); });
    add_model(*command, options->model);
    add_tokenizer(*command, options->tokenizer);
    command
        ->add_option("--text", options->text,
                     "The text to predict; default, for the embedded model: held-out documents of its corpus")
        ->type_name("FILE");
    command
        ->add_option("--sqnr", options->sqnr_db,
                     "How far below the layer's weights the errors are, dB; more is less error")
        ->delimiter(',')
        ->allow_extra_args(false)
        ->type_name("DB,...")
        ->default_str("20");
    std::vector<std::string_view> names;
    for (const NoiseFamily family : evaluate::noise_families()) names.push_back(name(family));
    command
        ->add_option_function<std::vector<std::string>>(
            "--family",
            [options](const std::vector<std::string>& words) {
                options->families.clear();
                for (const std::string& word : words) {
                    const auto family = evaluate::parse_noise_family(word);
                    if (!family) throw CLI::ValidationError("--family", family.error().message);
                    if (std::ranges::find(options->families, *family) == options->families.end())
                        options->families.push_back(*family);
                }
            },
            fmt::format("What the errors look like: {}", fmt::join(names, ", ")))
        ->delimiter(',')
        ->allow_extra_args(false)
        ->type_name("NAME,...")
        ->default_str("gaussian,large-weights,small-weights,outliers");
    command
        ->add_option("--layers", options->layers,
                     "Only layers whose name contains REGEX; default: all but the embedding and the head")
        ->type_name("REGEX");
    add_count(*command, "--draws", options->draws, "Errors drawn for each number, which is their mean", 1,
              1000)
        ->default_str("1");
    add_count(*command, "--context", options->documents.context,
              "Tokens of a window, BOS included; default: the model's, at most 512", 2);
    command
        ->add_option("--split", options->documents.split,
                     "What stands between documents; each becomes one window")
        ->type_name("MARK");
    add_count(*command, "--max-tokens", options->documents.max_predictions, "Stop after so many predictions",
              1)
        ->default_str("4096");
}

}  // namespace fewbit::cli
