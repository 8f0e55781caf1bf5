// `--target-bpw` and `fewbit perturb`: budgets are kept and counted as they are stored, plans are what is written and what is
// measured, refusals name the way out.
#include <algorithm>
#include <cmath>
#include <map>
#include <sstream>

#include "cli/cli_support.hpp"

using namespace fewbit::testing;

namespace {

const std::string calibration_text = " --tokenizer tok.bin --calibration text.txt";

void write_model(const Folder& folder) {
    write_toy(folder, toy_model(toy_shape(4, 2, 16, 64, 2, 30, 32, true), 7));
}

void check_80_columns(const std::string& out) {
    std::istringstream lines(out);
    for (std::string line; std::getline(lines, line);) {
        const auto columns =
            std::count_if(line.begin(), line.end(), [](char c) { return (c & 0xC0) != 0x80; });  // UTF-8
        INFO(line);
        CHECK(columns <= 80);
    }
}

}  // namespace

TEST_CASE("--target-bpw: the plan keeps the budget, and is what is written and what is measured") {
    const Folder folder;
    write_model(folder);
    for (const std::string method : {"rtn", "gptq"})
        for (const auto& [output, how] :
             {std::pair<std::string, std::string>{"small.safetensors", "--format int4-g32 --target-bpw 3.8"},
              {"small.gguf", "--format int4-g32 --target-bpw 5.2"}}) {
            if (fewbit_test::sampled() && (method == "rtn") != (output == "small.gguf")) continue;
            INFO(method << " into " << output);
            const std::string options = how + " --method " + method;
            const Outcome outcome = run_in(folder, "quantize toy.bin -o " + output + " " + options +
                                                       calibration_text + " --json report.json");
            check_done(outcome);
            check_80_columns(outcome.out);
            const Json report = read_json(folder / "report.json"), plan = report["allocation"];
            const double target = plan["target"];
            CHECK(plan["layers"].size() == 14);
            CHECK(plan["bits_per_weight"] <= target);
            CHECK(plan["bits_per_weight"] > target - 0.5);
            CHECK(plan["lower_bound"] <= plan["predicted_kld"]);
            CHECK(plan["model_bits_per_weight"] ==
                  Approx(report["bits_per_weight"].get<double>()).epsilon(0.02));
            std::map<std::string, double> stored;  // bits per weight by format
            double bits = 0, weights = 0;
            for (const Json& layer : report["layers"]) {
                INFO(layer.dump());
                if (!layer["quantized"].get<bool>()) continue;
                CHECK(layer["because"] == "--target-bpw");
                const double count = layer["n"].get<double>() * layer["k"].get<double>();
                bits += layer["bits_per_weight"].get<double>() * count;
                weights += count;
                stored[layer["format"]] = layer["bits_per_weight"];
            }
            CHECK(weights == plan["weights"].get<double>());
            CHECK(bits / weights == Approx(plan["bits_per_weight"].get<double>()).epsilon(1e-12));
            CHECK(stored.size() > 1);
            const auto nll = [&](const std::string& what) {
                check_done(run_in(
                    folder, "evaluate " + what + " --tokenizer tok.bin --text text.txt --json out.json"));
                return read_json(folder / "out.json")["nll"].get<double>();
            };
            // The kernels may differ with the container; the weights do not.
            CHECK(nll(output) ==
                  Approx(nll("toy.bin --calibration text.txt " + options +
                             (output == "small.gguf" ? " --candidates int4-g32,int5-g32,int8-g32" : "")))
                      .epsilon(1e-5));
        }
}

TEST_CASE(
    "--target-bpw: more bits are predicted to lose less, no plan more than one format for all of its size") {
    const Folder folder;
    write_model(folder);
    double before = HUGE_VAL;
    for (const char* target : {"2.5", "3.5", "4.5"}) {
        check_done(
            run_in(folder, std::string("quantize toy.bin -o x.safetensors --dry-run --format int4-g32") +
                               calibration_text + " --target-bpw " + target + " --json report.json"));
        const Json plan = read_json(folder / "report.json")["allocation"];
        CHECK(plan["predicted_kld"] < before);
        before = plan["predicted_kld"];
        CHECK(plan["uniform"].size() == 7);
        for (const Json& uniform : plan["uniform"])
            if (uniform["bits_per_weight"] <= plan["target"])
                CHECK(plan["lower_bound"].get<double>() <=
                      uniform["predicted_kld"].get<double>() * (1 + 1e-12));
    }
}

TEST_CASE("--target-bpw: layers that were decided otherwise count, and stay as they were decided") {
    const Folder folder;
    write_model(folder);
    check_done(
        run_in(folder,
               "quantize toy.bin -o x.safetensors --dry-run --format int4-g32 --target-bpw 4 "
               "--candidates int2-g32,int4-g32 --tensor-format down_proj=int8-g32 --keep 'embed|k_proj'" +
                   calibration_text + " --json report.json"));
    const Json report = read_json(folder / "report.json");
    for (const Json& layer : report["layers"]) {
        INFO(layer.dump());
        const std::string name = layer["name"], format = layer["format"];
        if (name.find("down_proj") != std::string::npos)
            CHECK(format == "int8-g32");
        else if (name.find("k_proj") != std::string::npos || name.find("embed") != std::string::npos)
            CHECK(format == "f32");
        else
            CHECK((format == "int2-g32" || format == "int4-g32"));
    }
    CHECK(report["allocation"]["layers"].size() == 12);
    CHECK(report["allocation"]["bits_per_weight"] <= 4.0);
}

TEST_CASE("--target-bpw: refusals") {
    const Folder folder;
    write_model(folder);
    const auto refused = [&](const std::string& options, const std::string& words) {
        const Outcome outcome =
            run_in(folder, "quantize toy.bin -o x.safetensors " + options + calibration_text);
        INFO(outcome.err);
        CHECK(outcome.status == 2);
        CHECK(outcome.err.find(words) != std::string::npos);
    };
    refused("--format int4-g32 --target-bpw 2.25", "has 2.5");
    refused("--format nf4-g32 --target-bpw 4", "--candidates");
    refused("--format q4_k_m --target-bpw 4", "not a mix");
    refused("--target-bpw 4", "--format");
    refused("--format q4_k --target-bpw 4", "needs a multiple of 256");
    refused("--format int4-g32 --candidates q4_k,q5_k --target-bpw 4", "none of the candidates fits");
    refused("--format int4-g32 --candidates int4-g32", "--target-bpw");
}

TEST_CASE("perturb: one row for each layer, the worst first, more error more damage") {
    const Folder folder;
    write_model(folder);
    const Outcome outcome =
        run_in(folder,
               "perturb --tokenizer tok.bin --text text.txt --family "
               "uniform,gaussian,outliers,clipping,large-weights --sqnr 10,30 toy.bin --json out.json");
    check_done(outcome);
    check_80_columns(outcome.out);
    const Json report = read_json(folder / "out.json");
    REQUIRE(report["damages"].size() == 14 * 5 * 2);
    for (std::size_t i = 0; i < report["damages"].size(); i += 2) {
        const Json &much = report["damages"][i], &little = report["damages"][i + 1];
        INFO(much.dump() << little.dump());
        CHECK(much["asked_db"] == 10.0);
        CHECK(much["sqnr_db"] == Approx(10).epsilon(1e-5));
        CHECK(much["layer"] == little["layer"]);
        CHECK(much["kld"] > little["kld"]);
    }
    const auto at = outcome.out.find("uniform errors damage most first");
    REQUIRE(at != std::string::npos);
    const Outcome one =
        run_in(folder, "perturb toy.bin --tokenizer tok.bin --text text.txt --layers 1.*down");
    check_done(one);
    CHECK(one.out.find("layers.1.mlp.down_proj") != std::string::npos);
    CHECK(one.out.find("layers.0") == std::string::npos);
    CHECK(run_in(folder, "perturb toy.bin --tokenizer tok.bin --text text.txt --layers nothing").status == 2);
    CHECK(run_in(folder, "perturb toy.bin --tokenizer tok.bin --text text.txt --family pink").status == 2);
    CHECK(run_in(folder, "perturb toy.bin --tokenizer tok.bin --text text.txt --sqnr loud").status == 2);
}
