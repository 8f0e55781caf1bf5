// --activations: names of the whole grammar run; static ones are calibrated by evaluate, refused elsewhere.
#include "cli/cli_support.hpp"

using namespace fewbit;
using namespace fewbit::testing;

TEST_CASE("--activations takes every dynamic format") {
    const Folder folder;
    write_toy(folder, toy());
    const std::string model = folder / "toy.bin", tokenizer = folder / "tok.bin", text = folder / "text.txt",
                      small = folder / "small.safetensors";
    const Outcome quantized = run({"quantize", model, "-o", small, "--format", "int8-channel"});
    INFO(quantized.err);
    REQUIRE(quantized.status == 0);
    for (const std::string name : {"int8-row", "int8-row-asym", "int4-g8", "int6-tensor-asym"}) {
        const Outcome outcome = run({"evaluate", small, "--tokenizer", tokenizer, "--text", text,
                                     "--activations", name, "--fallback", "allow"});
        INFO(name << '\n' << outcome.out << outcome.err);
        CHECK(outcome.status == 0);
        CHECK(outcome.out.find(name) != std::string::npos);
    }
}

TEST_CASE("evaluate calibrates static activations") {
    const Folder folder;
    write_toy(folder, toy());
    const std::string model = folder / "toy.bin", tokenizer = folder / "tok.bin", text = folder / "text.txt",
                      json = folder / "out.json";
    const auto kld = [&](const std::string& activations, std::initializer_list<std::string> more) {
        std::vector<std::string> arguments{"evaluate",    model,   "--tokenizer",   tokenizer,
                                           "--text",      text,    "--format",      "int8-channel",
                                           "--reference", model,   "--activations", activations,
                                           "--fallback",  "allow", "--json",        json};
        arguments.insert(arguments.end(), more);
        std::string line = "\"$FEWBIT\"";
        for (const std::string& argument : arguments) line += ' ' + quoted(argument);
        const Outcome outcome = run_shell(line);
        INFO(outcome.out << outcome.err);
        REQUIRE(outcome.status == 0);
        return read_json(json)["kld"]["mean"].get<double>();
    };
    const double dynamic = kld("int8-row", {});
    const double fixed = kld("int8-tensor-static", {"--calibration", text});
    CHECK(read_json(json)["calibration"]["rule"] == "min-max");
    CHECK(fixed > 0);
    CHECK(fixed < 100 * dynamic);  // coarser, but calibrated: 2-bit codes are far beyond
    CHECK(kld("int2-tensor-static", {"--calibration", text, "--range", "mse"}) > 10 * fixed);
    check_failure(run({"evaluate", model, "--tokenizer", tokenizer, "--text", text, "--format",
                       "int8-channel", "--activations", "int8-tensor-static", "--fallback", "allow"}),
                  {"--calibration FILE"});
    check_failure(run({"evaluate", model, "--text", text, "--range", "wide"}), {"'wide'", "percentile"});
}

TEST_CASE("--activations refuses what it cannot run, with the reason") {
    check_failure(run({"generate", "x.bin", "--prompt", "a", "--activations", "int8-tensor-static"}),
                  {"--activations", "'int8-tensor-static' needs the ranges"});
    check_failure(run({"bench", "matmul", "--activations", "int8-row,int4-tensor-asym-static"}),
                  {"'int4-tensor-asym-static' needs the ranges"});
    check_failure(run({"evaluate", "x.bin", "--activations", "int8-g32-asym"}), {"groups are symmetric"});
}
