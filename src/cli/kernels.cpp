// `fewbit kernels`: the catalogue, what this build and this CPU make of it, and which kernel serves which
// format.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <map>

#include "fewbit/matmul/kernel.hpp"
#include "src/cli/command.hpp"
#include "src/cli/kernels_cuda.hpp"

namespace fewbit::cli {
namespace {

/// The shape that selection is asked about; only layouts that cannot hold a K depend on it.
constexpr std::size_t probe_n = 4096, probe_k = 4096;

std::vector<Format> probed_formats() {
    std::vector<Format> formats{float_format(Scalar::f32), float_format(Scalar::f16),
                                float_format(Scalar::bf16)};
    for (int bits = min_bits; bits <= max_bits; ++bits)
        for (const char* granularity : {"tensor", "channel", "g128", "g64", "g32", "g20"})
            for (const char* offset : {"", "-asym", "-fzero"})
                formats.push_back(*parse_format(fmt::format("int{}-{}{}", bits, granularity, offset)));
    for (const char* codebook : {"nf4", "e2m1", "iq4", "fp8-e4m3", "fp8-e5m2"})
        for (const char* granularity : {"tensor", "channel", "g128", "g64", "g32", "g20", "g64-dq"})
            formats.push_back(*parse_format(fmt::format("{}-{}", codebook, granularity)));
    for (const ggml::BlockTraits& block : ggml::block_types) formats.push_back(block_format(block.type));
    return formats;
}

std::vector<ActivationFormat> probed_activations() {
    return {exact_activations(), bf16_activations(), int8_row_activations(), int8_group_activations(32),
            int8_group_activations(128)};
}

struct Choice {
    Format format;
    ActivationFormat activations;
    const KernelInfo* kernel = nullptr;
    std::string reason;  ///< why it is a fallback, or why there is none
};

/// Columns of the tables.
constexpr std::array elements{ActivationElement::f32, ActivationElement::bf16, ActivationElement::int8};
std::size_t column_of(ActivationElement element) {
    return static_cast<std::size_t>(std::ranges::find(elements, element) - elements.begin());
}

std::string elements_of(const KernelInfo& info) {
    std::vector<std::string> words;
    if ((info.bits & float_weights) != 0) words = {"f32", "f16", "bf16"};
    if ((info.bits & block_weights) != 0) words.push_back("ggml's types");
    if ((info.bits & codebook_weights) != 0) words.insert(words.end(), {"nf4", "e2m1", "iq4"});
    if ((info.bits & float8_weights) != 0) words.push_back("fp8");
    for (int bits = min_bits; bits <= max_bits;) {
        if ((info.bits >> bits & 1u) == 0) {
            ++bits;
            continue;
        }
        int last = bits;
        while (last < max_bits && (info.bits >> (last + 1) & 1u) != 0) ++last;
        words.push_back(last == bits ? fmt::format("int{}", bits) : fmt::format("int{}-{}", bits, last));
        bits = last + 1;
    }
    return fmt::format("{}", fmt::join(words, " "));
}

std::vector<Choice> probe() {
    std::vector<Choice> choices;
    for (const Format& format : probed_formats())
        for (const ActivationFormat& activations : probed_activations()) {
            const auto kernel = select_kernel({format, activations, 1, probe_n, probe_k, Fallback::allow});
            if (kernel)
                choices.push_back({format, activations, &kernel->info(), kernel->fallback_reason()});
            else
                choices.push_back({format, activations, nullptr, "no kernel fits"});
        }
    return choices;
}

/// Why a kernel cannot run here at all; empty when it can.
std::string why_not(const KernelInfo& info) {
    if (!cpu_supports(info.isa))
        return fmt::format("this CPU lacks {} ({})", fewbit::info(info.isa).features,
                           fewbit::info(info.isa).architecture);
    return info.code == nullptr ? "not in this build" : "";
}

/// What a kernel's own formats may not look like, whatever the machine: the layout's conditions.
std::vector<std::string> conditions_of(const KernelInfo& info) {
    std::vector<std::string> found;
    for (const Format& format : probed_formats())
        for (const ActivationFormat& activations : probed_activations())
            if (activations.element == info.activations && !format.is_float() && !format.is_block() &&
                (info.bits & weights_bit(format, info.layout)) != 0)
                if (auto why = layout_refuses(info.layout, format, activations, probe_k); !why.empty())
                    if (std::find(found.begin(), found.end(), why) == found.end()) found.push_back(why);
    return found;
}

Json json_of(const std::vector<Choice>& choices) {
    Json kernels = Json::array(), rows = Json::array();
    for (const KernelInfo& info : kernel_catalog()) {
        Json chosen = Json::array(), bits = Json::array();
        for (const Choice& choice : choices)
            if (choice.kernel == &info)
                chosen.push_back(
                    {{"format", name(choice.format)}, {"activations", name(choice.activations)}});
        for (int b = min_bits; b <= max_bits; ++b)
            if ((info.bits >> b & 1u) != 0) bits.push_back(b);
        kernels.push_back({{"name", info.name},
                           {"family", info.family},
                           {"isa", name(info.isa)},
                           {"activations", name(info.activations)},
                           {"layout", name(info.layout)},
                           {"bits", bits},
                           {"float_weights", (info.bits & float_weights) != 0},
                           {"block_weights", (info.bits & block_weights) != 0},
                           {"codebook_weights", (info.bits & codebook_weights) != 0},
                           {"float8_weights", (info.bits & float8_weights) != 0},
                           {"built", info.code != nullptr},
                           {"supported", cpu_supports(info.isa)},
                           {"why_not", why_not(info)},
                           {"conditions", conditions_of(info)},
                           {"chosen_for", chosen}});
    }
    for (const Choice& choice : choices)
        rows.push_back({{"format", name(choice.format)},
                        {"activations", name(choice.activations)},
                        {"kernel", choice.kernel ? Json(choice.kernel->name) : Json()},
                        {"fallback", choice.kernel != nullptr && !choice.reason.empty()},
                        {"reason", choice.reason}});
    Json isas = Json::array();
    for (const IsaInfo& isa : isa_table)
        if (cpu_supports(isa.isa)) isas.push_back(isa.name);
    return {{"isas", isas},
            {"kernels", kernels},
            {"choices", rows},
            {"cuda", cuda_kernels_json(probed_formats())}};
}

/// Formats with the same outcome share a row: "int4 int8" | kernel for f32 | kernel for int8.
void print_choices(const std::vector<Choice>& choices) {
    struct Outcome {
        std::array<std::string, elements.size()> kernels;
        std::vector<std::string> formats;
    };
    std::vector<Outcome> outcomes;
    std::map<std::string, std::array<std::string, elements.size()>> by_format;
    std::vector<std::string> order;
    for (const Choice& choice : choices) {
        // Offsets change nothing here, and groups only where a layout refuses them: those stand in a row of
        // their own.
        if (choice.format.offset != Offset::none && !choice.format.is_block()) continue;
        const bool odd = choice.format.granularity == Granularity::group && choice.format.group == 20;
        const std::string key = element_name(choice.format) + (odd ? "-g20" : "");
        if (!by_format.count(key)) order.push_back(key);
        std::string& cell = by_format[key][column_of(choice.activations.element)];
        const std::string text = choice.kernel == nullptr ? "-"
                                                          : fmt::format("{}{}", choice.kernel->name,
                                                                        choice.reason.empty() ? "" : " *");
        if (cell.empty())
            cell = text;
        else if (cell.find(text) == std::string::npos)
            cell += ", " + text;
    }
    for (const std::string& key : order) {
        if (key.ends_with("-g20") && by_format[key] == by_format[key.substr(0, key.size() - 4)]) continue;
        auto same = std::find_if(outcomes.begin(), outcomes.end(),
                                 [&](const Outcome& o) { return o.kernels == by_format[key]; });
        if (same == outcomes.end()) same = outcomes.insert(outcomes.end(), {by_format[key], {}});
        same->formats.push_back(key);
    }
    Table table({{"weights"}, {"activations"}, {"kernel"}});
    for (const Outcome& outcome : outcomes) {
        if (&outcome != &outcomes.front()) table.add_rule();
        std::string formats = wrapped(fmt::format("{}", fmt::join(outcome.formats, " ")), 32);
        for (std::size_t i = 0; i < elements.size() || !formats.empty(); ++i) {
            const std::size_t end = std::min(formats.find('\n'), formats.size());
            const bool has_kernel = i < elements.size();
            table.add({formats.substr(0, end), has_kernel ? std::string(name(elements[i])) : "",
                       has_kernel ? outcome.kernels[i] : ""});
            formats.erase(0, end + 1);
        }
    }
    say("\nWhat runs here\n\n{}", table.text());
    say("* a fallback: no tuned kernel of this build fits, and a query must allow it\n");
    say("  -g20 stands for groups that are no multiple of 8\n");
}

void print_text(const std::vector<Choice>& choices) {
    Table table({{"kernel"}, {"layout"}, {"weights"}, {"built"}, {"CPU"}, {"chosen", Table::Align::right}});
    for (const KernelInfo& info : kernel_catalog()) {
        const auto chosen =
            std::count_if(choices.begin(), choices.end(), [&](const Choice& c) { return c.kernel == &info; });
        table.add({std::string(info.name), std::string(name(info.layout)), elements_of(info),
                   info.code ? "yes" : "no", cpu_supports(info.isa) ? "yes" : "no",
                   fmt::format("{}", chosen)});
    }
    say("The catalogue, family/isa/activations; chosen for so many of {} combinations\n\n{}", choices.size(),
        table.text());
    std::string notes;
    for (const KernelInfo& info : kernel_catalog())
        if (auto why = why_not(info); !why.empty())
            notes += wrapped(fmt::format("{}: {}", info.name, why), 80, 2) + '\n';
    if (!notes.empty()) say("\nNot here\n\n{}", notes);
    for (const char* variable : {"FEWBIT_FORCE_ISA", "FEWBIT_FORCE_KERNEL"})
        if (const char* value = std::getenv(variable))
            say("\n{} is '{}': only that may run\n", variable, value);
    print_choices(choices);
}

/// The table of the README: what the catalogue offers on any machine, so that it is the same on all.
void print_markdown() {
    Table table({{"weights"}, {"f32 activations"}, {"bf16 activations"}, {"int8 activations"}});
    const auto row = [&](const std::string& weights, const Format& format) {
        std::array<std::vector<std::string>, elements.size()> cells;
        for (const IsaInfo& isa : isa_table)
            for (const ActivationElement x : elements)
                if (std::ranges::any_of(kernel_catalog(), [&](const KernelInfo& info) {
                        return (info.bits & weights_bit(format, info.layout)) != 0 && info.isa == isa.isa &&
                               info.activations == x;
                    }))
                    cells[column_of(x)].emplace_back(isa.name);
        const auto text = [](const std::vector<std::string>& cell) {
            return cell.empty() ? std::string("-") : fmt::format("{}", fmt::join(cell, ", "));
        };
        table.add({weights, text(cells[0]), text(cells[1]), text(cells[2])});
    };
    row("`f32`, `f16`, `bf16`", float_format(Scalar::f32));
    for (int bits = min_bits; bits <= max_bits; ++bits) {
        const std::string integers = fmt::format("int{}", bits);
        row(fmt::format("`{}`", integers), *parse_format(integers));
    }
    row("`nf4`, `e2m1`, `iq4`", codebook_format(Element::nf4));
    row("`fp8-e4m3`, `fp8-e5m2`", codebook_format(Element::fp8_e4m3));
    row("ggml's types", block_format(ggml::BlockType::q4_0));
    say("{}", table.markdown());
    say("\nEvery N, K and group size works: what a tuned kernel's layout cannot hold (groups of no multiple "
        "of 8), generic\n"
        "multiplies. `fewbit kernels` tells what runs on your machine, and why not something faster.\n");
}

}  // namespace

void add_kernels(CLI::App& app, Program& program) {
    auto markdown = std::make_shared<bool>(false);
    CLI::App* command =
        program.add(app, "kernels", "List the kernels, and which of them this machine runs", [=, &program] {
            if (*markdown) {
                print_markdown();
                return Status::done;
            }
            const std::vector<Choice> choices = probe();
            print_text(choices);
            print_cuda_kernels();
            program.write_json("kernels/1", json_of(choices));
            return Status::done;
        });
    command->add_flag("--markdown", *markdown, "Print the table formats x kernels of the README instead");
}

}  // namespace fewbit::cli
