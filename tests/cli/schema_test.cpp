// docs/json.md is true: every command's JSON has the keys and types of its tables, no more and no less.
#include <map>
#include <set>
#include <sstream>

#include "cli/cli_support.hpp"

using namespace fewbit::testing;

namespace {

struct Key {
    std::string type;
    bool nullable = false;
    bool optional = false;
};
using Section = std::map<std::string, Key>;  // by path, "results[].format"

std::string trimmed(std::string text) {
    text.erase(0, text.find_first_not_of(' '));
    text.erase(text.find_last_not_of(' ') + 1);
    return text;
}

std::map<std::string, Section> read_page() {
    const char* root = std::getenv("FEWBIT_SOURCE_DIR");
    std::istringstream lines(read_text(std::filesystem::path(root ? root : ".") / "docs/json.md"));
    std::map<std::string, Section> page;
    Section* section = nullptr;
    for (std::string line; std::getline(lines, line);) {
        if (line.rfind("## fewbit.", 0) == 0) section = &page[line.substr(3)];
        if (section == nullptr || line.rfind("| ", 0) != 0 || line.rfind("| key |", 0) == 0) continue;
        std::istringstream cells(line);
        std::string nothing, path, type;
        std::getline(cells, nothing, '|'), std::getline(cells, path, '|'), std::getline(cells, type, '|');
        Key key{trimmed(type), false, false};
        for (auto [words, flag] : {std::pair{std::string(", optional"), &key.optional},
                                   std::pair{std::string(" or null"), &key.nullable}})
            if (const auto at = key.type.rfind(words); at != std::string::npos) {
                key.type.erase(at);
                *flag = true;
            }
        CHECK(section->emplace(trimmed(path), key).second);
    }
    return page;
}

bool has_type(const Json& value, const std::string& type) {
    const auto all = [&](auto test) {
        if (!value.is_array()) return false;
        for (const Json& element : value)
            if (!test(element)) return false;
        return true;
    };
    if (type == "string") return value.is_string();
    if (type == "integer") return value.is_number_integer();
    if (type == "number") return value.is_number();
    if (type == "boolean") return value.is_boolean();
    if (type == "object" || type == "object of strings") return value.is_object();
    if (type == "strings") return all([](const Json& e) { return e.is_string(); });
    if (type == "integers") return all([](const Json& e) { return e.is_number_integer(); });
    if (type == "numbers by name")
        return value.is_object() &&
               std::all_of(value.begin(), value.end(), [](const Json& e) { return e.is_number(); });
    if (type == "objects") return all([](const Json& e) { return e.is_object(); });
    return false;
}

/// Compares an object with the rows whose path is `prefix` and one word.
void check_object(const Json& object, const Section& section, const std::string& prefix) {
    std::set<std::string> present;
    for (const auto& [word, value] : object.items()) {
        const std::string path = prefix + word;
        INFO("key " << path << " = " << value.dump().substr(0, 100));
        present.insert(path);
        const auto found = section.find(path);
        REQUIRE(found != section.end());
        const Key& key = found->second;
        if (value.is_null()) {
            CHECK(key.nullable);
            continue;
        }
        CHECK(has_type(value, key.type));
        if (key.type == "object") check_object(value, section, path + ".");
        if (key.type == "objects")
            for (const Json& element : value) check_object(element, section, path + "[].");
    }
    for (const auto& [path, key] : section) {
        if (path.rfind(prefix, 0) != 0 || path.find_first_of(".[", prefix.size()) != std::string::npos)
            continue;
        INFO("documented key " << path);
        CHECK((key.optional || present.count(path) == 1));
    }
}

void check_json(const std::string& path, const std::string& schema) {
    static const std::map<std::string, Section> page = read_page();
    INFO(schema);
    const Json json = read_json(path);
    REQUIRE(json.contains("schema"));
    CHECK(json["schema"] == schema);
    REQUIRE(page.count(schema) == 1);
    check_object(json, page.at(schema), "");
}

}  // namespace

TEST_CASE("docs/json.md: kernels, inspect, quantize, generate") {
    const Folder folder;
    write_toy(folder, toy());
    const std::string json = folder / "out.json", model = folder / "toy.bin",
                      small = folder / "small.safetensors";
    check_done(run({"kernels", "--json", json}));
    check_json(json, "fewbit.kernels/1");
    check_done(run({"inspect", model, "--json", json}));
    check_json(json, "fewbit.inspect/1");
    check_done(run({"quantize", model, "-o", small, "--format", "int4-g8", "--dry-run", "--json", json}));
    check_json(json, "fewbit.quantize/1");
    CHECK_FALSE(std::filesystem::exists(small));
    check_done(
        run({"quantize", model, "-o", small, "--format", "int4-g8", "--method", "mse", "--json", json}));
    check_json(json, "fewbit.quantize/1");
    check_done(run({"quantize", model, "-o", small, "--format", "int4-g8", "--method", "gptq", "--tokenizer",
                    folder / "tok.bin", "--calibration", folder / "text.txt", "--save-statistics",
                    folder / "statistics", "--json", json}));
    check_json(json, "fewbit.quantize/1");
    check_done(run({"quantize", model, "-o", small, "--format", "int4-g8", "--method", "gptq", "--statistics",
                    folder / "statistics", "--json", json}));
    check_json(json, "fewbit.quantize/1");
    check_done(
        run({"quantize", model, "-o", small, "--format", "int4-g8", "--target-bpw", "5.5", "--tokenizer",
             folder / "tok.bin", "--calibration", folder / "text.txt", "--json", json}));
    check_json(json, "fewbit.quantize/1");
    CHECK(read_json(json)["allocation"]["bits_per_weight"] <= 5.5);
    check_done(run({"inspect", small, "--json", json}));
    check_json(json, "fewbit.inspect/1");
    check_done(run({"generate", small, "--tokenizer", folder / "tok.bin", "--prompt", "once", "--tokens", "5",
                    "--fallback", "allow", "--json", json}));
    check_json(json, "fewbit.generate/1");
}

TEST_CASE("docs/json.md: evaluate, with and without a reference") {
    const Folder folder;
    write_toy(folder, toy());
    const std::string json = folder / "out.json", model = folder / "toy.bin";
    check_done(run({"evaluate", model, "--tokenizer", folder / "tok.bin", "--text", folder / "text.txt",
                    "--json", json}));
    check_json(json, "fewbit.evaluate/1");
    CHECK_FALSE(read_json(json).contains("kld"));
    check_done(
        run({"evaluate", model, "--tokenizer", folder / "tok.bin", "--text", folder / "text.txt", "--format",
             "int3-g8", "--reference", model, "--activations", "int8-row", "--json", json}));
    check_json(json, "fewbit.evaluate/1");
    const Json with = read_json(json);
    REQUIRE(with.contains("kld"));
    CHECK(with["kld"]["mean"] > 0.0);
    CHECK(with["reference"]["nll"] != with["nll"]);
    CHECK(with["outliers"].is_null());
    CHECK(with["worst"].size() == 3);

    check_done(run({"evaluate", model, "--tokenizer", folder / "tok.bin", "--text", folder / "text.txt",
                    "--format", "int3-g8", "--target-bpw", "5.5", "--calibration", folder / "text.txt",
                    "--reference", model, "--json", json}));
    check_json(json, "fewbit.evaluate/1");
    check_done(run({"perturb", model, "--tokenizer", folder / "tok.bin", "--text", folder / "text.txt",
                    "--sqnr", "10,20", "--family", "gaussian,clipping", "--json", json}));
    check_json(json, "fewbit.perturb/1");
    check_done(
        run({"evaluate", model, "--tokenizer", folder / "tok.bin", "--text", folder / "text.txt", "--format",
             "int8-channel", "--reference", model, "--outliers", "20", "--worst", "0", "--json", json}));
    check_json(json, "fewbit.evaluate/1");
    CHECK(read_json(json)["worst"].empty());
    CHECK(read_json(json)["outliers"]["factor"] == 20.0);
}

TEST_CASE("docs/json.md: the benchmarks") {
    if (fewbit_test::sampled()) FEWBIT_SKIP("benchmarks take minutes under a sanitizer or an emulator");
    const Folder folder;
    const std::string json = folder / "out.json";
    check_done(run({"bench", "matmul", "--quick", "--threads", "1", "--shapes", "48x72,20x33", "--m", "1,5",
                    "--formats", "int4-g8,int3-channel,bf16", "--activations", "f32,int8-g8", "--fallback",
                    "allow", "--json", json}));
    check_json(json, "fewbit.bench-matmul/1");
    const Json report = read_json(json);
    for (const Json& row : report["results"]) {
        INFO(row.dump());
        CHECK(row["median_seconds"] > 0.0);
        CHECK(row["limit_share"] > 0.0);
        CHECK((row["isa"] != "generic" || row["ratio_to_generic"] == 1.0));
    }
    check_done(run({"bench", "encode", "--quick", "--threads", "1", "--types", "q4_0,q4_k", "--json", json}));
    check_json(json, "fewbit.bench-encode/1");
    const Json encode = read_json(json);
    CHECK(encode["results"].size() >= 8);  // two types, with and without importance, at least two builds
    for (const Json& row : encode["results"]) {
        INFO(row.dump());
        CHECK(row["median_seconds"] > 0.0);
        CHECK((row["encoder"] != "scalar" || row["ratio_to_scalar"] == 1.0));
    }
    check_done(run({"bench",
                    "model",
                    "--quick",
                    "--threads",
                    "2",
                    "--formats",
                    "int4-g32,q4_0,int8-channel,bf16",
                    "--activations",
                    "int8-g32,f32",
                    "--fallback",
                    "allow",
                    "--dim",
                    "64",
                    "--hidden",
                    "96",
                    "--layers",
                    "2",
                    "--heads",
                    "4",
                    "--kv-heads",
                    "2",
                    "--vocabulary",
                    "67",
                    "--prompt",
                    "9",
                    "--generate",
                    "3",
                    "--json",
                    json}));
    check_json(json, "fewbit.bench-model/1");
    const Json model = read_json(json);
    CHECK(model["results"].size() ==
          7 * 2 * 3);  // formats and activations, threads, a prompt and two answers
    CHECK(model["layer_elements"] == 2.0 * (2 * 64 * 64 + 2 * 32 * 64 + 3 * 96 * 64));
    for (const Json& row : model["results"]) {
        INFO(row.dump());
        CHECK(row["tokens_per_second"] > 0.0);
        CHECK(row["limit_share"] > 0.0);
    }
    check_done(run({"bench", "limits", "--quick", "--threads", "1", "--json", json}));
    check_json(json, "fewbit.bench-limits/1");
}

TEST_CASE("docs/json.md: curves") {
    if (fewbit_test::sampled())
        FEWBIT_SKIP("the curves of two synthetic matrices take minutes under a sanitizer or an emulator");
    const Folder folder;
    write_toy(folder, toy());
    const std::string json = folder / "out.json";
    check_done(run({"curves", "--out", folder / "curves", "--no-pictures", "--model", folder / "toy.bin",
                    "--tokenizer", folder / "tok.bin", "--text", folder / "text.txt", "--json", json}));
    check_json(json, "fewbit.curves/1");
    check_json(folder / "curves/curves.json", "fewbit.curves/1");

    // The corpus, behaviours, a model made elsewhere and outliers.
    const std::string model = folder / "model.safetensors", small = folder / "small.safetensors";
    check_done(run({"train", "-o",      model, "--dim",      "64",   "--hidden", "64", "--layers",
                    "1",     "--heads", "2",   "--kv-heads", "2",    "--steps",  "2",  "--batch-tokens",
                    "200",   "--items", "0",   "--fallback", "allow"}));
    check_done(run({"quantize", model, "-o", small, "--format", "int4-g64"}));
    check_done(run({"curves",
                    "--out",
                    folder / "curves",
                    "--no-pictures",
                    "--model",
                    model,
                    "--max-tokens",
                    "50",
                    "--items",
                    "1",
                    "--compare",
                    small,
                    "--outliers",
                    "1,20",
                    "--methods",
                    "rtn,gptq-rotated,owq",
                    "--calibration-windows",
                    "4",
                    "--json",
                    json}));
    check_json(json, "fewbit.curves/1");
    const Json curves = read_json(json);
    CHECK(curves["model"]["compared"].size() == 1);
    CHECK(curves["model"]["outliers"]["points"].size() == 24);
    CHECK(curves["model"]["methods"].size() == 15);
    CHECK(std::filesystem::exists(folder / "curves/behaviours.gp"));
    for (const char* page : {"curves/outliers.gp", "curves/remedies.gp", "curves/methods.gp"})
        CHECK(std::filesystem::exists(folder / page));
}

TEST_CASE("docs/json.md: train and qat") {
    const Folder folder;
    const std::string json = folder / "out.json", model = folder / "model.safetensors";
    check_done(run({"train", "-o",      model, "--dim",      "16",    "--hidden", "16", "--layers",
                    "1",     "--heads", "2",   "--kv-heads", "2",     "--steps",  "2",  "--batch-tokens",
                    "200",   "--items", "0",   "--fallback", "allow", "--json",   json}));
    check_json(json, "fewbit.train/1");
    check_done(run({"qat", model, "-o", folder / "small.safetensors", "--format", "int4-g8", "--steps", "2",
                    "--batch-tokens", "200", "--fallback", "allow", "--json", json}));
    check_json(json, "fewbit.qat/1");
    check_done(run(
        {"evaluate", folder / "small.safetensors", "--max-documents", "5", "--items", "2", "--json", json}));
    check_json(json, "fewbit.evaluate/1");
    CHECK(read_json(json)["behaviours"].size() == 6);
}
