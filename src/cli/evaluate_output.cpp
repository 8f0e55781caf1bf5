// What `fewbit evaluate` says about divergence and outliers.
#include "src/cli/evaluate_output.hpp"

#include "src/cli/evaluate_text.hpp"

namespace fewbit::cli {
namespace {

constexpr std::size_t context_characters = 60;

std::string cell(double value) { return fmt::format("{:.3g}", value); }

/// One of the worst predictions, in words.
struct Worst {
    const model::Tokenizer& tokenizer;
    std::span<const int> before;  ///< what the models had read
    int right;                    ///< the token that came

    Worst(const evaluate::WorstPrediction& prediction, std::span<const evaluate::Window> windows,
          const model::Tokenizer& tokenizer_)
        : tokenizer(tokenizer_),
          before(std::span(windows[prediction.window].tokens).first(prediction.position)),
          right(windows[prediction.window].tokens[prediction.position]) {}

    /// What a token would add to the text here.
    [[nodiscard]] std::string_view piece(int token) const { return tokenizer.piece(before.back(), token); }
    /// The same for the eye; tokens without a text have names.
    [[nodiscard]] std::string shown(int token) const {
        if (const std::string_view text = piece(token); !text.empty()) return quoted_head(text, 40);
        return token == tokenizer.eos()   ? "(end of text)"
               : token == tokenizer.bos() ? "(beginning of text)"
                                          : fmt::format("(token {})", token);
    }
};

void print_positions(const std::vector<evaluate::PositionBucket>& positions) {
    Table table({{"tokens before it, BOS included"},
                 {"predictions", Table::Align::right},
                 {"mean", Table::Align::right},
                 {"max", Table::Align::right}});
    for (const evaluate::PositionBucket& bucket : positions)
        table.add({fmt::format("{} to {}", bucket.first, bucket.last), grouped(bucket.predictions),
                   cell(bucket.mean), cell(bucket.max)});
    say("\nKL divergence by position in the window, nats\n{}", table.text());
}

void print_worst(const evaluate::WorstPrediction& prediction, std::size_t number, const Worst& words) {
    say("\nworst {:<5} {:.3g} nats at token {} of window {}\n", number, prediction.kld, prediction.position,
        prediction.window);
    const std::string context = words.tokenizer.decode(words.before);
    say("            {}\n",
        context.empty() ? "(beginning of the window)" : quoted_tail(context, context_characters));
    say("            reference {:5.1f} %  {}\n", 100 * prediction.reference_probability,
        words.shown(prediction.reference_choice));
    say("            model     {:5.1f} %  {}\n", 100 * prediction.probability,
        words.shown(prediction.choice));
    say("            text               {}\n", words.shown(words.right));
}

/// A line about how far the mean can be trusted.
std::string interval_text(const std::optional<evaluate::BootstrapInterval>& interval, std::size_t windows) {
    if (interval)
        return fmt::format("mean        {} to {} nats ({:.0f} % interval over {} windows)\n",
                           cell(interval->low), cell(interval->high), 100 * interval->confidence,
                           grouped(windows));
    return windows < 2 ? "mean        without an interval, which takes two windows or more\n"
                       : "mean        without an interval: some window's sum is not finite\n";
}

}  // namespace

void print_divergence(const evaluate::Divergence& found, std::span<const evaluate::Window> windows,
                      const model::Tokenizer& tokenizer) {
    const evaluate::Distribution& kld = found.kld;
    Table table({{"KL divergence, nats"},
                 {"mean", Table::Align::right},
                 {"median", Table::Align::right},
                 {"90 %", Table::Align::right},
                 {"99 %", Table::Align::right},
                 {"99.9 %", Table::Align::right},
                 {"max", Table::Align::right}});
    table.add({"per prediction", cell(kld.mean), cell(kld.median), cell(kld.p90), cell(kld.p99),
               cell(kld.p999), cell(kld.max)});
    say("\n{}\n{}reference   {:.4f} nats, perplexity {:.4f}\n", table.text(),
        interval_text(found.kld_interval, windows.size()), found.reference.nll, found.reference.perplexity);
    say("top 1       agrees in {:.2f} % of the predictions; {:.2f} % lost, {:.2f} % gained\n",
        100 * found.top1_agreement, 100 * found.lost, 100 * found.gained);
    print_positions(found.positions);
    for (std::size_t i = 0; i < found.worst.size(); ++i)
        print_worst(found.worst[i], i + 1, Worst(found.worst[i], windows, tokenizer));
}

Json kld_json(const evaluate::Divergence& found) {
    const evaluate::Distribution& kld = found.kld;
    Json interval;
    if (const auto& of_mean = found.kld_interval)
        interval = {{"low", of_mean->low},
                    {"high", of_mean->high},
                    {"confidence", of_mean->confidence},
                    {"resamples", of_mean->resamples}};
    return {{"mean", kld.mean}, {"interval", interval}, {"median", kld.median}, {"p90", kld.p90},
            {"p99", kld.p99},   {"p999", kld.p999},     {"max", kld.max}};
}

void put_divergence(Json& body, const evaluate::Divergence& found, std::span<const evaluate::Window> windows,
                    const model::Tokenizer& tokenizer) {
    body["kld"] = kld_json(found);
    body["top1_agreement"] = found.top1_agreement;
    body["flips"] = {{"lost", found.lost}, {"gained", found.gained}};
    Json& positions = body["kld_by_position"] = Json::array();
    for (const evaluate::PositionBucket& bucket : found.positions)
        positions.push_back({{"first", bucket.first},
                             {"last", bucket.last},
                             {"predictions", bucket.predictions},
                             {"mean", bucket.mean},
                             {"max", bucket.max}});
    Json& worst = body["worst"] = Json::array();
    for (const evaluate::WorstPrediction& prediction : found.worst) {
        const Worst words(prediction, windows, tokenizer);
        const auto choice = [&](int token, double probability) {
            return Json{{"token", token}, {"text", words.piece(token)}, {"probability", probability}};
        };
        const std::string context = tokenizer.decode(words.before);
        worst.push_back({{"window", prediction.window},
                         {"position", prediction.position},
                         {"kld", prediction.kld},
                         {"context", last_characters(context, context_characters)},
                         {"reference", choice(prediction.reference_choice, prediction.reference_probability)},
                         {"model", choice(prediction.choice, prediction.probability)},
                         {"right", {{"token", words.right}, {"text", words.piece(words.right)}}}});
    }
}

void print_outliers(const pipeline::OutlierReport& report) {
    say("outliers    {}\n", wrapped(fmt::format("{}\n{}", report.text(), pipeline::outlier_notice), 80, 12));
}

Json outliers_json(const pipeline::OutlierReport& report) {
    return {{"factor", report.factor},   {"channels", report.channels}, {"norms", report.norms},
            {"skipped", report.skipped}, {"widened", report.widened},   {"notice", pipeline::outlier_notice}};
}

void print_behaviours(std::span<const evaluate::BehaviourScore> scores) {
    Table table({{"behaviour"},
                 {"items", Table::Align::right},
                 {"exact", Table::Align::right},
                 {"95 % interval", Table::Align::right}});
    for (const evaluate::BehaviourScore& score : scores)
        table.add({std::string(name(score.behaviour)), grouped(score.items),
                   fmt::format("{:.1f} %", 100 * score.share),
                   fmt::format("{:.1f} to {:.1f}", 100 * score.low, 100 * score.high)});
    say("\n{}", table.text());
    for (const evaluate::BehaviourScore& score : scores)
        if (score.behaviour == evaluate::Behaviour::json)
            say("of the JSON answers {:.1f} % are JSON, {:.1f} % with a confidence from 0 to 100\n",
                100 * static_cast<double>(score.well_formed) / static_cast<double>(score.items),
                100 * static_cast<double>(score.in_range) / static_cast<double>(score.items));
}

void put_behaviours(Json& body, std::span<const evaluate::BehaviourScore> scores) {
    body["behaviours"] = Json::object();
    body["behaviour_scores"] = Json::array();
    for (const evaluate::BehaviourScore& score : scores) {
        body["behaviours"][std::string(name(score.behaviour))] = score.share;
        Json row{{"behaviour", name(score.behaviour)},
                 {"items", score.items},
                 {"exact", score.exact},
                 {"share", score.share},
                 {"low", score.low},
                 {"high", score.high}};
        if (score.behaviour == evaluate::Behaviour::json) {
            row["well_formed"] = score.well_formed;
            row["in_range"] = score.in_range;
        }
        body["behaviour_scores"].push_back(std::move(row));
    }
}

}  // namespace fewbit::cli
