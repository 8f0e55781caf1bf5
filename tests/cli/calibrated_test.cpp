// `--method gptq`: what is written is what is measured on the fly, in every container; reports and what is refused.
#include <cmath>

#include "cli/cli_support.hpp"

using namespace fewbit::testing;

namespace {

constexpr const char* gptq = "--method gptq --calibration text.txt --calibration-windows 40";

double nll_of(const Folder& folder, const std::string& model, const std::string& options = "") {
    check_done(run_in(
        folder, "evaluate " + model + " --tokenizer tok.bin --text text.txt --json out.json " + options));
    return read_json(folder / "out.json")["nll"].get<double>();
}

}  // namespace

TEST_CASE("gptq: quantize writes what evaluate quantizes in memory, into either container") {
    const Folder folder;
    write_toy(folder, toy_model(toy_shape(4, 2, 16, 64, 2, 30, 32, true), 7));
    const std::string how = std::string("--format int4-g32 ") + gptq;
    for (const char* output : {"small.safetensors", "small.gguf"}) {
        INFO(output);
        const Outcome outcome = run_in(folder, std::string("quantize toy.bin --tokenizer tok.bin -o ") +
                                                   output + " " + how + " --json report.json");
        check_done(outcome);
        CHECK(outcome.out.find("output err.") != std::string::npos);
        CHECK(outcome.out.find("Calibrated with 60 tokens in 2 windows") != std::string::npos);
        const Json report = read_json(folder / "report.json");
        std::size_t quantized = 0;
        for (const Json& layer : report["layers"]) {
            INFO(layer.dump());
            CHECK(layer["quantized"].get<bool>() == !layer["output_error"].is_null());
            if (!layer["quantized"].get<bool>()) continue;
            ++quantized;
            CHECK(layer["method"] == "gptq");
            CHECK(layer["tokens"] == 60);
            CHECK(layer["output_error"].get<double>() < 0.1);
            CHECK(layer["damping"] == 0.01);
        }
        CHECK(quantized == 14);
        // The kernels may differ with the container; the weights do not.
        const double there = nll_of(folder, output), here = nll_of(folder, "toy.bin", how);
        CHECK(there == Approx(here).epsilon(1e-5));
        CHECK(std::abs(there - nll_of(folder, "toy.bin")) < 0.05);
    }
}

TEST_CASE("awq and --smooth: scales that are folded away go into either container") {
    const Folder folder;
    write_toy(folder, toy_model(toy_shape(4, 2, 16, 64, 2, 30, 32, true), 7));
    for (const std::string method :
         {"--method awq --awq-rows 32", "--method rtn --smooth 0.5", "--method gptq --smooth 0.6"}) {
        const bool awq = method.starts_with("--method awq");
        // One layer stays: scales reach what is not quantized, too.
        const std::string how = "--format int4-g32 " + method +
                                " --calibration text.txt --tensor-format layers.0.mlp.down_proj=f32" +
                                (awq ? "" : " --keep lm_head");
        for (const char* output : {"small.safetensors", "small.gguf"}) {
            INFO(method << ", " << output);
            std::string options = how;
            if (std::string(output) == "small.gguf")  // names of the tensors there
                options.replace(options.find("layers.0.mlp.down_proj"), 22, "blk.0.ffn_down");
            const Outcome said = run_in(folder, std::string("quantize toy.bin --tokenizer tok.bin -o ") +
                                                    output + " " + options + " --json report.json");
            check_done(said);
            std::size_t scaled = 0;
            const Json report = read_json(folder / "report.json");
            if (awq) CHECK(report["method_options"].dump() == R"({"rows":32})");
            for (const Json& layer : report["layers"]) scaled += !layer["scales"].is_null();
            CHECK(scaled >= 10);
            const double there = nll_of(folder, output);
            CHECK(there == Approx(nll_of(folder, "toy.bin", how)).epsilon(1e-5));
            CHECK(said.out.find("were scaled first") != std::string::npos);
        }
    }
}

TEST_CASE("rotations and float columns: into fewbit's own files, and nowhere else") {
    const Folder folder;
    write_toy(folder, toy_model(toy_shape(4, 2, 16, 64, 2, 30, 32, true), 7));
    const std::string from = "quantize toy.bin --tokenizer tok.bin -o ",
                      calibration = " --calibration text.txt";
    for (const char* const given :
         {"--format int8-channel --rotate all", "--format int8-channel --rotate down,heads",
          "--format int4-g32 --method owq --extra-bits 0.5",
          "--format int8-channel --method llm-int8 --threshold 1.5",
          "--format int4-g32 --method gptq --rotate all"}) {
        const std::string how = given;
        INFO(how);
        const std::string options = how + (how.find("--method") == std::string::npos ? "" : calibration);
        check_done(run_in(folder, from + "small.safetensors " + options + " --json report.json"));
        CHECK(nll_of(folder, "small.safetensors") ==
              Approx(nll_of(folder, "toy.bin", options)).epsilon(1e-5));
        CHECK(std::abs(nll_of(folder, "small.safetensors") - nll_of(folder, "toy.bin")) < 0.15);
        const Json report = read_json(folder / "report.json");
        CHECK(report["rotations"].is_null() == (how.find("--rotate") == std::string::npos));
        if (how.find("owq") != std::string::npos) {
            CHECK(report["method_options"]["extra_bits"] == 0.5);
            for (const Json& layer :
                 report["layers"])  // ceil(0.5 K / 16) columns of f16, an index each, scales of f16
                if (layer["quantized"].get<bool>())
                    CHECK(layer["bits_per_weight"].get<double>() > 4.5 + 0.45);
        }
        check_failure(run_in(folder, from + "small.gguf " + options), {"GGUF", ".safetensors"});
        if (how.find("gptq") == std::string::npos && how.find("int8") == std::string::npos)
            check_failure(run_in(folder, from + "folder --layout gptq " + options), {"layout gptq"});
    }
    // Saved statistics are of one rotation.
    const std::string gptq_rotated = " --format int4-g32 --method gptq --rotate all";
    check_done(run_in(
        folder, from + "a.safetensors" + gptq_rotated + calibration + " --save-statistics s.safetensors"));
    check_done(run_in(folder, from + "b.safetensors" + gptq_rotated + " --statistics s.safetensors"));
    check_done(run_shell("cmp " + quoted(folder / "a.safetensors") + " " + quoted(folder / "b.safetensors")));
    check_failure(
        run_in(folder, from + "c.safetensors --format int4-g32 --method gptq --statistics s.safetensors"),
        {"s.safetensors", "rotated (residual 64", "this one is not"});
    // Nothing is quantized: the same function.
    CHECK(nll_of(folder, "toy.bin", "--rotate all") == Approx(nll_of(folder, "toy.bin")).epsilon(1e-5));
    check_failure(
        run_in(folder, "evaluate toy.bin --tokenizer tok.bin --text text.txt --rotate residual,knees"),
        {"'knees' is no place", "residual, heads and down"});
    check_failure(
        run_in(folder, from + "small.gguf --format q4_0 --method gptq --column-order permuted" + calibration),
        {"permutes inputs", "GGUF"});
}

TEST_CASE("gptq: options, dry runs and refusals") {
    const Folder folder;
    write_toy(folder, toy_model(toy_shape(4, 2, 16, 64, 2, 30, 32, true), 7));
    const std::string quantize =
        "quantize toy.bin --tokenizer tok.bin -o small.safetensors --format int4-g32 ";
    check_done(run_in(
        folder, quantize + gptq +
                    " --column-order permuted --grid min-max --static-groups --damping 0.1 --asymmetry 0 " +
                    "--calibration-split a --json report.json"));
    const Json report = read_json(folder / "report.json");
    CHECK(
        report["method_options"].dump() ==
        R"({"column_order":"permuted","grid":"min-max","static_groups":true,"damping":0.1,"asymmetry":0.0})");
    CHECK(report["calibration"].dump() ==
          R"({"text":"text.txt","split":"a","statistics":null,"saved_statistics":null})");
    nll_of(folder, "small.safetensors");

    check_done(run_in(folder, "quantize toy.bin --tokenizer tok.bin -o dry.gguf --format q4_0 --dry-run " +
                                  std::string(gptq) + " --json report.json"));
    CHECK(read_json(folder / "report.json")["estimated_seconds"].is_null());
    CHECK_FALSE(std::filesystem::exists(folder / "dry.gguf"));

    check_failure(run_in(folder, quantize + "--method gptq"),
                  {"--method gptq calibrates", "--calibration FILE"});
    check_failure(run_in(folder, quantize + gptq + " --column-order odd"),
                  {"'odd' is not known", "group-aware"});
    check_failure(run_in(folder, quantize + gptq + " --asymmetry 2"), {"--asymmetry"});
    check_failure(run_in(folder, quantize + "--method gptq --calibration none.txt"), {"none.txt"});
    check_failure(run_in(folder, "quantize toy.bin --tokenizer tok.bin -o small.gguf --format int4-g16 " +
                                     std::string(gptq)),
                  {"int4-g16", "q4_0"});
    folder.write("imatrix.dat", std::string(4, '\0'));
    check_failure(
        run_in(folder,
               "quantize toy.bin --tokenizer tok.bin -o small.gguf --format q4_0 --imatrix imatrix.dat " +
                   std::string(gptq)),
        {"imatrix"});
}
