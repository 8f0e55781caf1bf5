// Real models give the values that an independent implementation gave, and files survive the way out and
// back.
#include "cli/cli_support.hpp"

using namespace fewbit::testing;

namespace {

std::string shared(const std::string& name) { return shared_file(name).string(); }

double nll_of(const std::string& json) { return read_json(json)["nll"]; }

}  // namespace

TEST_CASE("evaluate: the reference values of both models") {
    struct Model {
        std::string file, tokenizer, documents, context;
        std::size_t tokens;
        double nll;
    };
    const Folder folder;
    for (const Model& model :
         {Model{"models/stories260K/stories260K.bin", "models/stories260K/tok512.bin", "100", "512", 37072,
                1.4076},
          Model{"models/babyllama105/model5000.bin", "models/babyllama105/tok105.derived.bin", "120", "256",
                30600, 0.7078}}) {
        if (shared(model.file).empty()) FEWBIT_SKIP(model.file + " is not in FEWBIT_SHARED_DIR");
        // All documents natively; a few where every instruction is emulated or checked.
        const bool all = !fewbit_test::sampled();
        const Outcome outcome =
            run({"evaluate", shared(model.file), "--tokenizer", shared(model.tokenizer), "--text",
                 shared("text/tinystories.txt"), "--split", "<|endoftext|>", "--max-documents",
                 all ? model.documents : "2", "--context", model.context, "--json", folder / "out.json"});
        INFO(outcome.out << outcome.err);
        REQUIRE(outcome.status == 0);
        if (!all) continue;
        CHECK(read_json(folder / "out.json")["tokens"] == model.tokens);
        CHECK(std::fabs(nll_of(folder / "out.json") - model.nll) < 1e-3);
    }
}

TEST_CASE("quantize, then evaluate the file: the same as quantizing on the fly") {
    const Folder folder;
    write_toy(folder, toy());
    const std::string small = folder / "small.safetensors", back = folder / "back.safetensors";
    const auto evaluate = [&](const std::string& model, std::initializer_list<std::string> more) {
        std::string command = "\"$FEWBIT\" evaluate " + quoted(model) + " --tokenizer " +
                              quoted(folder / "tok.bin") + " --text " + quoted(folder / "text.txt") +
                              " --json " + quoted(folder / "out.json");
        for (const std::string& word : more) command += ' ' + quoted(word);
        const Outcome outcome = run_shell(command);
        INFO(outcome.out << outcome.err);
        REQUIRE(outcome.status == 0);
        return nll_of(folder / "out.json");
    };
    REQUIRE(run({"quantize", folder / "toy.bin", "-o", small, "--format", "int4-g8-asym"}).status == 0);
    CHECK(evaluate(small, {}) == evaluate(folder / "toy.bin", {"--format", "int4-g8-asym"}));
    CHECK(evaluate(small, {}) != evaluate(folder / "toy.bin", {}));
    CHECK(evaluate(folder / "toy.bin", {"--threads", "1"}) ==
          evaluate(folder / "toy.bin", {"--threads", "3"}));
    // A quantized file in, everything kept: the same file out.
    REQUIRE(run({"quantize", small, "-o", back, "--format", "int4-g8-asym"}).status == 0);
    CHECK(read_text(small) == read_text(back));
}

TEST_CASE("generate: the same seed draws the same text") {
    const Folder folder;
    write_toy(folder, toy());
    const auto text = [&](const std::string& seed) {
        const Outcome outcome =
            run({"generate", folder / "toy.bin", "--tokenizer", folder / "tok.bin", "--prompt", "once",
                 "--tokens", "12", "--temperature", "9", "--seed", seed, "--fallback", "allow"});
        INFO(outcome.out << outcome.err);
        REQUIRE(outcome.status == 0);
        CHECK(outcome.err.find("tokens") != std::string::npos);
        CHECK(outcome.err.find("kernel  dense/") != std::string::npos);
        return outcome.out;
    };
    CHECK(text("1") == text("1"));
    CHECK(text("1") != text("2"));
    check_failure(run({"generate", folder / "toy.bin", "--tokenizer", folder / "tok.bin", "--prompt", "a",
                       "--top-p", "2", "--fallback", "allow"}),
                  {"top_p"});
}

TEST_CASE("README.md: the table of kernels is what the program prints") {
    const char* root = std::getenv("FEWBIT_SOURCE_DIR");
    const std::string page = read_text(std::filesystem::path(root ? root : ".") / "README.md");
    const std::string begin = "<!-- kernels:begin -->\n", end = "<!-- kernels:end -->";
    const std::size_t from = page.find(begin), to = page.find(end);
    if (from == std::string::npos || to == std::string::npos)
        FEWBIT_SKIP("README.md has no block kernels:begin .. kernels:end");
    // To renew it: fewbit kernels --markdown, between the two marks.
    CHECK(page.substr(from + begin.size(), to - from - begin.size()) == run({"kernels", "--markdown"}).out);
}
