// ScratchFile: what is written comes back, nothing is left in the folder, and a disk that fails gives a sentence.
#include "fewbit/io/scratch_file.hpp"

#include <cerrno>

#include "fault_injection.hpp"
#include "io_support.hpp"
#include "support/catch.hpp"

using namespace fewbit;
using namespace fewbit_test;

namespace {

std::vector<std::byte> pattern(std::size_t bytes, unsigned seed) {
    std::vector<std::byte> out(bytes);
    for (std::size_t i = 0; i < bytes; ++i) out[i] = static_cast<std::byte>(i * 31 + i / 256 + seed);
    return out;
}

}  // namespace

TEST_CASE("scratch files: bytes come back from where they were put", "[io]") {
    const TempFolder folder;
    auto made = io::ScratchFile::create(folder / ".");
    REQUIRE(message(made) == "");
    CHECK(folder.files() == 0);  // nobody sees it
    auto file = std::move(*made);
    const auto first = pattern(100'000, 1), second = pattern(3'000, 2);
    REQUIRE(file.write(0, first));
    REQUIRE(file.write(200'000, second));  // a hole in between
    REQUIRE(file.write(50'000, second));   // over what was there
    std::vector<std::byte> back(203'000);
    REQUIRE(message(file.read(0, back)) == "");
    std::vector<std::byte> expected(203'000);
    std::copy(first.begin(), first.end(), expected.begin());
    for (const std::ptrdiff_t place : {50'000, 200'000})
        std::copy(second.begin(), second.end(), expected.begin() + place);
    CHECK(back == expected);
    REQUIRE(file.write(203'000, {}));
    std::vector<std::byte> beyond(2);
    const std::string sentence = message(file.read(202'999, beyond));
    CHECK(sentence.find("cannot read 2 bytes at 202999") == 0);
    CHECK(sentence.find("the file ends before") != std::string::npos);
    CHECK(folder.files() == 0);
}

TEST_CASE("scratch files: folders that are none, disks that are full", "[io]") {
    const TempFolder folder;
    CHECK(message(io::ScratchFile::create(folder / "none")).find("cannot make a temporary file in") == 0);
    REQUIRE(message(io::ScratchFile::create()) == "");  // the system has a place for them
    if (!Faults::available()) return;
    auto file = io::ScratchFile::create(folder / ".");
    REQUIRE(file);
    const auto bytes = pattern(10'000, 3);
    {
        FaultPlan plan;
        plan.space_bytes = 6'000;
        plan.write_error = ENOSPC;
        const Faults faults(plan);
        const std::string sentence = message(file->write(0, bytes));
        CHECK(sentence.find("cannot write 10000 bytes at 0 of a temporary file in") == 0);
        CHECK(sentence.find("No space left") != std::string::npos);
    }
    {
        FaultPlan plan;
        plan.longest_write_bytes = 700;
        plan.interruptions = 3;
        const Faults faults(plan);
        CHECK(message(file->write(123, bytes)) == "");
    }
    std::vector<std::byte> back(bytes.size());
    REQUIRE(file->read(123, back));
    CHECK(back == bytes);
}
