// Definitions of outcome_text.hpp.
#include "src/pipeline/outcome_text.hpp"

#include <charconv>
#include <cstdint>
#include <utility>

#include "fewbit/core/text.hpp"

namespace fewbit::inline v0::pipeline {
namespace {

/// Calls `visit(name, field)` for every field of an outcome but the notes and what may be absent. The
/// bindings name every member: one that is added does not compile here until it is kept, too.
template <class Outcome, class Visit>
void visit_fields(Outcome& outcome, Visit&& visit) {
    auto& [report, tokens, output_error, scales] = outcome;
    auto& [method, relative_error, sqnr_db, max_abs_error, mean_square_error, mean_square, bits_per_weight,
           groups, zero_groups, constant_groups, subnormal_scales, flushed_groups, dead_channels, damping,
           notes] = report;
    static_cast<void>(output_error), static_cast<void>(notes);
    visit("method", method), visit("scales", scales), visit("tokens", tokens);
    visit("relative_error", relative_error), visit("sqnr_db", sqnr_db);
    visit("max_abs_error", max_abs_error), visit("mean_square_error", mean_square_error);
    visit("mean_square", mean_square), visit("bits_per_weight", bits_per_weight);
    visit("groups", groups), visit("zero_groups", zero_groups), visit("constant_groups", constant_groups);
    visit("subnormal_scales", subnormal_scales), visit("flushed_groups", flushed_groups);
    visit("dead_channels", dead_channels), visit("damping", damping);
}

[[nodiscard]] bool parse(const std::string& digits, std::string& value) {
    value = digits;
    return true;
}
template <class T>
[[nodiscard]] bool parse(const std::string& digits, T& value) {
    const char* const end = digits.data() + digits.size();
    const auto [stop, error] = std::from_chars(digits.data(), end, value);
    return error == std::errc{} && stop == end;
}

std::string key_of(const std::string& layer, std::string_view field) {
    return text("outcome/", layer, "/", field);
}

}  // namespace

void put_outcome(io::Metadata& metadata, const std::string& layer, const LayerOutcome& outcome) {
    visit_fields(outcome,
                 [&](const char* field, const auto& value) { metadata[key_of(layer, field)] = text(value); });
    if (outcome.output_error) metadata[key_of(layer, "output_error")] = text(*outcome.output_error);
    for (std::size_t i = 0; i < outcome.report.notes.size(); ++i)
        metadata[key_of(layer, text("notes/", i))] = outcome.report.notes[i];
}

Result<LayerOutcome> get_outcome(const io::Metadata& metadata, const std::string& layer) {
    LayerOutcome outcome;
    Result<void> status;
    const auto read = [&](const char* field, auto& value) {
        const auto found = metadata.find(key_of(layer, field));
        if (found == metadata.end())
            status = fail(ErrorKind::bad_input, "the metadata lacks '", key_of(layer, field), "'");
        else if (!parse(found->second, value))
            status = fail(ErrorKind::bad_input, "the metadata '", key_of(layer, field), "' is '",
                          found->second, "', not a number");
    };
    visit_fields(outcome, read);
    if (metadata.contains(key_of(layer, "output_error")))
        read("output_error", outcome.output_error.emplace());
    for (std::size_t i = 0;; ++i) {
        const auto note = metadata.find(key_of(layer, text("notes/", i)));
        if (note == metadata.end()) break;
        outcome.report.notes.push_back(note->second);
    }
    if (!status) return Unexpected{std::move(status).error()};
    return outcome;
}

}  // namespace fewbit::inline v0::pipeline
