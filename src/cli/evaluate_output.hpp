// What `fewbit evaluate` says about divergence and outliers, for the eye and as JSON.
#pragma once

#include <span>

#include "fewbit/evaluate/behaviours.hpp"
#include "fewbit/evaluate/divergence.hpp"
#include "fewbit/model/tokenizer.hpp"
#include "fewbit/pipeline/outliers.hpp"
#include "src/cli/command.hpp"

namespace fewbit::cli {

/// Mean, its interval, quantiles, agreement, KLD by position and the worst predictions; no line is longer
/// than 80 columns.
void print_divergence(const evaluate::Divergence& found, std::span<const evaluate::Window> windows,
                      const model::Tokenizer& tokenizer);
/// {mean, interval, median, p90, ...}; the interval is null where there is none.
[[nodiscard]] Json kld_json(const evaluate::Divergence& found);
/// Sets kld, top1_agreement, flips, kld_by_position and worst.
void put_divergence(Json& body, const evaluate::Divergence& found, std::span<const evaluate::Window> windows,
                    const model::Tokenizer& tokenizer);

/// Exact answers per behaviour, with confidence intervals, and how many JSON answers were JSON at all.
void print_behaviours(std::span<const evaluate::BehaviourScore> scores);
/// Sets behaviours {name: share} and behaviour_scores.
void put_behaviours(Json& body, std::span<const evaluate::BehaviourScore> scores);

void print_outliers(const pipeline::OutlierReport& report);
[[nodiscard]] Json outliers_json(const pipeline::OutlierReport& report);

}  // namespace fewbit::cli
