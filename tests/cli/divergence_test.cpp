// What `fewbit evaluate --reference` shows: positions, worst predictions, made outliers, within 80 columns.
#include <algorithm>
#include <cmath>
#include <sstream>

#include "cli/cli_support.hpp"

using namespace fewbit;
using namespace fewbit::testing;

namespace {

/// Code points; the characters of these tests take one column each.
std::size_t columns(const std::string& line) {
    return static_cast<std::size_t>(std::count_if(
        line.begin(), line.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
}

Outcome evaluate(const Folder& folder, std::initializer_list<std::string> more) {
    std::string command = "\"$FEWBIT\" evaluate " + quoted(folder / "toy.bin") + " --tokenizer " +
                          quoted(folder / "tok.bin") + " --text " + quoted(folder / "text.txt") + " --json " +
                          quoted(folder / "out.json");
    for (const std::string& word : more) command += ' ' + quoted(word);
    Outcome outcome = run_shell(command);
    INFO(outcome.out << outcome.err);
    REQUIRE(outcome.status == 0);
    return outcome;
}

/// The text without the lines that tell the time.
std::string without_speed(const std::string& out) { return out.substr(0, out.rfind("kernel ")); }

}  // namespace

TEST_CASE("evaluate --reference: KLD by position and the worst predictions") {
    const Folder folder;
    write_toy(folder, toy());
    const std::string model = folder / "toy.bin";
    const Outcome shown = evaluate(folder, {"--format", "int2-g8", "--reference", model});
    INFO(shown.out);
    const Json json = read_json(folder / "out.json");
    for (const std::string word : {"99.9 %", "max", "KL divergence by position in the window", "1 to 2",
                                   "17 to 32", "worst 1 ", "worst 3 ", "reference ", "text  "})
        CHECK(shown.out.find(word) != std::string::npos);
    CHECK(shown.out.find("worst 4") == std::string::npos);
    std::istringstream lines(shown.out);
    for (std::string line; std::getline(lines, line);) {
        if (line.find(folder / "") != std::string::npos) continue;  // paths are not cut
        INFO(line);
        CHECK(columns(line) <= 80);
    }

    std::size_t predictions = 0;
    double sum = 0, max = 0;
    for (const Json& bucket : json["kld_by_position"]) {
        const auto count = bucket["predictions"].get<std::size_t>();
        predictions += count;
        sum += bucket["mean"].get<double>() * static_cast<double>(count);
        max = std::max(max, bucket["max"].get<double>());
    }
    CHECK(predictions == json["tokens"].get<std::size_t>());
    CHECK(sum / static_cast<double>(predictions) ==
          Catch::Approx(json["kld"]["mean"].get<double>()).epsilon(1e-13));
    CHECK(json["kld"]["max"] == max);
    const Json interval = json["kld"]["interval"];
    CHECK(interval["confidence"] == 0.95);
    CHECK(interval["resamples"] == 2000);
    CHECK(interval["low"] < json["kld"]["mean"]);
    CHECK(interval["high"] > json["kld"]["mean"]);
    CHECK(shown.out.find("(95 % interval over " + std::to_string(json["windows"].get<std::size_t>()) +
                         " windows)") != std::string::npos);

    REQUIRE(json["worst"].size() == 3);
    CHECK(json["worst"][0]["kld"] == max);
    for (const Json& worst : json["worst"]) {
        INFO(worst.dump());
        CHECK(worst["reference"]["probability"] > 1.0 / 30);  // the largest of 30
        CHECK(worst["model"]["probability"] > 1.0 / 30);
        // A token is a character here. What was read and what came stand in the text in that order; its line
        // ends are the unknown token.
        std::string text = " " + toy_text,
                    read = worst["context"].get<std::string>() + worst["right"]["text"].get<std::string>();
        for (std::size_t at; (at = text.find('\n')) != std::string::npos;) text.replace(at, 1, "<unk>");
        CHECK(text.find(read) != std::string::npos);
        CHECK(worst["position"] < 32);
    }

    // Any number of threads shows and writes the same.
    std::vector<Json> worst, intervals;
    for (const std::string threads : {"1", "2", "5"}) {
        CHECK(without_speed(evaluate(folder, {"--format", "int2-g8", "--reference", model, "--threads",
                                              threads, "--context", "4", "--worst", "7"})
                                .out)
                  .find("worst 7") != std::string::npos);
        worst.push_back(read_json(folder / "out.json")["worst"]);
        intervals.push_back(read_json(folder / "out.json")["kld"]["interval"]);
        CHECK(intervals.back() == intervals.front());
        CHECK(worst.back().size() == 7);
        CHECK(worst.back() == worst.front());
    }
    const Outcome one = evaluate(folder, {"--reference", model, "--max-tokens", "9"});
    CHECK(read_json(folder / "out.json")["windows"] == 1);
    CHECK(read_json(folder / "out.json")["kld"]["interval"].is_null());
    CHECK(one.out.find("without an interval") != std::string::npos);
    check_failure(run({"evaluate", model, "--tokenizer", folder / "tok.bin", "--text", folder / "text.txt",
                       "--worst", "2"}),
                  {"--worst", "--reference"});
    check_failure(run({"evaluate", model, "--text", "t", "--reference", model, "--worst", "1001"}),
                  {"--worst", "1001"});
}

TEST_CASE("evaluate --worst: a text cannot command the terminal") {
    const Folder folder;
    const io::ModelFile model = toy();
    write_toy(folder, model);
    // The tokens of a to f spell something else: ESC, a line end, a quote, a byte that is no UTF-8, C1's CSI,
    // a character of three bytes. Those of o to t are "mn", "mnmn" and so on, to 64 letters.
    std::string vocabulary = read_text(folder / "tok.bin");
    const auto respell = [&](char letter, const std::string& piece) {
        const std::string was = std::string("\1\0\0\0", 4) + letter;
        const std::size_t at = vocabulary.find(was);
        REQUIRE(at != std::string::npos);
        vocabulary.replace(at, was.size(), std::string{static_cast<char>(piece.size()), 0, 0, 0} + piece);
    };
    respell('a', "\x1B"), respell('b', "\n"), respell('c', "\""), respell('d', "\xFF");
    respell('e', "\xC2\x9B"), respell('f', "\xE2\x82\xAC");
    std::string longest = "mn";
    for (const char letter : {'o', 'p', 'q', 'r', 's', 't'}) {
        respell(letter, longest);
        if (letter != 't') longest += longest;
    }
    vocabulary[0] = 64;  // the longest
    folder.write("tok.bin", vocabulary);
    std::string text;
    for (int i = 0; i < 12; ++i) text += "\x1B\n\"\xFF\xC2\x9B\xE2\x82\xACxy" + (i % 4 == 0 ? longest : "");
    folder.write("text.txt", text);

    const Outcome shown =
        evaluate(folder, {"--format", "int2-g8", "--reference", folder / "toy.bin", "--worst", "80"});
    INFO(shown.out);
    for (const char c : shown.out) CHECK((c == '\n' || static_cast<unsigned char>(c) >= 0x20));
    CHECK(shown.out.find("\xC2\x9B") == std::string::npos);
    CHECK(shown.out.find('\xFF') == std::string::npos);
    for (const std::string escape : {"\\x1B", "\\n", "\\\"", "\\xFF", "\\u{9B}", "…"})
        CHECK(shown.out.find(escape) != std::string::npos);
    std::istringstream lines(shown.out);
    for (std::string line; std::getline(lines, line);) {
        if (line.find(folder / "") != std::string::npos) continue;
        INFO(line);
        CHECK(columns(line) <= 80);
        if (line.rfind(std::string(12, ' ') + '"', 0) == 0) CHECK(columns(line) <= 12 + 2 + 60);
    }
    const Json report = read_json(folder / "out.json");
    for (const Json& worst : report["worst"]) CHECK(columns(worst["context"].get<std::string>()) <= 60);
}

TEST_CASE("evaluate --outliers: the float model stays, coarse grids suffer, and the output says so") {
    const Folder folder;
    write_toy(folder, toy());
    const std::string model = folder / "toy.bin";
    (void)evaluate(folder, {});
    const double nll = read_json(folder / "out.json")["nll"];
    const Outcome shown = evaluate(folder, {"--outliers", "100"});
    INFO(shown.out);
    const double with = read_json(folder / "out.json")["nll"];
    CHECK(std::fabs(with - nll) < 1e-5);
    CHECK(with != nll);  // one rounding of the weights
    const Json outliers = read_json(folder / "out.json")["outliers"];
    CHECK(outliers["factor"] == 100.0);
    CHECK(outliers["channels"].size() == 1);
    CHECK(outliers["norms"].size() == 4);
    CHECK(outliers["skipped"] != "");
    for (const std::string word :
         {"outliers    factor 100 in channel ", "not in model.norm", "SmoothQuant", "invert"})
        CHECK(shown.out.find(word) != std::string::npos);
    CHECK(outliers["notice"].get<std::string>().find("SmoothQuant") != std::string::npos);

    // Activations of 8 bits with one scale per row lose more when one channel is 100 times as large. The
    // reference is the same function, outliers or not.
    const auto kld = [&](std::initializer_list<std::string> more) {
        std::vector<std::string> words{"--format", "int8-channel", "--activations",
                                       "int8-row", "--reference",  model};
        words.insert(words.end(), more);
        std::string command = "\"$FEWBIT\" evaluate " + quoted(model) + " --tokenizer " +
                              quoted(folder / "tok.bin") + " --text " + quoted(folder / "text.txt") +
                              " --json " + quoted(folder / "out.json");
        for (const std::string& word : words) command += ' ' + quoted(word);
        REQUIRE(run_shell(command).status == 0);
        const Json json = read_json(folder / "out.json");
        CHECK(std::fabs(json["reference"]["nll"].get<double>() - nll) < 1e-5);
        return json["kld"]["mean"].get<double>();
    };
    CHECK(kld({"--outliers", "100"}) > 10 * kld({}));

    const std::string tokenizer = folder / "tok.bin", text = folder / "text.txt",
                      small = folder / "small.safetensors";
    for (const std::string factor : {"0", "-3", "inf", "nan"})
        check_failure(
            run({"evaluate", model, "--tokenizer", tokenizer, "--text", text, "--outliers", factor}),
            {"factor " + factor, "must be finite and greater than 0"});
    check_failure(run({"evaluate", model, "--tokenizer", tokenizer, "--text", text, "--outliers", "many"}),
                  {"--outliers", "many"});
    REQUIRE(run({"quantize", model, "-o", small, "--format", "int4-g8"}).status == 0);
    check_failure(run({"evaluate", small, "--tokenizer", tokenizer, "--text", text, "--outliers", "20"}),
                  {"small.safetensors'", "q_proj", "int4-g8", "before anything is quantized"});
}
