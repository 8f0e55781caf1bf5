// `fewbit quantize` on models for which calibration takes long: saved statistics, resumed runs, windows on
// disk.
#include <cstring>
#include <utility>

#include "cli/cli_support.hpp"
#include "fewbit/io/safetensors.hpp"

using namespace fewbit;
using namespace fewbit::testing;

namespace {

constexpr const char* from_text = " --calibration text.txt --calibration-split a";

/// quantize toy.bin to `output`.
std::string quantize(const std::string& output, const std::string& options) {
    return "\"$FEWBIT\" quantize toy.bin --tokenizer tok.bin --format int4-g32 -o " + output + " " + options;
}

/// Six blocks, so that the model is much larger than the checkpoint of one.
void write_tall_toy(const Folder& folder) {
    write_toy(folder, toy_model(toy_shape(4, 2, 16, 64, 6, 30, 32, true), 7));
}

}  // namespace

TEST_CASE("statistics: what one run saves, another takes instead of the text") {
    const Folder folder;
    write_tall_toy(folder);
    // Threads change nothing (saved_statistics_test.cpp), so each method takes another number of them.
    const std::pair<std::string, std::string> runs[] = {
        {"--method gptq", "1"}, {"--method awq", "2"}, {"--method rtn --smooth 0.5", "7"}};
    for (const auto& [method, threads] : runs) {
        for (const std::string end : {".safetensors", ".gguf"}) {
            if (fewbit_test::sampled() && (threads != "2" || end != ".gguf")) continue;
            INFO(method << " " << end);
            const Outcome saved = shell_in(
                folder,
                quantize("a" + end, method + from_text + " --save-statistics s.safetensors --json a.json"));
            check_done(saved);
            CHECK(saved.out.find("The statistics are in 's.safetensors'") != std::string::npos);
            const Outcome taken =
                shell_in(folder, quantize("b" + end, method + " --statistics s.safetensors --threads " +
                                                         threads + " --json b.json"));
            check_done(taken);
            CHECK(taken.out.find("Quantized with the statistics in 's.safetensors'") != std::string::npos);
            CHECK(read_text(folder / ("b" + end)) == read_text(folder / ("a" + end)));
            const Json a = read_json(folder / "a.json"), b = read_json(folder / "b.json");
            CHECK(a["layers"] == b["layers"]);
            CHECK(a["calibration"].dump() ==
                  R"({"text":"text.txt","split":"a","statistics":null,"saved_statistics":"s.safetensors"})");
            CHECK(b["calibration"].dump() ==
                  R"({"text":null,"split":"","statistics":"s.safetensors","saved_statistics":null})");
            CHECK_FALSE(std::filesystem::exists(folder / ("a" + end + ".partial")));
            CHECK_FALSE(std::filesystem::exists(folder / ("b" + end + ".partial")));
        }
    }
}

TEST_CASE("statistics: the report tells tokens where layers differ") {
    const Folder folder;
    write_tall_toy(folder);
    const Outcome equal = shell_in(
        folder, quantize("a.safetensors", std::string("--method gptq") + from_text + " --save-statistics s"));
    check_done(equal);
    CHECK(equal.out.find("output err.\n") != std::string::npos);
    auto loaded = io::load_tensors(folder / "s");
    REQUIRE(loaded);
    auto fewer = Tensor::allocate(Scalar::i64, {1});
    REQUIRE(fewer);
    fewer->as_mutable<std::int64_t>()[0] = 17;
    loaded->tensors["model.layers.3.mlp.down_proj/tokens"] = *fewer;
    REQUIRE(io::save_tensors(folder / "t", loaded->tensors));
    const Outcome other = shell_in(folder, quantize("b.safetensors", "--method gptq --statistics t"));
    check_done(other);
    CHECK(other.out.find("output err.  tokens\n") != std::string::npos);
    const std::size_t row = other.out.find("layers.3.mlp.down_proj");
    REQUIRE(row != std::string::npos);
    CHECK(other.out.substr(row, other.out.find('\n', row) - row).ends_with(" 17"));
}

TEST_CASE("resume: a run that was interrupted goes on where it was, and only when asked to") {
    const Folder folder;
    write_tall_toy(folder);
    for (const std::string end : {".safetensors", ".gguf"}) {
        const std::string options = std::string("--method gptq") + from_text, out = "b" + end;
        check_done(shell_in(folder, quantize("a" + end, options)));
        // A disk that fills up when the model is written, played by a limit on the size of files: 60 blocks
        // of 512 or of 1024 bytes hold a checkpoint of one block, and not the model.
        const auto interrupted = shell_in(folder, "ulimit -f 60; " + quantize(out, options));
        check_failure(interrupted, {"b"});
        REQUIRE(std::filesystem::exists(folder / (out + ".partial/block-5.safetensors")));
        CHECK_FALSE(std::filesystem::exists(folder / out));
        check_failure(shell_in(folder, quantize(out, options)), {out + ".partial", "--resume", "delete"});
        check_failure(
            shell_in(folder, quantize(out, "--resume --method gptq --damping 0.02" + std::string(from_text))),
            {"block-0", "the plan"});
        std::filesystem::remove(folder / (out + ".partial/block-4.safetensors"));
        const Outcome resumed = shell_in(folder, quantize(out, options + " --resume --threads 2"));
        check_done(resumed);
        CHECK(resumed.err.find("28 of 42 layers were finished by an earlier run.") != std::string::npos);
        CHECK(read_text(folder / out) == read_text(folder / ("a" + end)));
        CHECK_FALSE(std::filesystem::exists(folder / (out + ".partial")));
        check_done(shell_in(folder, quantize(out, options + " --resume")));  // nothing to go on with
        CHECK(read_text(folder / out) == read_text(folder / ("a" + end)));
        folder.write("b", std::string("x"));
    }
}

TEST_CASE("calibration on disk: budgets change nothing, options that make no sense are refused") {
    const Folder folder;
    write_tall_toy(folder);
    const std::string gptq = std::string("--method gptq") + from_text;
    check_done(shell_in(folder, quantize("a.safetensors", gptq)));
    const std::size_t before = folder.names().size();
    for (const char* memory : {"0", "5000", "1KiB", "2GB"}) {
        check_done(shell_in(folder, quantize("b.safetensors", gptq + " --calibration-memory " + memory)));
        CHECK(read_text(folder / "b.safetensors") == read_text(folder / "a.safetensors"));
        CHECK(folder.names().size() == before + 1);
    }
    check_failure(shell_in(folder, quantize("c.safetensors", gptq + " --calibration-memory much")),
                  {"--calibration-memory"});
    check_failure(shell_in(folder, quantize("c.safetensors", gptq + " --statistics s")), {"--statistics"});
    check_failure(
        shell_in(folder, quantize("c.safetensors", "--method gptq --statistics s --save-statistics t")),
        {"--statistics"});
    check_failure(shell_in(folder, quantize("c.safetensors", "--method gptq --statistics none")), {"none"});
    check_failure(shell_in(folder, quantize("c.safetensors", "--method gptq --statistics a.safetensors")),
                  {"a.safetensors", "statistics"});
    for (const std::string option : {"--statistics s", "--save-statistics s", "--resume"})
        check_failure(shell_in(folder, quantize("c.safetensors", "--method rtn " + option)),
                      {option.substr(0, option.find(' ')), "--method rtn does not calibrate"});
    check_failure(shell_in(folder, quantize("c.safetensors", gptq + " --save-statistics no/s")),
                  {"no folder 'no'"});
    check_failure(shell_in(folder, quantize("c.safetensors", gptq + " --save-statistics toy.bin")),
                  {"toy.bin"});
    check_failure(shell_in(folder, quantize("c.safetensors", gptq + " --save-statistics c.safetensors")),
                  {"c.safetensors"});
    CHECK_FALSE(std::filesystem::exists(folder / "c.safetensors.partial"));
    CHECK_FALSE(std::filesystem::exists(folder / "c.safetensors"));
}
