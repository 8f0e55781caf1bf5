// Statistics that an earlier run saved: they give what that run gave, and where scales were others they are
// converted.
#include <cmath>

#include "calibration_support.hpp"
#include "fewbit/core/thread_pool.hpp"
#include "fewbit/io/safetensors.hpp"

using namespace fewbit;
using namespace fewbit::testing;
using namespace fewbit::pipeline;

namespace {

/// Through a file and back.
Statistics reread(const Statistics& statistics, const ScratchFolder& folder) {
    const auto tensors = to_tensors(statistics);
    REQUIRE(tensors);
    REQUIRE(io::save_tensors(folder / "statistics", *tensors));
    const auto loaded = io::load_tensors(folder / "statistics");
    REQUIRE(loaded);
    const auto back = from_tensors(loaded->tensors);
    REQUIRE(back);
    return *back;
}

CalibratedModel with_windows(const io::ModelFile& file, const CalibrationCase& how) {
    CalibratedOptions options;
    options.smoothquant = how.smoothquant;
    options.keep_statistics = true;
    auto done = quantize_calibrated(file, how.plan, calibration_windows(), options);
    INFO((done ? std::string() : done.error().message));
    REQUIRE(done);
    return *std::move(done);
}

Result<CalibratedModel> from(const io::ModelFile& file, const CalibrationCase& how,
                             const Statistics& statistics, ExecutionContext context = {}) {
    CalibratedOptions options;
    options.smoothquant = how.smoothquant;
    options.statistics = &statistics;
    return quantize_calibrated(file, how.plan, {}, options, context);
}

}  // namespace

TEST_CASE("saved statistics give the bytes of the run that saved them", "[pipeline][statistics]") {
    const ScratchFolder folder;
    const io::ModelFile file = calibration_toy();
    for (const CalibrationCase& how : calibration_cases(file)) {
        INFO(how.what);
        const CalibratedModel gathered = with_windows(file, how);
        const Statistics statistics = reread(gathered.statistics, folder);
        for (const std::size_t threads : {1u, 2u, 7u}) {
            ThreadPool pool(threads);
            const auto again = from(file, how, statistics, pool);
            INFO((again ? std::string() : again.error().message));
            REQUIRE(again);
            check_same(*again, gathered);
            for (const auto& [layer, outcome] : again->layers)
                CHECK(outcome.report.notes == gathered.layers.find(layer)->second.report.notes);
        }
    }
}

TEST_CASE("saved statistics of scaled inputs are converted to other scales", "[pipeline][statistics]") {
    const io::ModelFile file = calibration_toy();
    // Nothing is rounded: with and without scales the model computes the same, and x differs by the scales
    // alone.
    CalibrationCase scaled{"", plan_of(file, "f32", RtnOptions{}), SmoothQuantOptions{}}, plain = scaled;
    plain.smoothquant.reset();
    const Statistics divided = with_windows(file, scaled).statistics,
                     whole = with_windows(file, plain).statistics;
    const std::string query = "model.layers.1.self_attn.q_proj";
    const TensorStatistics &x_over_s = *divided.find(query), &x = *whole.find(query);
    REQUIRE(x_over_s.channel_scales.size() == x.channels());
    CHECK(x.channel_scales.empty());
    double spread = 0;
    for (std::size_t k = 0; k < x.channels(); ++k) {
        const double s = x_over_s.channel_scales[k];
        spread = std::max(spread, std::abs(std::log(s)));
        CHECK(x_over_s.sum_square[k] * s * s == Approx(x.sum_square[k]).epsilon(1e-4));
        // What scales are chosen from was never divided.
        CHECK(divided.find(float_block_name(query))->sum_square[k] == Approx(x.sum_square[k]).epsilon(1e-4));
    }
    CHECK(spread > 0.1);  // else this would show nothing

    // rtn's codes depend on no statistics, its measured error does.
    for (CalibrationCase* how : {&scaled, &plain})
        for (auto& [layer, choice] : how->plan) choice.format = *parse_format("int4-g16");
    const auto check_close = [&](const CalibrationCase& how, const Statistics& other, const Statistics& own) {
        const auto a = from(file, how, other), b = from(file, how, own);
        REQUIRE(a);
        REQUIRE(b);
        for (const auto& [layer, outcome] : a->layers) {
            INFO(layer);
            const LayerOutcome& expected = b->layers.find(layer)->second;
            CHECK(outcome.output_error.has_value() == expected.output_error.has_value());
            if (!outcome.output_error) continue;
            CHECK(*outcome.output_error == Approx(*expected.output_error).epsilon(1e-3));
            const bool converted =
                !outcome.report.notes.empty() &&
                outcome.report.notes.back() ==
                    "tensor '" + layer +
                        "': its statistics are of an input whose channels were scaled otherwise, and were "
                        "converted";
            CHECK(converted == (layer != "lm_head"));
            CHECK(expected.report.notes.empty());
        }
    };
    check_close(plain, divided, whole);
    check_close(scaled, whole, divided);
}

TEST_CASE("saved statistics: what is missing, what does not fit", "[pipeline][statistics]") {
    const io::ModelFile file = calibration_toy();
    CalibrationCase gptq{"", plan_of(file, "int4-g16", GptqOptions{}), std::nullopt}, rtn = gptq, awq = gptq;
    rtn.plan = plan_of(file, "int4-g16", RtnOptions{});
    awq.plan = plan_of(file, "int4-g16", AwqOptions{});
    const Statistics whole = with_windows(file, gptq).statistics;
    const std::string down = "model.layers.1.mlp.down_proj";
    const auto error = [&](const CalibrationCase& how, const Statistics& statistics) {
        const auto done = from(file, how, statistics);
        REQUIRE(!done);
        return done.error().message;
    };

    Statistics less = whole;
    less.tensors.erase(down);
    CHECK(error(gptq, less) == "the statistics have nothing about layer '" + down + "'");
    CHECK(error(awq, less) == "the statistics have nothing about layer '" + down + "'");
    const auto blind = from(file, rtn, less);
    REQUIRE(blind);
    CHECK_FALSE(blind->layers.find(down)->second.output_error.has_value());
    CHECK(blind->layers.find(down)->second.tokens == 0);
    CHECK(blind->layers.find("lm_head")->second.output_error.has_value());

    Statistics other = whole;
    other.tensors[down] = *whole.find("lm_head");
    for (const CalibrationCase* how : {&gptq, &rtn, &awq})
        CHECK(error(*how, other) == "the statistics of layer '" + down + "' are of 32 channels; it reads 40");

    Statistics diagonal = whole;
    for (auto& [layer, one] : diagonal.tensors) one.hessian_sum = one.asymmetry_sum = {};
    CHECK(error(gptq, diagonal).find("Hessian") != std::string::npos);
    const auto measured = from(file, rtn, diagonal);
    REQUIRE(measured);
    CHECK_FALSE(measured->layers.find(down)->second.output_error.has_value());
    CHECK(measured->layers.find(down)->second.tokens == whole.find(down)->tokens);

    Statistics symmetric = whole;
    for (auto& [layer, one] : symmetric.tensors) one.asymmetry_sum = {};
    const auto uncompensated = from(file, gptq, symmetric);
    REQUIRE(uncompensated);
    CHECK(uncompensated->layers.find(down)->second.report.notes.back() ==
          "tensor '" + down +
              "': its statistics do not tell what earlier layers lost, and nothing of that is compensated");

    CalibratedOptions both;
    both.statistics = &whole;
    CHECK(quantize_calibrated(file, gptq.plan, calibration_windows(), both).error().message ==
          "there are statistics and 8 windows to calibrate with; one of them is too much");
}
