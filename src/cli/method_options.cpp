// Definitions of method_options.hpp.
#include "src/cli/method_options.hpp"

#include <CLI/CLI.hpp>
#include <array>
#include <utility>

namespace fewbit::cli {
namespace {

constexpr std::array<std::pair<const char*, ColumnOrder>, 4> orders{
    {{"natural", ColumnOrder::natural},
     {"group-aware", ColumnOrder::group_aware},
     {"activation", ColumnOrder::activation},
     {"permuted", ColumnOrder::permuted}}};

std::string name_of(ColumnOrder order) {
    for (const auto& [name, value] : orders)
        if (value == order) return name;
    return "?";
}

bool searches(const GptqOptions& options) { return options.grid.max_shrink > 0; }

}  // namespace

Method MethodOptions::method() const {
    Method method = expect(parse_method(name));
    if (std::holds_alternative<GptqOptions>(method)) method = gptq;
    if (auto* owq = std::get_if<OwqOptions>(&method)) {
        owq->extra_bits = extra_bits;
        owq->gptq = gptq;
    }
    if (auto* awq = std::get_if<AwqOptions>(&method)) awq->rows = awq_rows;
    if (auto* llm_int8 = std::get_if<LlmInt8Options>(&method)) llm_int8->threshold = threshold;
    return method;
}

std::string MethodOptions::own_files_only() const {
    const Method chosen = method();
    if (std::holds_alternative<OwqOptions>(chosen) || std::holds_alternative<LlmInt8Options>(chosen))
        return fmt::format("--method {} keeps input channels in floating point", name);
    const auto* gptq_options = std::get_if<GptqOptions>(&chosen);
    if (gptq_options != nullptr && gptq_options->order == ColumnOrder::permuted)
        return "--column-order permuted permutes inputs while the model runs";
    return {};
}

void add_method_options(CLI::App& command, MethodOptions& options) {
    command
        .add_option_function<std::string>(
            "--method",
            [&options](const std::string& text) {
                const auto method = parse_method(text);
                if (!method) throw CLI::ValidationError("--method", method.error().message);
                options.name = text;
            },
            fmt::format("How codes are chosen: {}; gptq, awq, owq and llm-int8 run a text through the model "
                        "(--calibration)",
                        fmt::join(method_names(), ", ")))
        ->type_name("NAME")
        ->default_str(options.name);
    command
        .add_option("--smooth", options.smooth,
                    "Before the method: SmoothQuant's scales, which make activations easier to quantize; "
                    "ALPHA is the share "
                    "that weights take, 0 to 1, mostly 0.5")
        ->type_name("ALPHA")
        ->check(CLI::Range(0.0, 1.0));
    command
        .add_option_function<std::string>(
            "--column-order",
            [&options](const std::string& text) {
                for (const auto& [name, order] : orders)
                    if (text == name) {
                        options.gptq.order = order;
                        return;
                    }
                throw CLI::ValidationError("--column-order",
                                           fmt::format("'{}' is not known; known are natural, group-aware, "
                                                       "activation and permuted",
                                                       text));
            },
            "gptq, owq: columns in their natural order; the largest inputs first, within groups and group by "
            "group "
            "(group-aware); over all groups (activation); and groups of neighbours in that order, which the "
            "model "
            "then permutes its inputs for (permuted)")
        ->type_name("ORDER")
        ->default_str(name_of(options.gptq.order));
    command
        .add_option_function<std::string>(
            "--grid",
            [&options](const std::string& text) {
                if (text != "mse" && text != "min-max")
                    throw CLI::ValidationError(
                        "--grid", fmt::format("'{}' is not known; known are mse and min-max", text));
                options.gptq.grid = text == "mse" ? GptqOptions{}.grid : MseOptions{{}, 1, 0, 2.0, {}};
            },
            "gptq, owq: scales that span a group's weights (min-max), or clip where that loses less (mse)")
        ->type_name("GRID")
        ->default_str("mse");
    command.add_flag("--static-groups", options.gptq.static_groups,
                     "gptq, owq: grids of the weights as they came, known before the first column");
    command
        .add_option("--damping", options.gptq.damping,
                    "gptq, owq: share of the mean diagonal that is added to the Hessian's")
        ->type_name("X")
        ->check(CLI::NonNegativeNumber)
        ->capture_default_str();
    command
        .add_option("--asymmetry", options.gptq.asymmetry,
                    "gptq, owq: which share of what earlier layers lost is compensated, 0 to 1; above 0 the "
                    "float model "
                    "runs beside")
        ->type_name("X")
        ->check(CLI::Range(0.0, 1.0))
        ->capture_default_str();
    command
        .add_option("--awq-rows", options.awq_rows,
                    "awq: rows on which scales are tried, of all matrices that share an input; 0: all")
        ->type_name("N")
        ->capture_default_str();
    command
        .add_option("--extra-bits", options.extra_bits,
                    "owq: what input channels with float weights may add to the bits of a weight")
        ->type_name("B")
        ->check(CLI::Range(0.0, 16.0))
        ->capture_default_str();
    command
        .add_option("--threshold", options.threshold,
                    "llm-int8: input channels that reached this magnitude in calibration stay in f16")
        ->type_name("X")
        ->check(CLI::PositiveNumber)
        ->capture_default_str();
}

Json method_json(const MethodOptions& options) {
    if (options.name == "llm-int8") return {{"threshold", options.threshold}};
    if (options.name == "awq") return {{"rows", options.awq_rows}};
    if (options.name != "gptq" && options.name != "owq") return {};
    Json json{{"column_order", name_of(options.gptq.order)},
              {"grid", searches(options.gptq) ? "mse" : "min-max"},
              {"static_groups", options.gptq.static_groups},
              {"damping", options.gptq.damping},
              {"asymmetry", options.gptq.asymmetry}};
    if (options.name == "owq") json["extra_bits"] = options.extra_bits;
    return json;
}

}  // namespace fewbit::cli
