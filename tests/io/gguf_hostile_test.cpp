// GGUF files that lie. Each must end in a sentence: no crash, no endless work, no memory that the file does not
// justify. The hazards are those of published advisories on readers of this format (CVE-2024-21802, -21825,
// -21836, -23496, -23605; CVE-2025-49847, -53630; CVE-2026-27940, -33298, -7482, -53923).
#include <nlohmann/json.hpp>
#include <set>
#include <vector>

#include "allocation_watch.hpp"
#include "fewbit/io/gguf.hpp"
#include "io_support.hpp"
#include "support/catch.hpp"
#include "support/random.hpp"
#include "support/shared_data.hpp"

using namespace fewbit;
using namespace fewbit_test;
using namespace std::string_literals;
using Json = nlohmann::json;

namespace {

std::string u32_bytes(std::uint32_t value) { return u64_bytes(value).substr(0, 4); }
std::string string_bytes(std::string_view text) { return u64_bytes(text.size()) + std::string(text); }

std::string header(std::uint64_t tensors, std::uint64_t pairs, std::uint32_t version = 3) {
    return "GGUF" + u32_bytes(version) + u64_bytes(tensors) + u64_bytes(pairs);
}
std::string pair(std::string_view key, std::uint32_t kind, const std::string& value) {
    return string_bytes(key) + u32_bytes(kind) + value;
}
std::string array(std::uint32_t element, std::uint64_t count, const std::string& elements) {
    return u32_bytes(element) + u64_bytes(count) + elements;
}
std::string tensor(std::string_view name, const std::vector<std::uint64_t>& sizes, std::uint32_t type,
                   std::uint64_t offset) {
    std::string out = string_bytes(name) + u32_bytes(static_cast<std::uint32_t>(sizes.size()));
    for (const std::uint64_t size : sizes) out += u64_bytes(size);
    return out + u32_bytes(type) + u64_bytes(offset);
}
/// Padding up to 32, then data.
std::string with_data(std::string head, std::size_t data) {
    head.resize((head.size() + 31) / 32 * 32);
    return head + std::string(data, 'd');
}
/// A file of one tensor.
std::string one(const std::vector<std::uint64_t>& sizes, std::uint32_t type, std::uint64_t offset = 0,
                std::size_t data = 64, std::string_view name = "t") {
    return with_data(header(1, 0) + tensor(name, sizes, type, offset), data);
}
std::string one_pair(const std::string& bytes) { return header(0, 1) + bytes; }

/// Parses a copy that ends exactly where the bytes end, so that sanitizers see every byte read too many.
Result<io::GgufFile> parse_copy(std::string_view bytes) {
    const std::shared_ptr<std::byte[]> copy(new std::byte[bytes.size()]);
    for (std::size_t i = 0; i < bytes.size(); ++i) copy[i] = static_cast<std::byte>(bytes[i]);
    return io::parse_gguf({copy.get(), bytes.size()}, copy, "memory");
}

/// Touches everything that a caller could ask of an accepted file.
std::size_t touch_all(const io::GgufFile& file) {
    std::size_t sum = 0;
    for (const auto& [key, value] : file.metadata) {
        sum += key.size() + value.bytes().size() + value.as_text().value_or("").size();
        if (const auto texts = value.as_texts())
            for (const std::string_view each : *texts)
                for (const char c : each) sum += static_cast<unsigned char>(c);
        if (const auto floats = value.as_floats()) sum += floats->size();
        if (const auto integers = value.as_integers()) sum += integers->size();
        sum += value.as_unsigned().value_or(0) != 0;
        sum += value.as_signed().value_or(0) != 0;
        sum += value.as_real().value_or(0) != 0;
        sum += value.as_boolean().value_or(false);
    }
    for (const io::GgufTensor& each : file.tensors) {
        for (const std::byte byte : each.bytes) sum += static_cast<unsigned char>(byte);
        sum += each.rows() + each.row_elements();
    }
    return sum;
}

struct BadGguf {
    const char* what;
    std::string bytes;
    const char* sentence;  // must stand in the message
};

std::vector<BadGguf> bad_ggufs() {
    const std::uint64_t most = ~std::uint64_t{0}, high = std::uint64_t{1} << 63;
    const std::string alignment = "general.alignment";
    return {
        {"nothing", "", "at least 24 bytes"},
        {"half a header", header(0, 0).substr(0, 23), "at least 24 bytes"},
        {"another magic", "GGUf" + header(0, 0).substr(4), "does not begin with 'GGUF'"},
        {"ggjt", "tjgg" + header(0, 0).substr(4), "does not begin with 'GGUF'"},
        {"version 0", header(0, 0, 0), "of version 0"},
        {"version 1", header(0, 0, 1), "of version 1"},
        {"version 4", header(0, 0, 4), "of version 4"},
        {"big-endian", header(0, 0, 0x03000000), "big-endian"},
        {"pairs: 2^64 - 1", header(0, most), "too few for 18446744073709551615 pairs"},
        {"pairs: one too many", header(0, 2) + pair("k", 4, u32_bytes(1)), "too few for 2 pairs"},
        {"tensors: 2^63", header(high, 0), "too few for 9223372036854775808 tensors"},
        {"tensors: one too many", with_data(header(2, 0) + tensor("t", {1}, 0, 0), 64),
         "a tensor's name takes"},
        {"key beyond the file", one_pair(u64_bytes(1 << 20) + std::string(14, 'k')), "takes 1048576 bytes"},
        {"key of 2^64 - 1", one_pair(u64_bytes(most) + std::string(14, 'k')), "takes 18446744073709551615"},
        {"empty key", one_pair(pair("", 4, u32_bytes(1))), "is empty"},
        {"NUL in a key", one_pair(pair("k\0y"s, 4, u32_bytes(1))), "holds a NUL"},
        {"a key twice", header(0, 2) + pair("k", 4, u32_bytes(1)) + pair("k", 0, "x"), "is there twice"},
        {"kind 13", one_pair(pair("k", 13, u64_bytes(0))), "of kind 13"},
        {"kind -1", one_pair(pair("k", 0xFFFFFFFF, u64_bytes(0))), "of kind 4294967295"},
        {"text beyond the file", one_pair(pair("k", 8, u64_bytes(100) + "abc")), "takes 100 bytes"},
        {"text of 2^64 - 1", one_pair(pair("k", 8, u64_bytes(most) + "abc")), "takes 18446744073709551615"},
        {"array of arrays", one_pair(pair("k", 9, array(9, 1, array(4, 1, u32_bytes(1))))),
         "array of arrays"},
        {"array of kind 99", one_pair(pair("k", 9, array(99, 1, u64_bytes(1)))), "of kind 99"},
        {"array: count * 4 wraps",
         one_pair(pair("k", 9, array(5, (std::uint64_t{1} << 62) + 1, u64_bytes(1)))),
         "too few for 4611686018427387905 elements"},
        {"texts: 2^61", one_pair(pair("k", 9, array(8, std::uint64_t{1} << 61, u64_bytes(0)))),
         "too few for"},
        {"texts: the second is missing", one_pair(pair("k", 9, array(8, 2, u64_bytes(8) + "abcdefgh"))),
         "takes 8 bytes, but only 0 are left"},
        {"texts: the second is cut", one_pair(pair("k", 9, array(8, 2, u64_bytes(0) + u64_bytes(1)))),
         "takes 1"},
        {"alignment 0", one_pair(pair(alignment, 4, u32_bytes(0))), "is 0; it must be a power of two"},
        {"alignment 24", one_pair(pair(alignment, 4, u32_bytes(24))), "is 24; it must"},
        {"alignment 2^31", one_pair(pair(alignment, 4, u32_bytes(1u << 31))), "is 2147483648; it must"},
        {"alignment as u64", one_pair(pair(alignment, 10, u64_bytes(32))), "of kind u64, not u32"},
        {"alignment as a text", one_pair(pair(alignment, 8, string_bytes("32"))), "of kind text, not u32"},
        {"data behind the end",
         header(1, 1) + pair(alignment, 4, u32_bytes(1 << 20)) + tensor("t", {0}, 0, 0), "should begin at"},
        {"name beyond the file", with_data(header(1, 0) + u64_bytes(1 << 20), 32), "takes 1048576 bytes"},
        {"empty name", one({1}, 0, 0, 64, ""), "cannot be called ''"},
        {"NUL in a name", one({1}, 0, 0, 64, "t\0t"s), "cannot be called"},
        {"name of 65 bytes", one({1}, 0, 0, 64, std::string(65, 'n')), "names have 1 to 64 bytes"},
        {"five dimensions", one({1, 1, 1, 1, 1}, 0), "has 5 dimensions"},
        {"2^32 - 1 dimensions", with_data(header(1, 0) + string_bytes("t") + u32_bytes(0xFFFFFFFF), 64),
         "has 4294967295 dimensions"},
        {"elements wrap", one({std::uint64_t{1} << 40, std::uint64_t{1} << 40}, 0), "overflows"},
        {"elements wrap to 0", one({std::uint64_t{1} << 32, std::uint64_t{1} << 32}, 0), "overflows"},
        {"elements wrap to 4", one({4, (std::uint64_t{1} << 62) + 1}, 0), "overflows"},
        {"a zero hides an overflow", one({std::uint64_t{1} << 40, std::uint64_t{1} << 40, 0}, 0),
         "overflows"},
        {"bytes wrap", one({std::uint64_t{1} << 61}, 28), "overflows"},
        {"a negative dimension", one({high + 32}, 24), "overflows"},
        {"rows that fill no blocks", one({31}, 2), "rows of 31 elements do not fill blocks of 32"},
        {"type 99", one({1}, 99), "of type 99, which does not exist"},
        {"a removed type", one({32}, 4), "of type 4, which does not exist"},
        {"type -1", one({1}, 0xFFFFFFFF), "of type 4294967295"},
        {"offset beyond the end", one({1}, 0, 1 << 20), "takes 4 bytes from byte 1048576"},
        {"offset 2^64 - 32", one({16}, 0, most - 31), "the file holds only 64 bytes of data"},
        {"the end beyond the end", one({17}, 0, 0), "takes 68 bytes from byte 0"},
        {"offset at the end", one({1}, 0, 64), "takes 4 bytes from byte 64"},
        {"no multiple of the alignment", one({1}, 0, 4), "no multiple of the alignment 32"},
        {"inside another tensor",
         with_data(header(2, 0) + tensor("a", {12}, 0, 0) + tensor("b", {1}, 0, 32), 64),
         "inside another tensor"},
        {"a name twice", with_data(header(2, 0) + tensor("a", {1}, 0, 0) + tensor("a", {1}, 0, 32), 64),
         "two tensors are called 'a'"},
    };
}

/// Where the reference's verdict is a matter of taste, ours.
const std::set<std::string> accepted_of_taste{
    "version_2.gguf",        "bool_value_2.gguf",         "invalid_utf8_value.gguf",
    "trailing_garbage.gguf", "tail_padding_missing.gguf", "zero_dim.gguf",
    "no_dims.gguf",          "offset_gap.gguf",           "tensor_name_64_bytes.gguf"};

}  // namespace

TEST_CASE("gguf: files that lie are refused with a sentence, and cost no memory", "[io]") {
    for (const BadGguf& bad : bad_ggufs()) {
        INFO(bad.what);
        const AllocationWatch watch;
        const auto file = parse_copy(bad.bytes);
        const std::size_t total = watch.total_bytes();
        REQUIRE_FALSE(file);
        INFO(file.error().message);
        CHECK(contains(file.error().message, bad.sentence));
        CHECK(contains(file.error().message, "'memory'"));
        CHECK(total < 64 * 1024);
    }
}

TEST_CASE("gguf: odd files that are right are read", "[io]") {
    CHECK(parse_copy(header(0, 0)));
    CHECK(parse_copy(header(0, 0, 2)));
    CHECK(parse_copy(one({}, 0)));
    CHECK(parse_copy(one({0, 5}, 2)));
    CHECK(parse_copy(one({1}, 0, 32)));  // a hole before it
    CHECK(parse_copy(one({16}, 0)));     // fills the data
    CHECK(parse_copy(one({1}, 0, 0, 64, std::string(64, 'n'))));
    CHECK(parse_copy(with_data(header(2, 0) + tensor("b", {1}, 0, 32) + tensor("a", {8}, 0, 0), 64)));
    CHECK(parse_copy(one_pair(pair("k", 7, "\2"))));
    CHECK(parse_copy(one_pair(pair("k", 9, array(8, 0, "")) + "padding")));
}

TEST_CASE("gguf: the reference's damaged files", "[io]") {
    const auto list = testing::shared_file("vectors/ggml/gguf/malformed.json");
    if (list.empty()) FEWBIT_SKIP("vectors/ggml is not in FEWBIT_SHARED_DIR");
    const Json files = Json::parse(read_file(list))["files"];
    CHECK(files.size() >= 58);
    for (const Json& entry : files) {
        const std::string name = entry["file"];
        INFO(name << ": " << entry["defect"].get<std::string>());
        const auto file = parse_copy(read_file(testing::shared_file("vectors/ggml/gguf/" + name)));
        INFO(message(file));
        if (entry["expect"] == "reject")
            CHECK_FALSE(file);
        else
            CHECK(bool(file) == (accepted_of_taste.count(name.substr(name.find('/') + 1)) == 1));
        if (file) CHECK(touch_all(*file) > 0);
    }
}

TEST_CASE("gguf: every cut and thousands of changed bytes", "[io]") {
    std::string whole = with_data(header(2, 3) + pair("general.alignment", 4, u32_bytes(32)) +
                                      pair("texts", 9, array(8, 2, string_bytes("one") + string_bytes(""))) +
                                      pair("numbers", 9, array(6, 3, std::string(12, 'x'))) +
                                      tensor("a", {32, 2}, 2, 0) + tensor("b", {5}, 0, 64),
                                  96);
    if (const auto path = testing::shared_file("vectors/ggml/gguf/valid.gguf"); !path.empty())
        whole = read_file(path).substr(0, 4096);  // its metadata and tensor table
    REQUIRE(!whole.empty());
    for (std::size_t length = 0; length < whole.size(); ++length) {
        const auto file = parse_copy(std::string_view(whole).substr(0, length));
        if (file) touch_all(*file);
        if (length < 24) CHECK_FALSE(file);
    }
    testing::Random random(5);
    std::size_t accepted = 0;
    for (int round = 0; round < 20000; ++round) {
        std::string changed = whole;
        for (std::size_t n = 1 + random.below(3); n > 0; --n) {
            const std::size_t place = random.below(changed.size());
            const std::size_t how = random.below(3);
            if (how == 0)
                changed[place] = static_cast<char>(random.bits());
            else if (how == 1)
                changed[place] = '\xFF';
            else
                changed.erase(place, 1 + random.below(9));
            if (changed.empty()) break;
        }
        if (const auto file = parse_copy(changed)) {
            touch_all(*file);
            ++accepted;
        }
    }
    CHECK(accepted < 20000);
}
