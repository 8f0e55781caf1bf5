// The embedded model is what its page says: it answers, few bits hurt it, and made outliers change nothing but
// the activations.
#include <cmath>

#include "cli/cli_support.hpp"

using namespace fewbit::testing;

namespace {

/// A build without the model says so, and the other tests check that it does.
bool is_missing() { return run({"inspect", "embedded"}).status != 0; }

Json evaluated(const Folder& folder, const std::string& options) {
    const std::string json = folder / "out.json";
    const Outcome outcome = run_shell("\"$FEWBIT\" evaluate embedded --json " + quoted(json) + " " + options);
    INFO(outcome.out << outcome.err);
    REQUIRE(outcome.status == 0);
    return read_json(json);
}

}  // namespace

TEST_CASE("embedded: every behaviour is learned, and int3-channel loses 10 points of two") {
    if (is_missing()) FEWBIT_SKIP("this build carries no embedded model");
    if (std::getenv("FEWBIT_CONTRACT_SAMPLE") != nullptr)
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
