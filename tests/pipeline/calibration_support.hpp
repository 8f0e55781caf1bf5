// What tests of calibration share: a toy model, windows, plans, and whether two quantized models are equal in
// every bit.
#pragma once

#include <algorithm>
#include <filesystem>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "fewbit/pipeline/calibrated_quantizer.hpp"
#include "support/catch.hpp"
#include "support/random.hpp"
#include "support/toy_model.hpp"

namespace fewbit::testing {

/// 3 blocks, 4 heads over 2, 32 channels, 40 hidden, 50 tokens.
inline io::ModelFile calibration_toy(bool tied = false) {
    return toy_model(toy_shape(4, 2, 8, 40, 3, 50, 64, tied), 5);
}

inline std::vector<std::vector<int>> calibration_windows(std::size_t count = 8, std::uint64_t seed = 3) {
    Random random(seed);
    std::vector<std::vector<int>> out(count);
    for (std::size_t i = 0; i < count; ++i)
        for (std::size_t t = 0; t < 20 + i; ++t) out[i].push_back(static_cast<int>(random.uniform(0, 50)));
    return out;
}

using CalibrationPlan = std::map<std::string, pipeline::LayerChoice>;

/// All matrices, the embedding among them.
inline CalibrationPlan plan_of(const io::ModelFile& file, const char* format, const Method& method) {
    CalibrationPlan plan;
    for (const auto& [layer, linear] : file.linears) plan.insert({layer, {*parse_format(format), method}});
    return plan;
}

struct CalibrationCase {
    std::string what;
    CalibrationPlan plan;
    std::optional<SmoothQuantOptions> smoothquant;
};

/// Every way in which a layer's codes can depend on calibration.
inline std::vector<CalibrationCase> calibration_cases(const io::ModelFile& file) {
    GptqOptions permuted;
    permuted.order = ColumnOrder::permuted;
    permuted.asymmetry = 0;
    CalibrationPlan mixed = plan_of(file, "int3-g16", GptqOptions{});
    for (auto& [layer, choice] : mixed) {
        if (layer.ends_with("gate_proj") || layer.ends_with("up_proj")) choice.method = AwqOptions{};
        if (layer.ends_with("o_proj")) choice.method = RtnOptions{};
    }
    mixed.erase("model.layers.1.mlp.down_proj");
    mixed.erase("model.embed_tokens");
    return {{"gptq", plan_of(file, "int4-g16", GptqOptions{}), std::nullopt},
            {"gptq, permuted, without the float model", plan_of(file, "int3-g16", permuted), std::nullopt},
            {"awq", plan_of(file, "int3-g16", AwqOptions{}), std::nullopt},
            {"smooth rtn", plan_of(file, "int8-channel", RtnOptions{}), SmoothQuantOptions{}},
            {"smooth gptq", plan_of(file, "int4-g16-asym", GptqOptions{}), SmoothQuantOptions{}},
            {"mixed", mixed, std::nullopt}};
}

inline void check_same(const QuantizedMatrix& a, const QuantizedMatrix& b) {
    CHECK(a.format() == b.format());
    CHECK(std::ranges::equal(a.codes.bytes().bytes(), b.codes.bytes().bytes()));
    CHECK(std::ranges::equal(a.scales.bytes(), b.scales.bytes()));
    CHECK(std::ranges::equal(a.zeros.bytes().bytes(), b.zeros.bytes().bytes()));
    CHECK(std::ranges::equal(a.offsets.bytes(), b.offsets.bytes()));
    CHECK(std::ranges::equal(a.blocks.bytes(), b.blocks.bytes()));
}

/// Layers, vectors and what is told of the layers, notes apart.
inline void check_same(const pipeline::CalibratedModel& a, const pipeline::CalibratedModel& b) {
    CHECK(a.file.linears.size() == b.file.linears.size());
    for (const auto& [layer, linear] : a.file.linears) {
        INFO(layer);
        const auto other = b.file.linears.find(layer);
        REQUIRE(other != b.file.linears.end());
        check_same(linear.weights, other->second.weights);
        check_same(linear.columns.values, other->second.columns.values);
        CHECK(linear.columns.channels == other->second.columns.channels);
        CHECK(linear.transform.channel_scales == other->second.transform.channel_scales);
        CHECK(linear.transform.permutation == other->second.transform.permutation);
        CHECK(linear.bias == other->second.bias);
    }
    CHECK(a.file.vectors == b.file.vectors);
    CHECK(a.layers.size() == b.layers.size());
    for (const auto& [layer, outcome] : a.layers) {
        INFO(layer);
        const auto other = b.layers.find(layer);
        REQUIRE(other != b.layers.end());
        CHECK(outcome.tokens == other->second.tokens);
        CHECK(outcome.output_error == other->second.output_error);
        CHECK(outcome.scales == other->second.scales);
        CHECK(outcome.report.method == other->second.report.method);
        CHECK(outcome.report.relative_error == other->second.report.relative_error);
        CHECK(outcome.report.sqnr_db == other->second.report.sqnr_db);
        CHECK(outcome.report.damping == other->second.report.damping);
        CHECK(outcome.report.groups == other->second.report.groups);
        CHECK(outcome.report.dead_channels == other->second.report.dead_channels);
    }
}

/// A folder that goes away with the object.
class ScratchFolder {
public:
    ScratchFolder() {
        std::random_device random;
        do {
            path_ = std::filesystem::temp_directory_path() / ("fewbit-pipeline-" + std::to_string(random()));
        } while (!std::filesystem::create_directory(path_));
    }
    ~ScratchFolder() {
        std::error_code ignored;
        std::filesystem::remove_all(path_, ignored);
    }
    ScratchFolder(const ScratchFolder&) = delete;
    ScratchFolder& operator=(const ScratchFolder&) = delete;

    [[nodiscard]] const std::filesystem::path& path() const { return path_; }
    [[nodiscard]] std::filesystem::path operator/(const std::string& name) const { return path_ / name; }

private:
    std::filesystem::path path_;
};

}  // namespace fewbit::testing
