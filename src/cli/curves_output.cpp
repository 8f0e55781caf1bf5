// The numbers of `fewbit curves` as files: CSV and JSON (docs/json.md).
#include <algorithm>
#include <cmath>

#include "fewbit/pipeline/outliers.hpp"
#include "src/cli/curves.hpp"
#include "src/cli/evaluate_output.hpp"

namespace fewbit::cli {
namespace {

std::string csv_row(std::string_view data, const evaluate::CurveSetting& setting, std::string_view rest) {
    return fmt::format("{},{},{},{},{},{}\n", data, name(setting.format), setting.format.bits,
                       setting.grouping(), evaluate::name(setting.variant), rest);
}

/// In quotes where RFC 4180 wants them.
std::string csv_text(const std::string& text) {
    if (text.find_first_of(",\"\r\n") == std::string::npos) return text;
    std::string out = "\"";
    for (const char c : text) out += c == '"' ? "\"\"" : std::string(1, c);
    return out + '"';
}

std::string divergence_csv(const evaluate::Divergence& d, const std::vector<model::KernelUse>& kernels) {
    const bool fallback = std::any_of(kernels.begin(), kernels.end(),
                                      [](const auto& use) { return !use.fallback_reason.empty(); });
    const auto& interval = d.kld_interval;
    return fmt::format(
        "{},{},{},{},{},{},{},{},{},{},{},{},{},{}", d.model.tokens, d.model.nll, d.model.perplexity,
        d.kld.mean, interval ? fmt::format("{},{}", interval->low, interval->high) : ",", d.kld.median,
        d.kld.p90, d.kld.p99, d.kld.p999, d.kld.max, d.top1_agreement, d.lost, d.gained, fallback);
}

/// A column per behaviour, empty where it was not asked.
std::string shares_csv(const std::vector<evaluate::BehaviourScore>& scores) {
    if (scores.empty()) return std::string(evaluate::all_behaviours.size(), ',');
    std::string out;
    for (const evaluate::BehaviourScore& score : scores) out += fmt::format(",{}", score.share);
    return out;
}

Json json_of(const evaluate::CurveSetting& setting) {
    return {{"format", name(setting.format)},
            {"bits", setting.format.bits},
            {"grouping", setting.grouping()},
            {"variant", evaluate::name(setting.variant)}};
}

Json behaviours_json(const std::vector<evaluate::BehaviourScore>& scores) {
    Json json = Json::object();
    for (const evaluate::BehaviourScore& score : scores)
        json[std::string(evaluate::name(score.behaviour))] = score.share;
    return json;
}

/// What the model said and in which kernels; null for behaviours that were not asked.
Json json_of(const evaluate::Divergence& d, const std::vector<model::KernelUse>& uses,
             const std::vector<evaluate::BehaviourScore>& scores) {
    Json kernels = Json::array();
    bool fallback = false;
    for (const model::KernelUse& use : uses) {
        kernels.push_back(use.kernel);
        fallback = fallback || !use.fallback_reason.empty();
    }
    return {{"nll", d.model.nll},
            {"perplexity", d.model.perplexity},
            {"kld", kld_json(d)},
            {"top1_agreement", d.top1_agreement},
            {"flips", {{"lost", d.lost}, {"gained", d.gained}}},
            {"behaviours", scores.empty() ? Json() : behaviours_json(scores)},
            {"kernels", kernels},
            {"fallback", fallback}};
}

Json json_of(const ModelPoint& point) {
    Json json = json_of(point.setting);
    json.update({{"activations", name(point.activations)},
                 {"bits_per_weight", point.bits_per_weight},
                 {"quantized_bits_per_weight", point.quantized_bits_per_weight},
                 {"sqnr_db", point.sqnr_db}});
    json.update(json_of(point.divergence, point.kernels, point.behaviours));
    return json;
}

Json json_of(const ComparedModel& each) {
    Json json{
        {"model", each.path}, {"quantization", each.quantization}, {"bits_per_weight", each.bits_per_weight}};
    json.update(json_of(each.divergence, each.kernels, each.behaviours));
    return json;
}

Json json_of(const MethodPoint& point) {
    Json json{{"method", point.method},
              {"format", name(point.format)},
              {"bits_per_weight", point.bits_per_weight},
              {"quantized_bits_per_weight", point.quantized_bits_per_weight}};
    json.update(json_of(point.divergence, point.kernels, {}));
    json.erase("behaviours");
    return json;
}

Json json_of(const OutlierPoint& point) {
    Json json{{"factor", point.factor},
              {"activations", name(point.activations)},
              {"products", name(point.scope)},
              {"remedy", point.remedy.empty() ? Json() : Json(point.remedy)}};
    json.update(json_of(point.divergence, point.kernels, {}));
    json.erase("behaviours");
    return json;
}

Json json_of(const ModelCurves& model) {
    Json points = Json::array(), rises = Json::array(), kernels = Json::array(), compared = Json::array();
    Json outliers, methods = Json::array();
    for (const MethodPoint& point : model.methods) methods.push_back(json_of(point));
    for (const ComparedModel& each : model.compared) compared.push_back(json_of(each));
    if (!model.outliers.empty()) {
        outliers = {{"format", name(model.outlier_weights)},
                    {"notice", pipeline::outlier_notice},
                    {"points", Json::array()}};
        for (const OutlierPoint& point : model.outliers) outliers["points"].push_back(json_of(point));
    }
    Json hidden_loss;
    if (const auto loss = hidden_loss_of(model))
        hidden_loss = {{"format", name(loss->point->setting.format)},
                       {"variant", evaluate::name(loss->point->setting.variant)},
                       {"behaviour", evaluate::name(loss->behaviour)},
                       {"perplexity_rise", loss->perplexity_rise},
                       {"loss", loss->loss}};
    for (const ModelPoint& point : model.points) points.push_back(json_of(point));
    for (const Rise& rise : rises_of(model))
        rises.push_back({{"grouping", rise.before->setting.grouping()},
                         {"variant", evaluate::name(rise.before->setting.variant)},
                         {"activations", name(rise.before->activations)},
                         {"from_bits", rise.before->setting.format.bits},
                         {"to_bits", rise.after->setting.format.bits},
                         {"from_kld", rise.before->divergence.kld.mean},
                         {"to_kld", rise.after->divergence.kld.mean}});
    for (const KernelShare& share : kernels_of(model))
        kernels.push_back({{"kernel", share.kernel},
                           {"activations", share.activations},
                           {"fallback", !share.reason.empty()},
                           {"reason", share.reason},
                           {"formats", share.formats},
                           {"points", share.points}});
    return {{"model", model.model},
            {"text", model.text},
            {"split", model.split},
            {"context", model.context},
            {"windows", model.windows},
            {"tokens", model.reference.tokens},
            {"parameters", model.parameters},
            {"quantized_matrices", model.quantized_matrices},
            {"quantized_weights", model.quantized_weights},
            {"keep", model.keep},
            {"kept", model.kept},
            {"behaviour_items", model.behaviour_items},
            {"reference",
             {{"nll", model.reference.nll},
              {"perplexity", model.reference.perplexity},
              {"behaviours",
               model.reference_behaviours.empty() ? Json() : behaviours_json(model.reference_behaviours)}}},
            {"kernels", kernels},
            {"rises", rises},
            {"points", points},
            {"hidden_loss", hidden_loss},
            {"compared", compared},
            {"calibration", model.calibration.empty() ? Json() : Json(model.calibration)},
            {"methods", methods},
            {"outliers", outliers}};
}

}  // namespace

std::string csv_of(const Curves& curves) {
    std::string out =
        "data,format,bits,grouping,variant,activations,bits_per_weight,quantized_bits_per_weight,sqnr_db,"
        "tokens,nll,perplexity,"
        "kld_mean,kld_mean_low,kld_mean_high,kld_median,kld_p90,kld_p99,kld_p999,kld_max,top1_agreement,lost,"
        "gained,fallback";
    for (const evaluate::Behaviour behaviour : evaluate::all_behaviours)
        out += fmt::format(",{}", evaluate::name(behaviour));
    out += '\n';
    if (curves.model) {
        for (const ModelPoint& point : curves.model->points)
            out += csv_row(
                "model", point.setting,
                fmt::format("{},{},{},{},{}{}", name(point.activations), point.bits_per_weight,
                            point.quantized_bits_per_weight, point.sqnr_db,
                            divergence_csv(point.divergence, point.kernels), shares_csv(point.behaviours)));
        for (const MethodPoint& point : curves.model->methods)
            out += fmt::format("method,{},{},g{},{},f32,{},{},,{}{}\n", name(point.format), point.format.bits,
                               point.format.group, point.method, point.bits_per_weight,
                               point.quantized_bits_per_weight,
                               divergence_csv(point.divergence, point.kernels), shares_csv({}));
        for (const ComparedModel& each : curves.model->compared)
            out += fmt::format("compared,{},,,,f32,{},,,{}{}\n", csv_text(each.path), each.bits_per_weight,
                               divergence_csv(each.divergence, each.kernels), shares_csv(each.behaviours));
    }
    for (const MatrixCurves& matrix : curves.matrices)
        for (const MatrixPoint& point : matrix.points)
            out += csv_row(matrix.data, point.setting,
                           fmt::format(",{},{},{},,,,,,,,,,,,,,,{}", point.bits_per_weight,
                                       point.bits_per_weight, point.sqnr_db, shares_csv({})));
    return out;
}

Json json_of(const Curves& curves) {
    Json matrices = Json::array(), lloyd = Json::array();
    for (const MatrixCurves& matrix : curves.matrices) {
        Json points = Json::array();
        for (const MatrixPoint& point : matrix.points) {
            Json json = json_of(point.setting);
            json.update({{"bits_per_weight", point.bits_per_weight}, {"sqnr_db", point.sqnr_db}});
            points.push_back(std::move(json));
        }
        matrices.push_back({{"data", matrix.data},
                            {"rows", matrix.rows},
                            {"cols", matrix.cols},
                            {"seed", matrix.seed},
                            {"bound_db", matrix.bound_db},
                            {"points", points}});
    }
    for (const auto& [bits, db] : lloyd_max_points()) lloyd.push_back({{"bits", bits}, {"sqnr_db", db}});
    return {{"seconds", curves.seconds},
            {"threads", curves.threads},
            {"theory", {{"db_per_bit", 20 * std::log10(2.0)}, {"lloyd_max", lloyd}}},
            {"matrices", matrices},
            {"model", curves.model ? json_of(*curves.model) : Json()}};
}

}  // namespace fewbit::cli
