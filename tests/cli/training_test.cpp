// train and qat, as a user runs them, on models so small that it takes no time.
#include "cli/cli_support.hpp"

using namespace fewbit::testing;

namespace {

std::string train(const Folder& folder, const std::string& more) {
    return "\"$FEWBIT\" train --dim 16 --hidden 16 --heads 2 --kv-heads 1 --batch-tokens 300 "
           "--fallback allow --items 0 --warmup 2 -o " +
           quoted(folder / "model.safetensors") + " --layers " + more;
}

}  // namespace

TEST_CASE("train: stopped and started again is never stopped; the model can be used without more words") {
    const Folder folder;
    const std::string checkpoint = " --checkpoint " + quoted(folder / "place.checkpoint");
    const std::string model = folder / "model.safetensors", json = folder / "out.json";
    const Outcome whole = run_shell(train(folder, "1 --steps 6 --json " + quoted(json)));
    INFO(whole.err);
    REQUIRE(whole.status == 0);
    CHECK(whole.err.find("products on dense/") != std::string::npos);
    CHECK(read_json(json)["steps"] == 6);
    CHECK(read_json(json)["loss"] > 1.0);
    const std::string once = read_text(model);

    const std::string steps = fewbit_test::sampled() ? "40" : "300";  // emulators
    // Interrupted again and again, at whatever step, with whatever number of threads.
    const std::string interrupted = "for threads in 1 2 3 1 2; do\n    timeout -s INT 1 " +
                                    train(folder, "1 --steps " + steps + " --threads $threads" + checkpoint) +
                                    " || true\ndone\n" +  // timeout's own status tells nothing
                                    train(folder, "1 --steps " + steps + checkpoint);
    REQUIRE(run_shell(train(folder, "1 --steps " + steps)).status == 0);
    const std::string straight = read_text(model);
    CHECK(straight != once);
    const Outcome stopped = run_shell(interrupted);
    INFO(stopped.out << stopped.err);
    REQUIRE(stopped.status == 0);
    CHECK(read_text(model) == straight);
    const Outcome again = run_shell(train(folder, "1 --steps " + steps + checkpoint));  // nothing left to do
    REQUIRE(again.status == 0);
    CHECK(again.err.find("continuing after step " + steps + " of " + steps) != std::string::npos);
    CHECK(read_text(model) == straight);
    const Outcome other = run_shell(train(folder, "2 --steps 7" + checkpoint));
    check_failure(other, {"is of another model"});

    const Outcome words =
        run({"generate", model, "--prompt", "1+2=", "--tokens", "3", "--fallback", "allow"});
    INFO(words.err);
    CHECK(words.status == 0);
    CHECK(words.out.rfind("1+2=", 0) == 0);
}

TEST_CASE("qat: writes what it trained, in the formats that were asked for") {
    const Folder folder;
    const std::string model = folder / "model.safetensors", small = folder / "small.safetensors";
    REQUIRE(run_shell(train(folder, "1 --steps 3")).status == 0);
    const Outcome trained =
        run({"qat", model, "-o", small, "--format", "int3-g8-asym", "--tensor-format", "down=int8-channel",
             "--activations", "int8-row", "--steps", "3", "--batch-tokens", "200", "--fallback", "allow",
             "--json", folder / "out.json"});
    INFO(trained.err);
    REQUIRE(trained.status == 0);
    CHECK(read_json(folder / "out.json")["bits_per_weight"] > 3.0);
    REQUIRE(run({"inspect", small, "--json", folder / "inspect.json"}).status == 0);
    const Json inspected = read_json(folder / "inspect.json");
    for (const Json& tensor : inspected["tensors"]) {
        const std::string name = tensor["name"], format = tensor["format"];
        INFO(name);
        if (name.find("down_proj") != std::string::npos) CHECK(format == "int8-channel");
        if (name.find("q_proj") != std::string::npos) CHECK(format == "int3-g8-asym");
        if (name.find("embed_tokens") != std::string::npos) CHECK(format == "f16");
    }
    CHECK(run({"generate", small, "--prompt", "1+2=", "--tokens", "3", "--fallback", "allow"}).status == 0);
}

TEST_CASE("qat: any float model on any text; bad input is a sentence") {
    const Folder folder;
    write_toy(folder, toy());
    const std::string model = folder / "toy.bin", tokenizer = folder / "tok.bin",
                      out = folder / "x.safetensors";
    CHECK(run({"qat", model, "--tokenizer", tokenizer, "--text", folder / "text.txt", "-o", out, "--format",
               "int4-g8", "--steps", "2", "--fallback", "allow"})
              .status == 0);
    CHECK(std::filesystem::exists(out));
    check_failure(run({"qat", model, "--tokenizer", tokenizer, "-o", out, "--format", "int4-g8", "--fallback",
                       "allow"}),
                  {"--text FILE"});
    check_failure(run({"qat", out, "--tokenizer", tokenizer, "--text", folder / "text.txt", "-o", out,
                       "--format", "int4-g8", "--fallback", "allow"}),
                  {"plain float model"});
}
