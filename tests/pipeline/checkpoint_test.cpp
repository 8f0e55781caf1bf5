// Interrupted quantization: from the files of any number of finished blocks on, the bytes are those of a run
// that was not interrupted; files of other runs and damaged ones are refused with a sentence.
#include "calibration_support.hpp"
#include "fewbit/core/thread_pool.hpp"
#include "fewbit/io/atomic_file.hpp"
#include "fewbit/io/mapped_file.hpp"

using namespace fewbit;
using namespace fewbit::testing;
using namespace fewbit::pipeline;

namespace fs = std::filesystem;

namespace {

/// The checkpoint of an interruption after `blocks` blocks.
void interrupt(const fs::path& whole, const fs::path& copy, std::size_t blocks) {
    fs::remove_all(copy);
    fs::create_directory(copy);
    for (const auto& entry : fs::directory_iterator(whole)) {
        const std::string name = entry.path().filename().string();
        if (name.starts_with("block-") && std::stoul(name.substr(6)) >= blocks) continue;
        fs::copy_file(entry.path(), copy / name);
    }
}

std::string bytes_of(const fs::path& path) {
    const auto file = io::MappedFile::open(path);
    REQUIRE(file);
    return {reinterpret_cast<const char*>((*file)->bytes().data()), (*file)->bytes().size()};
}

void put(const fs::path& path, const std::string& bytes) {
    auto file = io::AtomicFile::create(path);
    REQUIRE(file);
    REQUIRE(file->write(bytes));
    REQUIRE(file->commit());
}

bool same(const Statistics& a, const Statistics& b) {
    const auto one = to_tensors(a), two = to_tensors(b);
    REQUIRE(one);
    REQUIRE(two);
    return std::ranges::equal(*one, *two, [](const auto& x, const auto& y) {
        return x.first == y.first && std::ranges::equal(x.second.bytes(), y.second.bytes());
    });
}

}  // namespace

TEST_CASE("checkpoints: a run that goes on after any block ends as one that was not interrupted",
          "[pipeline][checkpoint]") {
    const ScratchFolder folder;
    const io::ModelFile file = calibration_toy();
    const auto windows = calibration_windows();
    for (const CalibrationCase& how : calibration_cases(file)) {
        CalibratedOptions options;
        options.smoothquant = how.smoothquant;
        options.keep_statistics = true;
        const auto plain = quantize_calibrated(file, how.plan, windows, options);
        REQUIRE(plain);
        options.checkpoint = folder / "whole";
        const auto whole = quantize_calibrated(file, how.plan, windows, options);
        INFO(how.what << (whole ? std::string() : ": " + whole.error().message));
        REQUIRE(whole);
        check_same(*whole, *plain);
        CHECK(same(whole->statistics, plain->statistics));
        options.checkpoint = folder / "copy";
        options.resume = true;
        options.memory_bytes = 5000;  // neither it nor threads matter
        ThreadPool pool(3);
        for (std::size_t blocks = fewbit_test::sampled() ? file.shape.layers - 1 : 0;
             blocks <= file.shape.layers; ++blocks) {
            INFO(blocks << " blocks");
            interrupt(folder / "whole", folder / "copy", blocks);
            std::size_t first_done = how.plan.size();
            options.progress = [&](std::string_view, std::size_t done, std::size_t) {
                first_done = std::min(first_done, done);
            };
            std::size_t replayed = 0;
            options.replay = [&](std::size_t done, std::size_t of) {
                CHECK(done == replayed++);
                CHECK(of == file.shape.layers);
            };
            const auto resumed = quantize_calibrated(file, how.plan, windows, options, pool);
            INFO((resumed ? std::string() : resumed.error().message));
            REQUIRE(resumed);
            check_same(*resumed, *plain);
            CHECK(same(resumed->statistics, plain->statistics));
            for (const auto& [layer, outcome] : resumed->layers)
                CHECK(outcome.report.notes == plain->layers.find(layer)->second.report.notes);
            // What was finished is not done again.
            std::size_t finished = 0;
            for (const auto& [layer, choice] : how.plan)
                for (std::size_t b = 0; b <= blocks; ++b)
                    finished +=
                        layer == "model.embed_tokens"
                            ? b == 0
                            : b < blocks && layer.starts_with("model.layers." + std::to_string(b) + ".");
            CHECK(first_done == finished);
            CHECK(replayed == blocks);
        }
        REQUIRE(remove_checkpoint(folder / "copy"));
        REQUIRE(remove_checkpoint(folder / "whole"));
        CHECK(fs::is_empty(folder.path()));
    }
}

TEST_CASE("checkpoints: with saved statistics, too", "[pipeline][checkpoint]") {
    const ScratchFolder folder;
    const io::ModelFile file = calibration_toy();
    for (const CalibrationCase& how : calibration_cases(file)) {
        CalibratedOptions options;
        options.smoothquant = how.smoothquant;
        options.keep_statistics = true;
        const auto gathered = quantize_calibrated(file, how.plan, calibration_windows(), options);
        REQUIRE(gathered);
        options.keep_statistics = false;
        options.statistics = &gathered->statistics;
        options.checkpoint = folder / "whole";
        REQUIRE(quantize_calibrated(file, how.plan, {}, options));
        interrupt(folder / "whole", folder / "copy", 2);
        options.checkpoint = folder / "copy";
        options.resume = true;
        const auto resumed = quantize_calibrated(file, how.plan, {}, options);
        INFO(how.what << (resumed ? std::string() : ": " + resumed.error().message));
        REQUIRE(resumed);
        check_same(*resumed, *gathered);
        REQUIRE(remove_checkpoint(folder / "whole"));
    }
}

TEST_CASE("checkpoints: of other runs are refused by what differs", "[pipeline][checkpoint]") {
    const ScratchFolder folder;
    const io::ModelFile file = calibration_toy();
    const auto plan = plan_of(file, "int4-g16", GptqOptions{});
    const auto windows = calibration_windows();
    CalibratedOptions options;
    options.checkpoint = folder / "a";
    REQUIRE(quantize_calibrated(file, plan, windows, options));
    CHECK(quantize_calibrated(file, plan, windows, options).error().message ==
          "'" + io::path_text(folder / "a") +
              "' holds 4 files of an interrupted quantization; resume it, or delete the folder");

    options.resume = true;
    const auto differs = [&](const std::string& what, const io::ModelFile& other, const CalibrationPlan& how,
                             const std::vector<std::vector<int>>& text, const CalibratedOptions& with) {
        const auto done = quantize_calibrated(other, how, text, with);
        REQUIRE(!done);
        INFO(done.error().message);
        CHECK(done.error().message.find("is of another run: " + what) != std::string::npos);
    };
    io::ModelFile model = file;
    model.vectors["model.layers.2.input_layernorm"][7] += 1e-6f;
    differs("the model that is to be quantized differs", model, plan, windows, options);
    model = file;
    Linear& down = model.linears.at("model.layers.2.mlp.down_proj");
    Matrix w(down.n(), down.k());
    for (std::size_t r = 0; r < w.rows(); ++r) down.weights.dequantize(r, 0, w.row(r));
    std::swap(w(3, 4), w(3, 5));
    down.weights = *float_matrix(w.view());
    differs("the model that is to be quantized differs", model, plan, windows, options);

    const std::string late = "model.layers.2.mlp.down_proj", what = "the plan (a layer's format";
    auto other = plan;
    other.at(late).format = *parse_format("int4-g8");
    differs(what, file, other, windows, options);
    other = plan;
    std::get<GptqOptions>(other.at(late).method).damping = 0.02;
    differs(what, file, other, windows, options);
    other = plan;
    std::get<GptqOptions>(other.at(late).method).grid.steps = 50;
    differs(what, file, other, windows, options);
    other = plan;
    other.at(late).method = MseOptions{};
    differs(what, file, other, windows, options);
    other = plan;
    other.erase(late);
    differs(what, file, other, windows, options);

    auto text = windows;
    text.back().back() ^= 1;
    differs("what it is calibrated with differs", file, plan, text, options);
    text = windows;  // the same tokens, cut elsewhere
    text[1].insert(text[1].begin(), text[0].back());
    text[0].pop_back();
    differs("what it is calibrated with differs", file, plan, text, options);
    CalibratedOptions smooth = options;
    smooth.smoothquant.emplace();
    differs("the scaling of channels before the method differs", file, plan, windows, smooth);
    CalibratedOptions keep = options;
    keep.keep_statistics = true;
    CHECK(quantize_calibrated(file, plan, windows, keep)
              .error()
              .message.find("statistics were not kept with it") != std::string::npos);
    REQUIRE(quantize_calibrated(file, plan, windows, options));  // and its own run still goes on

    REQUIRE(remove_checkpoint(folder / "none"));
    put(folder / "a/notes.txt", "mine");
    REQUIRE(remove_checkpoint(folder / "a"));  // takes away what it knows
    CHECK(fs::exists(folder / "a/notes.txt"));
    options.resume = false;
    options.checkpoint = folder / "a/notes.txt/b";
    const auto nowhere = quantize_calibrated(file, plan, windows, options);
    REQUIRE(!nowhere);
    CHECK(nowhere.error().message.find("cannot") == 0);
}

TEST_CASE("checkpoints: damaged files are errors, or harmless", "[pipeline][checkpoint]") {
    const ScratchFolder folder;
    const io::ModelFile file = calibration_toy();
    const auto plan = plan_of(file, "int3-g16-asym", AwqOptions{});
    const auto windows = calibration_windows(2);
    CalibratedOptions options;
    options.keep_statistics = true;
    options.checkpoint = folder / "whole";
    const auto whole = quantize_calibrated(file, plan, windows, options);
    REQUIRE(whole);
    options.resume = true;
    for (const char* name :
         {"block-1.safetensors", "block-1.statistics.safetensors", "embedding.safetensors"}) {
        interrupt(folder / "whole", folder / "copy", 2);
        options.checkpoint = folder / "copy";
        const fs::path path = folder / "copy" / name;
        const std::string good = bytes_of(path);
        const auto check = [&](const std::string& bad) {
            put(path, bad);
            const auto done = quantize_calibrated(file, plan, windows, options);
            if (done) {
                check_same(*done, *whole);
                CHECK(same(done->statistics, whole->statistics));
            } else {
                INFO(done.error().message);
                CHECK(done.error().message.find("the checkpoint '") == 0);
            }
            return done.has_value();
        };
        INFO(name);
        CHECK(check(good));
        std::size_t refused = 0, tried = 0;
        Random random(11);
        for (int i = 0; i < 60; ++i) {
            std::string bad = good;
            bad[static_cast<std::size_t>(random.uniform(0, static_cast<double>(bad.size())))] ^=
                static_cast<char>(1 << i % 8);
            refused += !check(bad);
            ++tried;
        }
        CHECK(refused >= tried * 9 / 10);  // a blank behind the header may be another
        for (const std::size_t length :
             {std::size_t{1}, std::size_t{8}, good.size() / 3, good.size() / 2, good.size() - 1})
            CHECK_FALSE(check(good.substr(0, length)));
        CHECK_FALSE(check(good + good));
    }
    // A file of another step.
    interrupt(folder / "whole", folder / "copy", 2);
    put(folder / "copy/block-1.safetensors", bytes_of(folder / "copy/block-0.safetensors"));
    CHECK(quantize_calibrated(file, plan, windows, options)
              .error()
              .message.find("it is not of step 'block-1'") != std::string::npos);
}
