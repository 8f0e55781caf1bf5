// What goes wrong gets a sentence, status 2 and no half-written file; what is no gets status 1.
#include <limits>

#include "cli/cli_support.hpp"

using namespace fewbit;
using namespace fewbit::testing;

TEST_CASE("help and version are no errors") {
    for (const std::string command : {"--help", "kernels --help", "quantize --help", "evaluate --help",
                                      "bench matmul --help", "bench model --help"}) {
        const Outcome outcome = run_shell("\"$FEWBIT\" " + command);
        INFO(command << '\n' << outcome.out << outcome.err);
        CHECK(outcome.status == 0);
        CHECK(outcome.err.empty());
        CHECK(outcome.out.find("--help") != std::string::npos);
        std::size_t begin = 0;
        for (std::size_t end; (end = outcome.out.find('\n', begin)) != std::string::npos; begin = end + 1)
            CHECK(end - begin <= 80);
    }
    CHECK(run({"--version"}).out.rfind("fewbit ", 0) == 0);
}

TEST_CASE("a command line that makes no sense") {
    check_failure(run({}), {"name a command", "evaluate"});
    check_failure(run({"frobnicate"}), {"'frobnicate' is no command"});
    check_failure(run({"bench"}), {"matmul", "limits"});
    check_failure(run({"kernels", "--frobnicate"}), {"--frobnicate"});
    check_failure(run({"kernels", "--threads", "-1"}), {"--threads", "'-1'"});
    check_failure(run({"kernels", "--threads", "many"}), {"--threads", "'many'"});
    check_failure(run({"quantize", "x.bin", "-o", "y.safetensors", "--format", "int9"}), {"int9", "9 bits"});
    check_failure(run({"quantize", "x.bin", "-o", "y.safetensors", "--format", "int4-g128-g32"}),
                  {"g32", "second time"});
    check_failure(run({"quantize", "x.bin", "-o", "y.safetensors", "--format", "int4", "--method", "guess"}),
                  {"'guess'", "rtn"});
    check_failure(run({"evaluate", "x.bin", "--text", "t", "--activations", "int4"}), {"int4", "int8-row"});
    check_failure(run({"evaluate", "x.bin", "--text", "t", "--max-documents", "3"}), {"--split"});
    check_failure(run({"generate", "x.bin", "--prompt", "p", "--fallback", "perhaps"}), {"'perhaps'"});
    check_failure(run({"bench", "matmul", "--shapes", "0x64"}), {"'0x64'"});
    check_failure(run({"bench", "matmul", "--shapes", "64"}), {"'64'"});
    check_failure(run({"bench", "matmul", "--shapes", "99999999999x99999999999"}), {"too large"});
    check_failure(run({"bench", "encode", "--types", "q4_z"}), {"'q4_z'", "q4_k"});
    check_failure(run({"bench", "model", "--heads", "5"}), {"5 heads", "2048"});
    check_failure(run({"bench", "model", "--prompt", "0"}), {"--prompt", "'0'"});
    check_failure(run({"bench", "matmul", "--m", "0"}), {"--m", "'0'"});
}

TEST_CASE("files that are not there, or not what they should be") {
    const Folder folder;
    write_toy(folder, toy());
    const std::string model = folder / "toy.bin", tokenizer = folder / "tok.bin", text = folder / "text.txt";
    if (const Outcome embedded = run({"inspect", "embedded"}); embedded.status != 0)
        check_failure(embedded, {"no embedded model"});
    check_failure(run({"inspect", folder / "none.bin"}), {"none.bin"});
    check_failure(run({"inspect", folder / "none.safetensors"}), {"none.safetensors"});
    check_failure(run({"inspect", folder / "none.gguf"}), {"none.gguf"});
    check_failure(run({"evaluate", "model.gguf", "--text", text}), {"cannot open", "model.gguf"});
    check_failure(run({"inspect", text}), {"text.txt", ".safetensors"});
    check_failure(run({"evaluate", model, "--text", text}), {"--tokenizer"});
    check_failure(run({"evaluate", model, "--tokenizer", folder / "none", "--text", text}), {"none"});
    check_failure(run({"evaluate", model, "--tokenizer", model, "--text", text}), {"toy.bin"});
    check_failure(run({"evaluate", model, "--tokenizer", tokenizer, "--text", folder / "none.txt"}),
                  {"none.txt"});
    check_failure(run({"evaluate", model, "--tokenizer", tokenizer, "--text", text, "--context", "33"}),
                  {"33", "32"});
    check_failure(run({"evaluate", model, "--tokenizer", tokenizer, "--text", text, "--context", "1"}),
                  {"--context"});
    folder.write("empty.txt", std::string());
    check_failure(run({"evaluate", model, "--tokenizer", tokenizer, "--text", folder / "empty.txt"}),
                  {"empty.txt"});

    std::vector<std::byte> bytes = llama2c_bytes(toy(), 0);
    bytes.resize(bytes.size() - 100);
    folder.write("short.bin", bytes);
    check_failure(run({"inspect", folder / "short.bin"}), {"short.bin"});
    bytes.resize(12);
    folder.write("header.bin", bytes);
    check_failure(run({"inspect", folder / "header.bin"}), {"header.bin"});
    for (std::size_t at = 0; at < 12; ++at) bytes[at] = std::byte{0xFF};
    bytes.resize(64);
    folder.write("hostile.bin", bytes);
    check_failure(run({"inspect", folder / "hostile.bin"}), {"hostile.bin"});
    folder.write("hostile.safetensors", bytes);
    check_failure(run({"inspect", folder / "hostile.safetensors"}), {"hostile.safetensors"});

    io::ModelFile other = toy_model(toy_shape(2, 1, 4, 16, 1, 40, 32, true), 3);
    folder.write("other.bin", llama2c_bytes(other, 0));
    check_failure(run({"evaluate", folder / "other.bin", "--tokenizer", tokenizer, "--text", text}),
                  {"tok.bin"});
    check_failure(run({"evaluate", model, "--tokenizer", tokenizer, "--text", text, "--reference",
                       folder / "other.bin"}),
                  {"30", "40"});
}

TEST_CASE("NaN in the weights: inspect says no, quantize refuses and names tensor and index") {
    const Folder folder;
    io::ModelFile model = toy();
    const std::string layer = "model.layers.1.mlp.up_proj";
    Matrix values(24, 16);
    for (std::size_t r = 0; r < 24; ++r) model.linears[layer].weights.dequantize(r, 0, values.row(r));
    values(5, 3) = std::numeric_limits<float>::quiet_NaN();
    values(9, 0) = std::numeric_limits<float>::infinity();
    model.linears[layer].weights = *float_matrix(values.view());
    write_toy(folder, model);

    const Outcome inspected = run({"inspect", folder / "toy.bin", "--json", folder / "out.json"});
    CHECK(inspected.status == 1);
    const Json found = read_json(folder / "out.json")["not_finite"];
    REQUIRE(found.size() == 1);
    CHECK(found[0]["tensor"] == layer);
    CHECK(found[0]["index"] == Json({5, 3}));
    CHECK(found[0]["value"] == "NaN");
    CHECK(found[0]["count"] == 2);

    check_failure(
        run({"quantize", folder / "toy.bin", "-o", folder / "small.safetensors", "--format", "int4-g8"}),
        {layer, "5", "3", "NaN"});
    CHECK_FALSE(std::filesystem::exists(folder / "small.safetensors"));
}

TEST_CASE("quantize: overrides, and files that cannot be written") {
    const Folder folder;
    write_toy(folder, toy());
    const std::string model = folder / "toy.bin", out = folder / "small.safetensors";
    check_failure(run({"quantize", model, "-o", out, "--format", "int4", "--tensor-format", "nothing=int8"}),
                  {"nothing=int8"});
    check_failure(run({"quantize", model, "-o", out, "--format", "int4", "--tensor-format", "(=int8"}),
                  {"'('"});
    check_failure(run({"quantize", model, "-o", out, "--format", "int4", "--tensor-format", "up_proj"}),
                  {"REGEX=FORMAT"});
    check_failure(run({"quantize", model, "-o", out, "--format", "int4", "--tensor-format", "up_proj=int1"}),
                  {"int1"});
    check_failure(run({"quantize", model, "-o", folder / "small.gguf", "--format", "int4"}), {"GGUF"});
    check_failure(run({"quantize", model, "-o", folder / "small.txt", "--format", "int4"}), {".safetensors"});
    check_failure(run({"quantize", model, "-o", folder / "no/small.safetensors", "--format", "int4"}),
                  {"no folder"});
    check_failure(run({"kernels", "--json", folder / "no/out.json"}), {"out.json"});
    const std::size_t before = folder.names().size();

    // A disk that fills up, played by a limit on the size of files (in blocks of 512 bytes or of 1 KiB).
    check_failure(run_shell("ulimit -f 1; \"$FEWBIT\" quantize " + quoted(model) + " -o " + quoted(out) +
                            " --format int8 "),
                  {"small.safetensors"});
    CHECK(folder.names().size() == before);
    // And one that is full.
    if (std::filesystem::exists("/dev/full")) {
        const Outcome full = run_shell("\"$FEWBIT\" kernels >/dev/full");
        check_failure(full, {"standard output"});
    } else {
        UNSCOPED_INFO("no /dev/full here");
    }

    Outcome done = run({"quantize", model, "-o", out, "--format", "int4-g8", "--tensor-format",
                        "_proj=int8-channel", "--tensor-format", "up_proj=int3-g8", "--tensor-format",
                        "embed=bf16", "--json", folder / "out.json"});
    INFO(done.out << done.err);
    REQUIRE(done.status == 0);
    const Json report = read_json(folder / "out.json");
    for (const Json& layer : report["layers"]) {
        const std::string name = layer["name"];
        const bool up = name.find("up_proj") != std::string::npos,
                   embedding = name.find("embed") != std::string::npos;
        CHECK(layer["format"] == (up ? "int3-g8" : embedding ? "bf16" : "int8-channel"));
    }
    // What is quantized once is not quantized again, unless it stays as it is.
    check_failure(run({"quantize", out, "-o", folder / "again.safetensors", "--format", "int4"}),
                  {"int8-channel already"});
    check_failure(run({"quantize", out, "-o", out, "--format", "int4"}), {"the model itself"});
}

TEST_CASE("a reader that goes away ends the program quietly") {
    const Outcome outcome = run_shell("{ \"$FEWBIT\" kernels; echo $? >&2; } | true");
    CHECK(outcome.err.find("fewbit") == std::string::npos);
    CHECK((outcome.err == "141\n" || outcome.err == "0\n"));  // 0: all was written before `true` left
}

TEST_CASE("fallbacks are refused where speed is the point, and marked where they run") {
    const Folder folder;
    write_toy(folder, toy());
    const std::string model = folder / "toy.bin", tokenizer = folder / "tok.bin";
    const Outcome refused =
        run({"generate", model, "--tokenizer", tokenizer, "--prompt", "a", "--format", "int4-g12"});
    check_failure(refused, {"int_grouped/generic/int8", "--fallback allow"});
    const Outcome allowed = run({"generate", model, "--tokenizer", tokenizer, "--prompt", "a", "--format",
                                 "int4-g12", "--fallback", "allow"});
    INFO(allowed.out << allowed.err);
    CHECK(allowed.status == 0);
    CHECK(allowed.out.rfind("a", 0) == 0);
    CHECK(allowed.err.find("FALLBACK") != std::string::npos);
    const Outcome nothing = run({"bench", "matmul", "--quick", "--threads", "1", "--shapes", "16x16", "--m",
                                 "1", "--formats", "int4-g12"});
    CHECK(nothing.status == 1);
}
