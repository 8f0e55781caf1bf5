// Folders in the layouts of others: what `quantize --layout` writes is what every command reads.
#include "cli/cli_support.hpp"

using namespace fewbit;
using namespace fewbit::testing;

namespace {

io::ModelFile larger_toy() { return toy_model(toy_shape(4, 4, 8, 64, 2, 30, 32, true), 7); }

}  // namespace

TEST_CASE("quantize --layout: the same perplexity and the same words as fewbit's own file") {
    const Folder folder;
    write_toy(folder, larger_toy());
    const std::string model = folder / "toy.bin", tokenizer = folder / "tok.bin";
    const auto nll = [&](const std::string& path) {
        check_done(run({"evaluate", path, "--tokenizer", tokenizer, "--text", folder / "text.txt",
                        "--context", "16", "--json", folder / "e.json"}));
        return read_json(folder / "e.json")["nll"].get<double>();
    };
    for (const auto& [format, layout] : {std::pair<std::string, std::string>{"int4-g32", "gptq"},
                                         {"int4-g16-asym", "gptq"},
                                         {"int8-channel-sf16", "gptq"},
                                         {"int4-g32", "compressed-tensors"},
                                         {"int8-channel", "compressed-tensors"},
                                         {"int3-g8-asym", "compressed-tensors"}}) {
        INFO(format << " " << layout);
        const std::string own = folder / "own.safetensors", out = folder / ("out-" + format + layout);
        check_done(run({"quantize", model, "-o", own, "--format", format}));
        const Outcome outcome = run({"quantize", model, "-o", out, "--format", format, "--layout", layout,
                                     "--json", folder / "q.json"});
        check_done(outcome);
        const Json report = read_json(folder / "q.json");
        CHECK(report["layout"] == layout);
        CHECK(report["file_bytes"] == std::filesystem::file_size(out + "/model.safetensors"));
        CHECK(std::filesystem::exists(out + "/config.json"));
        CHECK(nll(out) == nll(own));
        CHECK(nll(out + "/model.safetensors") == nll(own));
        const auto words = [&](const std::string& path) {
            const Outcome said = run({"generate", path, "--tokenizer", tokenizer, "--prompt", "the cat",
                                      "--tokens", "8", "--temperature", "0", "--fallback", "allow"});
            check_done(said);
            return said.out;
        };
        CHECK(words(out) == words(own));
        check_done(run({"inspect", out}));
        // And back into a file of fewbit's own.
        check_done(run({"quantize", out, "-o", folder / "back.safetensors"}));
        CHECK(nll(folder / "back.safetensors") == nll(own));
    }
}

TEST_CASE("quantize --layout: refused before the work, and nothing is left behind") {
    const Folder folder;
    write_toy(folder, larger_toy());
    const std::string model = folder / "toy.bin", out = folder / "out";
    const auto refused = [&](const std::string& format, const std::string& layout,
                             std::initializer_list<std::string> words) {
        for (const bool dry : {true, false})
            check_failure(
                dry ? run({"quantize", model, "-o", out, "--format", format, "--layout", layout, "--dry-run"})
                    : run({"quantize", model, "-o", out, "--format", format, "--layout", layout}),
                words);
        CHECK_FALSE(std::filesystem::exists(out));
    };
    refused("int4-channel", "gptq", {"int4-channel-sf16 fits"});
    refused("int5-g32", "gptq", {"compressed-tensors"});
    refused("int4-g32-fzero", "compressed-tensors", {"int4-g32-asym fits"});
    refused("q8_0", "gptq", {".gguf"});
    refused("int4-g40", "compressed-tensors", {"K = 64", "gptq"});
    refused("f16", "gptq", {"no layer is quantized"});
    check_failure(run({"quantize", model, "-o", out, "--format", "int4-g32", "--layout", "gptq",
                       "--tensor-format", "v_proj=int8-g32"}),
                  {"one format for all", "compressed-tensors"});
    check_failure(run({"quantize", model, "-o", out, "--format", "int4-g32", "--layout", "awq"}),
                  {"--layout"});
    check_failure(run({"quantize", model, "-o", out, "--format", "int4-g32"}), {"--layout"});
    check_failure(
        run({"quantize", model, "-o", out + ".safetensors", "--format", "int4-g32", "--layout", "gptq"}),
        {"writes a folder"});
    check_failure(
        run({"quantize", model, "-o", folder / "text.txt", "--format", "int4-g32", "--layout", "gptq"}),
        {"is a file"});
    check_failure(run({"quantize", model, "-o", folder / "", "--format", "int4-g32", "--layout", "gptq"}),
                  {"the model itself lies in"});
    check_done(
        run({"quantize", model, "-o", out + "/", "--format", "int4-g32", "--layout", "gptq", "--dry-run"}));
    CHECK_FALSE(std::filesystem::exists(out));
    check_done(run({"quantize", model, "-o", out + "/", "--format", "int4-g32", "--layout", "gptq"}));
    check_failure(run({"quantize", out, "-o", out, "--layout", "gptq"}), {"is the model itself"});
}
