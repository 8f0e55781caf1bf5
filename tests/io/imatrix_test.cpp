// Importance matrices: both containers hold the same, and files that lie are refused.
#include "fewbit/io/imatrix.hpp"

#include <cmath>
#include <limits>
#include <vector>

#include "allocation_watch.hpp"
#include "fewbit/core/text.hpp"
#include "fewbit/io/gguf.hpp"
#include "io_support.hpp"
#include "support/catch.hpp"
#include "support/random.hpp"

using namespace fewbit;
using namespace fewbit_test;
using namespace std::string_literals;

namespace {

std::string i32_bytes(std::int64_t value) {
    return u64_bytes(static_cast<std::uint64_t>(value)).substr(0, 4);
}
std::string entry(std::string_view name, std::int64_t calls, std::int64_t columns,
                  const std::string& values) {
    return i32_bytes(static_cast<std::int64_t>(name.size())) + std::string(name) + i32_bytes(calls) +
           i32_bytes(columns) + values;
}
const std::string one_f32 = "\0\0\x80\x3F"s, two_f32 = "\0\0\0\x40"s, nan_f32 = "\0\0\xC0\x7F"s;

Result<io::ImportanceMatrix> parse_imatrix_copy(std::string_view bytes) {
    const std::vector<char> copy(bytes.begin(), bytes.end());  // ends where the bytes end
    return io::parse_imatrix(std::as_bytes(std::span(copy)), "memory");
}

io::ImportanceMatrix imatrix_example() {
    io::ImportanceMatrix matrix;
    matrix.entries["blk.0.attn_q.weight"] = {{1, 0, 1e-30f, 4}, {2}};
    matrix.entries["blk.0.ffn_up.weight"] = {{5, 6}, {0}};
    matrix.chunks = 7;
    matrix.datasets = {"calibration.txt"};
    return matrix;
}

}  // namespace

TEST_CASE("imatrix: both containers give back what was written", "[io]") {
    const TempFolder folder;
    io::ImportanceMatrix matrix = imatrix_example();
    for (const char* name : {"a.dat", "a.gguf"}) {
        INFO(name);
        REQUIRE(io::write_imatrix(folder / name, matrix));
        const auto read = io::read_imatrix(folder / name);
        INFO(message(read));
        REQUIRE(read);
        REQUIRE(read->entries.size() == 2);
        for (const auto& [key, each] : matrix.entries) {
            CHECK(read->entries.at(key).sums == each.sums);
            CHECK(read->entries.at(key).counts == each.counts);
        }
        CHECK(read->chunks == 7);
        CHECK(read->datasets == matrix.datasets);
        CHECK(read->entries.at("blk.0.attn_q.weight").mean() == std::vector<float>{0.5f, 0, 5e-31f, 2});
        CHECK(read->entries.at("blk.0.ffn_up.weight").mean().empty());
        CHECK(read->entries.at("blk.0.attn_q.weight").mean(1).empty());
    }
    // Experts have a count each, for which only GGUF has a place.
    matrix.entries["blk.0.ffn_up_exps.weight"] = {{1, 2, 3, 4, 5, 6}, {1, 2}};
    matrix.chunk_size = 512;
    REQUIRE(io::write_imatrix(folder / "b.gguf", matrix));
    const auto read = io::read_imatrix(folder / "b.gguf");
    REQUIRE(read);
    CHECK(read->chunk_size == 512);
    CHECK(read->entries.at("blk.0.ffn_up_exps.weight").k() == 3);
    CHECK(read->entries.at("blk.0.ffn_up_exps.weight").mean(1) == std::vector<float>{2, 2.5f, 3});
    CHECK(contains(message(io::write_imatrix(folder / "b.dat", matrix)), "is of 2 experts"));
    matrix.entries["bad"] = {{1, 2, 3}, {1, 2}};
    CHECK(contains(message(io::write_imatrix(folder / "b.gguf", matrix)), "'bad' has 3 sums and 2 counts"));
}

TEST_CASE("imatrix: .dat bytes by hand, with and without the newer files' end", "[io]") {
    const std::string body = i32_bytes(1) + entry("w", 2, 2, one_f32 + two_f32);
    const auto old = parse_imatrix_copy(body);
    REQUIRE(old);
    CHECK(old->entries.at("w").mean() == std::vector<float>{0.5f, 1});
    CHECK(old->datasets.empty());
    const auto recent = parse_imatrix_copy(body + i32_bytes(9) + i32_bytes(3) + "abc");
    REQUIRE(recent);
    CHECK(recent->chunks == 9);
    CHECK(recent->datasets == std::vector<std::string>{"abc"});
    CHECK(parse_imatrix_copy(i32_bytes(0)));
}

TEST_CASE("imatrix: files that lie are refused with a sentence, and cost no memory", "[io]") {
    const std::pair<std::string, const char*> bad[] = {
        {"", "the number of entries takes 4 bytes"},
        {i32_bytes(-1), "is negative (-1)"},
        {i32_bytes(1 << 30), "too few for 1073741824 entries"},
        {i32_bytes(1) + i32_bytes(-5) + "xxxxxxxx", "the length of a name is negative (-5)"},
        {i32_bytes(1) + i32_bytes(100) + "xxxxxxxx", "a name takes 100 bytes"},
        {i32_bytes(1) + entry("w", -1, 1, one_f32), "calls is negative"},
        {i32_bytes(1) + entry("w", 1, -1, one_f32), "columns is negative"},
        {i32_bytes(1) + entry("w", 1, 0x7FFFFFFF, one_f32), "too few for 2147483647 columns"},
        {i32_bytes(1) + entry("w", 1, 2, one_f32), "too few for 2 columns"},
        {i32_bytes(1) + entry("w", 1, 2, one_f32 + nan_f32), "'w', column 1 is nan"},
        {i32_bytes(1) + entry("w", 1, 1, "\0\0\x80\xBF"s), "column 0 is -1"},
        {i32_bytes(1) + entry("w", 1, 1, "\0\0\x80\x7F"s), "column 0 is inf"},
        {i32_bytes(2) + entry("w", 1, 1, one_f32) + entry("w", 1, 1, one_f32), "'w' is there twice"},
        {i32_bytes(0) + "x", "the number of chunks takes 4 bytes"},
        {i32_bytes(0) + i32_bytes(1) + i32_bytes(9), "a name takes 9 bytes"},
        {i32_bytes(0) + i32_bytes(1) + i32_bytes(0) + "more", "4 bytes are left"},
        {"GGUF", "at least 24 bytes"},
    };
    for (const auto& [bytes, sentence] : bad) {
        INFO(sentence);
        const AllocationWatch watch;
        const auto read = parse_imatrix_copy(bytes);
        const std::size_t total = watch.total_bytes();
        REQUIRE_FALSE(read);
        INFO(read.error().message);
        CHECK(contains(read.error().message, sentence));
        CHECK(contains(read.error().message, "'memory'"));
        CHECK(total < 64 * 1024);
    }
}

TEST_CASE("imatrix: GGUF files that are something else, or incomplete", "[io]") {
    const TempFolder folder;
    const auto refusal = [&](std::string_view type,
                             std::vector<std::pair<std::string, std::vector<std::size_t>>> tensors,
                             std::string_view element = "f32") {
        std::vector<io::GgufSource> sources;
        for (auto& [name, sizes] : tensors) {
            std::size_t count = 4;
            for (const std::size_t size : sizes) count *= size;
            sources.push_back({name, io::gguf_tensor_type(element), sizes, [count](auto sink) {
                                   const std::string zeros(count, '\0');
                                   return sink(std::as_bytes(std::span(zeros)));
                               }});
        }
        REQUIRE(io::write_gguf(folder / "a.gguf", {{"general.type", io::GgufValue::of_text(type)}}, sources));
        return message(io::read_imatrix(folder / "a.gguf"));
    };
    CHECK(contains(refusal("model", {}), "its 'general.type' is 'model'"));
    CHECK(refusal("imatrix", {}).empty());
    CHECK(contains(refusal("imatrix", {{"w.in_sum2", {4}}}), "'w' has no counts"));
    CHECK(contains(refusal("imatrix", {{"w.in_sum2", {4, 2}}, {"w.counts", {1}}}),
                   "sums of 2 matrices, but 1 counts"));
    CHECK(contains(refusal("imatrix", {{"w.in_sum2", {4}}, {"w.counts", {1}}}, "i32"), "are not f32"));
}

TEST_CASE("imatrix: counts that cannot be, and counts that .dat files cannot hold", "[io]") {
    const TempFolder folder;
    const float infinite = std::numeric_limits<float>::infinity();
    for (const float count : {-1.0f, std::numeric_limits<float>::quiet_NaN(), infinite}) {
        const auto floats = [](float value) {
            return [value](auto sink) { return sink(std::as_bytes(std::span(&value, 1))); };
        };
        const auto* f32 = io::gguf_tensor_type("f32");
        const io::GgufSource sources[] = {{"w.in_sum2", f32, {1}, floats(1)},
                                          {"w.counts", f32, {1}, floats(count)}};
        REQUIRE(io::write_gguf(folder / "a.gguf", {{"general.type", io::GgufValue::of_text("imatrix")}},
                               sources));
        CHECK(contains(message(io::read_imatrix(folder / "a.gguf")), "the count of 'w' is"));
    }
    for (const float count : {0.5f, 0x1p31f}) {
        io::ImportanceMatrix matrix = imatrix_example();
        matrix.entries["w"] = {{1, 2}, {count}};
        CHECK(contains(message(io::write_imatrix(folder / "a.dat", matrix)), "'w' does not fit a .dat file"));
        CHECK_FALSE(fs::exists(folder / "a.dat"));
    }
}

TEST_CASE("imatrix: every cut and changed byte of a .dat file", "[io]") {
    const TempFolder folder;
    REQUIRE(io::write_imatrix(folder / "a.dat", imatrix_example()));
    const std::string whole = read_file(folder / "a.dat");
    for (std::size_t length = 0; length < whole.size(); ++length)
        (void)parse_imatrix_copy(std::string_view(whole).substr(0, length));
    testing::Random random(6);
    for (int round = 0; round < 20000; ++round) {
        std::string changed = whole;
        changed[random.below(changed.size())] = static_cast<char>(random.bits());
        changed[random.below(changed.size())] = random.below(2) != 0 ? '\xFF' : '\x7F';
        if (const auto read = parse_imatrix_copy(changed))
            for (const auto& [name, each] : read->entries)
                for (const float value : each.mean()) CHECK((value >= 0));
    }
}
