// The n-th allocation fails, for every n: each call ends in an error or a whole result, nothing leaks,
// nothing is left half-written.
#include "allocation_watch.hpp"
#include "fewbit/io/model_safetensors.hpp"
#include "io_support.hpp"
#include "model_support.hpp"
#include "support/catch.hpp"

using namespace fewbit;
using namespace fewbit_test;

namespace {

/// Runs `work` with allocation 0, 1, 2, ... failing until none is left to fail; returns how many there are.
template <class Work, class Prepare>
std::size_t fail_each(Work&& work, Prepare&& prepare) {
    for (std::size_t n = 0; n < 100'000; ++n) {
        prepare();
        bool done = false;
        std::size_t allocations = 0;
        {
            const AllocationWatch watch(n);
            done = work();
            allocations = watch.count();
        }
        if (done && allocations <= n) return n;  // none failed
    }
    FAIL("it never succeeded");
    return 0;
}

}  // namespace

TEST_CASE("no memory while reading a model", "[io][faults]") {
    const TempFolder folder;
    const fs::path path = folder / "m";
    io::ModelFile model;
    std::mt19937 random(2);
    model.linears["a"] = random_linear(*parse_format("int3-g8-asym"), 3, 9, random, true);
    model.vectors["n"] = {1, 2};
    REQUIRE(io::write_safetensors_model(path, model));
    bool named = true;
    const auto needed = fail_each(
        [&] {
            const auto read = io::read_safetensors_model(path);
            named = named && (read || read.error().kind == ErrorKind::out_of_memory);
            return read.has_value();
        },
        [] {});
    CHECK(named);
    CHECK(needed > 50);
}

TEST_CASE("no memory while writing a model", "[io][faults]") {
    const TempFolder folder;
    const fs::path path = folder / "m";
    io::ModelFile model;
    std::mt19937 random(2);
    model.linears["a"] = random_linear(*parse_format("int3-g8-asym"), 3, 9, random, true);
    bool sound = true;
    const auto needed = fail_each(
        [&] {
            const bool done = io::write_safetensors_model(path, model).has_value();
            const bool old = fs::file_size(path) == 3;
            sound = sound && (done != old);
            return done;
        },
        [&] { write_file(path, "old"); });
    CHECK(sound);
    CHECK(needed > 50);
    CHECK(folder.files() == 1);
    CHECK(difference(model, *io::read_safetensors_model(path)) == "");
}
