// --kv-cache and --rotate-keys: every command that has them runs with what they say, and says so.
#include "cli/cli_support.hpp"

using namespace fewbit;
using namespace fewbit::testing;

TEST_CASE("--kv-cache: fewer bits diverge more, and the reference keeps f32") {
    const Folder folder;
    write_toy(folder, toy());
    const std::string model = folder / "toy.bin", tokenizer = folder / "tok.bin", text = folder / "text.txt",
                      json = folder / "out.json";
    // The option stands ahead of MODEL: it must not take it for a second name.
    const auto kld = [&](const std::string& cache, bool rotated) {
        std::string line = "\"$FEWBIT\" evaluate --kv-cache " + cache;
        if (rotated) line += " --rotate-keys";
        for (const std::string& argument :
             {model, std::string("--tokenizer"), tokenizer, std::string("--text"), text,
              std::string("--reference"), model, std::string("--json"), json})
            line += ' ' + quoted(argument);
        const Outcome outcome = run_shell(line);
        INFO(outcome.out << outcome.err);
        REQUIRE(outcome.status == 0);
        CHECK(outcome.out.find("kv cache") != std::string::npos);
        const Json body = read_json(json);
        CHECK(body["kv_cache"]["rotation"] == (rotated ? 4 : 0));
        return body["kld"]["mean"].get<double>();
    };
    CHECK(kld("f32", false) == 0);
    for (const bool rotated : {false, true}) {
        const double half = kld("f16", rotated), eight = kld("int8-row", rotated),
                     two = kld("int2-row", rotated);
        CHECK(half > 0);
        CHECK(eight > half);
        CHECK(two > 10 * eight);
    }
    const double keys = kld("int2-row,f32", false), values = kld("f32,int2-row", false);
    CHECK(read_json(json)["kv_cache"]["keys"] == "f32");
    CHECK(read_json(json)["kv_cache"]["values"] == "int2-row");
    CHECK(read_json(json)["kv_cache"]["bits_per_element"] == (32 + 2 + 16.0 / 4) / 2);
    CHECK(keys > 0);
    CHECK(values > 0);
    CHECK(keys != values);
}

TEST_CASE("--kv-cache in generate: it runs, says so, and few enough bits change the text") {
    const auto text = [](const std::string& cache) {
        const Folder folder;
        const std::string json = folder / "out.json";
        const Outcome outcome =
            run({"generate", "embedded", "--prompt", "sort: ", "--temperature", "0", "--tokens", "48",
                 "--kv-cache", cache, "--fallback", "allow", "--json", json});
        INFO(outcome.err);
        REQUIRE(outcome.status == 0);
        CHECK(outcome.err.find(cache + " keys") != std::string::npos);
        CHECK(read_json(json)["kv_cache"]["keys"] == cache);
        return read_json(json)["text"].get<std::string>();
    };
    CHECK(text("f32") != text("int2-row"));
}

TEST_CASE("--kv-cache refuses what no cache can be, before anything long begins") {
    check_failure(run({"evaluate", "embedded", "--kv-cache", "int4"}), {"'int4'", "int4-row"});
    check_failure(run({"evaluate", "embedded", "--kv-cache", "f32,f32,f32"}), {"keys and values"});
    check_failure(run({"generate", "embedded", "--prompt", "a", "--kv-cache", "q4_k"}),
                  {"cache of keys", "heads of 32", "q4_k", "256"});
}
