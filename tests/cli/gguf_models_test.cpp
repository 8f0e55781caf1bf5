// GGUF files run like others, with the tokenizer that they bring.
#include "cli/cli_support.hpp"
#include "fewbit/io/model_gguf.hpp"
#include "fewbit/model/tokenizer.hpp"

using namespace fewbit;
using namespace fewbit::testing;

namespace {

/// The toy of the folder once more, as toy.gguf; `change` its metadata.
template <class Change>
void write_gguf_toy(const Folder& folder, const Change& change) {
    const io::ModelFile model = toy();
    const auto tokenizer = model::Tokenizer::read_llama2c(folder / "tok.bin", 30);
    REQUIRE(tokenizer);
    auto metadata = io::gguf_metadata(model, &tokenizer->vocabulary(), {"toy", 0});
    const auto tensors = io::gguf_tensors(model);
    REQUIRE(metadata);
    REQUIRE(tensors);
    change(*metadata);
    REQUIRE(io::write_gguf(folder / "toy.gguf", *metadata, *tensors));
}

double loss(const Folder& folder, const std::string& model, const std::string& tokenizer) {
    std::string command = "\"$FEWBIT\" evaluate " + quoted(model) + " --text " + quoted(folder / "text.txt") +
                          " --json " + quoted(folder / "out.json");
    if (!tokenizer.empty()) command += " --tokenizer " + quoted(tokenizer);
    check_done(run_shell(command));
    return read_json(folder / "out.json")["nll"];
}

}  // namespace

TEST_CASE("evaluate, generate and quantize take GGUF files, with and without --tokenizer") {
    const Folder folder;
    write_toy(folder, toy());
    write_gguf_toy(folder, [](io::GgufMetadata&) {});
    const std::string gguf = folder / "toy.gguf", tok = folder / "tok.bin";
    const double expected = loss(folder, folder / "toy.bin", tok);
    CHECK(loss(folder, gguf, "") == expected);
    CHECK(loss(folder, gguf, tok) == expected);

    const auto text = [&](const std::string& model, const std::string& more) {
        const Outcome outcome = run_shell("\"$FEWBIT\" generate " + quoted(model) + more +
                                          " --prompt once --tokens 12 --seed 3 --fallback allow");
        check_done(outcome);
        return outcome.out;
    };
    CHECK(text(gguf, "") == text(folder / "toy.bin", " --tokenizer " + quoted(tok)));
    check_done(run({"quantize", gguf, "-o", folder / "small.safetensors", "--format", "int4-g8"}));
    check_done(
        run({"quantize", folder / "toy.bin", "-o", folder / "same.safetensors", "--format", "int4-g8"}));
    CHECK(loss(folder, folder / "small.safetensors", tok) == loss(folder, folder / "same.safetensors", tok));
}

TEST_CASE("GGUF files that cannot run say why") {
    const Folder folder;
    write_toy(folder, toy());
    const std::string gguf = folder / "toy.gguf", words = folder / "text.txt";
    const auto set = [](const char* key, io::GgufValue value) {
        return [=](io::GgufMetadata& metadata) {
            std::erase_if(metadata, [&](const auto& pair) { return pair.first == key; });
            metadata.emplace_back(key, value);
        };
    };
    write_gguf_toy(folder, set("tokenizer.ggml.model", io::GgufValue::of_text("gpt2")));
    check_failure(run({"evaluate", gguf, "--text", words}),
                  {"toy.gguf'", "of the kind 'gpt2'", "'llama'", "--tokenizer FILE names another"});
    check_done(run({"evaluate", gguf, "--text", words, "--tokenizer", folder / "tok.bin"}));
    write_gguf_toy(folder, set("general.architecture", io::GgufValue::of_text("qwen2")));
    check_failure(run({"evaluate", gguf, "--text", words}), {"toy.gguf'", "architecture is 'qwen2'"});
    write_gguf_toy(folder, set("llama.rope.scaling.factor", io::GgufValue::of_f32(2)));
    check_failure(run({"generate", gguf, "--prompt", "a"}), {"'llama.rope.scaling.factor' is 2"});
    check_done(run({"inspect", gguf}));
}

TEST_CASE("stories260K.gguf: the reference value of the same model") {
    const auto model = shared_file("models/stories260K/stories260K.gguf"),
               text = shared_file("text/tinystories.txt");
    if (model.empty() || text.empty())
        FEWBIT_SKIP(
            "models/stories260K/stories260K.gguf or text/tinystories.txt is not in FEWBIT_SHARED_DIR");
    const bool all = !fewbit_test::sampled();  // a few where all is emulated
    const Folder folder;
    check_done(
        run({"evaluate", model.string(), "--text", text.string(), "--split", "<|endoftext|>",
             "--max-documents", all ? "100" : "2", "--context", "512", "--json", folder / "out.json"}));
    if (!all) return;
    CHECK(read_json(folder / "out.json")["tokens"] == 37072);
    CHECK(std::fabs(read_json(folder / "out.json")["nll"].get<double>() - 1.4076) < 1e-3);
}
