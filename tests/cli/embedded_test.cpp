// The embedded model is what its page says: it answers, few bits hurt it, and made outliers change nothing but
// the activations.
#include <cmath>
#include <cstdlib>
#include <map>

#include "cli/cli_support.hpp"

using namespace fewbit::testing;

namespace {

/// A build without the model says so, and the other tests check that it does.
bool is_missing() { return run({"inspect", "embedded"}).status != 0; }

Json evaluated(const Folder& folder, const std::string& options, const std::string& model = "embedded") {
    const std::string json = folder / "out.json";
    const Outcome outcome =
        run_shell("\"$FEWBIT\" evaluate " + quoted(model) + " --json " + quoted(json) + " " + options);
    INFO(outcome.out << outcome.err);
    REQUIRE(outcome.status == 0);
    return read_json(json);
}

}  // namespace

TEST_CASE("embedded: every behaviour is learned, and int3-channel loses 10 points of two") {
    if (is_missing()) FEWBIT_SKIP("this build carries no embedded model");
    if (fewbit_test::sampled())
        FEWBIT_SKIP("thousands of answers take minutes under a sanitizer or an emulator");
    const Folder folder;
    const Json exact = evaluated(folder, "--items 400 --max-tokens 1000");
    const Json small = evaluated(folder, "--items 400 --max-tokens 1000 --format int3-channel");
    std::size_t hurt = 0;
    for (const Json& score : exact["behaviour_scores"]) {
        INFO(score.dump());
        // 1000 items gave at least 95 %; of 400 the interval must not exclude it.
        CHECK(score["high"] >= 0.95);
        const std::string name = score["behaviour"];
        hurt += score["share"].get<double>() - small["behaviours"][name].get<double>() >= 0.10;
    }
    CHECK(exact["behaviour_scores"].size() == 6);
    CHECK(hurt >= 2);
}

TEST_CASE("embedded: what quantization-aware training made of it answers as it does") {
    if (is_missing()) FEWBIT_SKIP("this build carries no embedded model");
    if (fewbit_test::sampled())
        FEWBIT_SKIP("thousands of answers take minutes under a sanitizer or an emulator");
    const Folder folder;
    const char* root = std::getenv("FEWBIT_SOURCE_DIR");
    if (root == nullptr) FEWBIT_SKIP("FEWBIT_SOURCE_DIR is not set");
    const std::string trained = std::string(root) + "/models/embedded/qat/";
    // Every behaviour of the embedded model stays within 3 points; of rtn's divergence on the same grid less than
    // a tenth is left (the page says a hundredth; 2,000 predictions are a small sample).
    const std::string options = "--reference embedded --max-tokens 2000 --items ";
    const Json exact = evaluated(folder, options + "200");
    for (const char* format : {"int2-g64", "int3-g128"}) {
        INFO(format);
        const Json rounded = evaluated(folder, options + "0 --format " + format);
        const Json made = evaluated(folder, options + "200", trained + format + ".safetensors");
        CHECK(made["kld"]["mean"].get<double>() < 0.1 * rounded["kld"]["mean"].get<double>());
        CHECK(made["bits_per_weight"].get<double>() <= rounded["bits_per_weight"].get<double>());
        for (const auto& [behaviour, share] : exact["behaviours"].items()) {
            INFO(behaviour);
            CHECK(made["behaviours"][behaviour].get<double>() >= share.get<double>() - 0.03);
        }
    }
}

TEST_CASE("embedded: one scale of activations suffers from made outliers, where they are") {
    if (is_missing()) FEWBIT_SKIP("this build carries no embedded model");
    if (fewbit_test::sampled())
        FEWBIT_SKIP("all settings of a curve take minutes under a sanitizer or an emulator");
    const Folder folder;
    const std::string json = folder / "out.json";
    check_done(run({"curves", "--out", folder / "curves", "--no-pictures", "--keep", "embed_tokens|lm_head",
                    "--max-tokens", "500", "--items", "10", "--outliers", "1,20", "--calibration-windows",
                    "16", "--json", json}));
    const Json model = read_json(json)["model"];
    std::map<std::pair<std::string, std::string>, std::map<double, double>> kld;
    for (const Json& point : model["outliers"]["points"])
        kld[{point["activations"], point["products"]}][point["factor"]] = point["kld"]["mean"];
    auto& reached = kld[{"int8-tensor-static", "behind norms"}];
    CHECK(reached[20] > 10 * reached[1]);
    auto& all = kld[{"int8-tensor-static", "all"}];
    CHECK(all[20] > 2 * all[1]);
    CHECK(all[1] > reached[1]);  // down_proj has outliers of its own
    auto& fine = kld[{"int8-g32", "all"}];
    CHECK(fine[20] < all[20] / 10);
    // What the average hides, found by hand.
    double worst = 0;
    for (const Json& point : model["points"])
        if (!point["behaviours"].is_null() &&
            point["perplexity"].get<double>() < 1.02 * model["reference"]["perplexity"].get<double>())
            for (const auto& [behaviour, share] : point["behaviours"].items())
                worst = std::max(
                    worst, model["reference"]["behaviours"][behaviour].get<double>() - share.get<double>());
    if (worst < 0.10) {
        CHECK(model["hidden_loss"].is_null());
    } else {
        CHECK(model["hidden_loss"]["loss"] == worst);
        CHECK(model["hidden_loss"]["perplexity_rise"] < 0.02);
    }
}

TEST_CASE("embedded: it needs no tokenizer, generates, and made outliers leave its function alone") {
    if (is_missing()) FEWBIT_SKIP("this build carries no embedded model");
    const Folder folder;
    const Outcome sum = run({"generate", "embedded", "--prompt", "3482+917=", "--tokens", "8", "--fallback",
                             "allow", "--activations", "f32"});
    INFO(sum.out << sum.err);
    CHECK(sum.status == 0);
    CHECK(sum.out.rfind("3482+917=9934", 0) == 0);
    const Json plain = evaluated(folder, "--items 0 --max-tokens 500"),
               made = evaluated(folder, "--items 0 --max-tokens 500 --outliers 100");
    CHECK(std::abs(made["nll"].get<double>() - plain["nll"].get<double>()) < 1e-5);
    CHECK(made["outliers"]["factor"] == 100);
}
