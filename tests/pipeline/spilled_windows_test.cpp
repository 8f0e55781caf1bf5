// Windows that outgrow their budget lie in a temporary file: the same bits for every budget, and nothing left
// behind.
#include "calibration_support.hpp"
#include "src/pipeline/calibration_stream.hpp"

using namespace fewbit;
using namespace fewbit::testing;
using namespace fewbit::pipeline;

TEST_CASE("spilled windows: a stream gives back what was stored, for every budget", "[pipeline][spill]") {
    const ScratchFolder folder;
    const std::vector<std::size_t> tokens{5, 1, 7, 3};
    const std::size_t dim = 6, whole = 16 * dim * sizeof(float);
    for (std::size_t budget = 0; budget <= whole + 8; budget += 8) {
        auto stream = CalibrationStream::create(tokens, dim, budget, folder.path());
        REQUIRE(stream);
        CHECK(stream->memory_bytes() <= budget);
        CHECK((stream->memory_bytes() == whole) == (budget >= whole));
        std::vector<Matrix> given;
        for (std::size_t i = 0; i < tokens.size(); ++i)
            given.push_back(gaussian_matrix(tokens[i], dim, budget + i));
        for (std::size_t i = tokens.size(); i-- > 0;) REQUIRE(stream->store(i, given[i]));
        REQUIRE(stream->store(2, given[2]));
        for (std::size_t i = 0; i < tokens.size(); ++i) {
            const auto back = stream->load(i);
            REQUIRE(back);
            CHECK(back->rows() == tokens[i]);
            CHECK(std::ranges::equal(back->values(), given[i].values()));
        }
    }
    CHECK(std::filesystem::is_empty(folder.path()));
}

TEST_CASE("spilled windows: the quantized model does not depend on the budget", "[pipeline][spill]") {
    const ScratchFolder folder;
    const io::ModelFile file = calibration_toy();
    for (const CalibrationCase& how : calibration_cases(file)) {
        INFO(how.what);
        CalibratedOptions options;
        options.smoothquant = how.smoothquant;
        options.scratch_folder = folder / "none";  // the default budget needs no file
        const auto whole = quantize_calibrated(file, how.plan, calibration_windows(), options);
        REQUIRE(whole);
        options.scratch_folder = folder.path();
        for (const std::size_t budget : {0u, 6000u, 15000u}) {
            if (fewbit_test::sampled() && budget != 6000) continue;
            options.memory_bytes = budget;
            const auto spilled = quantize_calibrated(file, how.plan, calibration_windows(), options);
            REQUIRE(spilled);
            check_same(*spilled, *whole);
        }
    }
    CHECK(std::filesystem::is_empty(folder.path()));

    CalibratedOptions options;
    options.memory_bytes = 0;
    options.scratch_folder = folder / "none";
    const auto error =
        quantize_calibrated(file, plan_of(file, "int4-g16", GptqOptions{}), calibration_windows(), options);
    REQUIRE(!error);
    CHECK(error.error().message.find("cannot make a temporary file in") == 0);
}
