// --activations: names of the whole grammar run; static ones, which nothing here calibrates, are refused.
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

TEST_CASE("--activations refuses what it cannot run, with the reason") {
    for (const std::string command : {"evaluate", "generate"})
        check_failure(run({command, "x.bin", "--activations", "int8-tensor-static"}),
                      {"--activations", "'int8-tensor-static' needs the ranges"});
    check_failure(run({"bench", "matmul", "--activations", "int8-row,int4-tensor-asym-static"}),
                  {"'int4-tensor-asym-static' needs the ranges"});
    check_failure(run({"evaluate", "x.bin", "--activations", "int8-g32-asym"}), {"groups are symmetric"});
}
