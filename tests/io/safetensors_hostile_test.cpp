// Files that lie. Each must end in a sentence: no crash, no endless work, no memory that the file does not
// justify.
#include <set>
#include <vector>

#include "allocation_watch.hpp"
#include "fewbit/core/text.hpp"
#include "io_support.hpp"
#include "support/catch.hpp"

using namespace fewbit;
using namespace fewbit_test;

namespace {

struct BadSafetensors {
    const char* what;
    std::string bytes;
    const char* sentence;  // must stand in the message
};

std::string with(std::string_view header, std::size_t data_bytes = 0) {
    return safetensors_bytes(header, std::string(data_bytes, 'd'));
}

/// A file of one tensor "t" with this dtype, shape and offsets as JSON.
std::string one(std::string_view type, std::string_view shape, std::string_view offsets,
                std::size_t data_bytes = 0) {
    return with(text("{\"t\":{\"dtype\":", type, ",\"shape\":", shape, ",\"data_offsets\":", offsets, "}}"),
                data_bytes);
}

std::string repeated(std::string_view part, std::size_t times) {
    std::string out;
    for (std::size_t i = 0; i < times; ++i) out += part;
    return out;
}

std::vector<BadSafetensors> bad_safetensors() {
    using namespace std::string_literals;
    const std::string u8 = "\"U8\"", f32 = "\"F32\"";
    return {
        {"one byte", "x", "at least 8 bytes"},
        {"seven bytes", "1234567", "at least 8 bytes"},
        {"no header", u64_bytes(0), "does not start with '{'"},
        {"N beyond the file", u64_bytes(3) + "{}", "only 2 bytes follow"},
        {"N just beyond the limit", u64_bytes(100'000'001) + "{}", "at most 100000000"},
        {"N at the limit without bytes", u64_bytes(100'000'000) + "{}", "only 2 bytes follow"},
        {"N = 2^32", u64_bytes(std::uint64_t{1} << 32) + "{}", "4294967296"},
        {"N = 2^63", u64_bytes(std::uint64_t{1} << 63) + "{}", "9223372036854775808"},
        {"N = 2^64 - 1", u64_bytes(~std::uint64_t{0}) + "{}", "18446744073709551615"},
        {"N = 2^64 - 8, wraps with the prefix", u64_bytes(~std::uint64_t{7}) + "{}", "allowed"},
        {"big-endian N", "\0\0\0\0\0\0\0\2{}"s, "allowed"},
        {"a GGUF file", "GGUF\3\0\0\0\0\0\0\0\0\0\0\0"s, "is this a safetensors file"},
        {"a zip archive", "PK\3\4\x14\0\0\0\x08\0\0\0"s, "is this a safetensors file"},
        {"leading space", with(" {}"), "does not start"},
        {"byte order mark", with("\xef\xbb\xbf{}"), "does not start"},
        {"array instead of object", with("[]"), "does not start"},
        {"cut JSON", with("{\"t\":"), "not valid JSON"},
        {"only a brace", with("{"), "not valid JSON"},
        {"text after the object", with("{}x"), "not valid JSON"},
        {"second object", with("{}{}"), "not valid JSON"},
        {"NUL after the object", with("{}\0"s), "control character (0)"},
        {"NUL and a second header", with("{}\0{\"t\":1}"s), "control character (0)"},
        {"control character in a name", with("{\"a\x01\":1}"), "control character (1)"},
        {"comment", with("{/* */}"), "not valid JSON"},
        {"trailing comma", with("{\"__metadata__\":{},}"), "not valid JSON"},
        {"single quotes", with("{'a':1}"), "not valid JSON"},
        {"invalid UTF-8", with("{\"\xff\":1}"), "not valid JSON"},
        {"overlong UTF-8", with("{\"\xc0\x80\":1}"), "not valid JSON"},
        {"lone surrogate", with("{\"\\ud800\":1}"), "not valid JSON"},
        {"bad escape", with("{\"\\x\":1}"), "not valid JSON"},
        {"NUL in a name", with("{\"a\\u0000b\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}"),
         "NUL"},
        {"name of 64 KiB",
         with("{\"" + std::string(65'536, 'n') +
              "\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}"),
         "65536 bytes"},
        {"nested arrays", with("{\"t\":" + std::string(200'000, '[')), "is an array"},
        {"nested objects", with(repeated("{\"t\":", 100'000)), "unknown field"},
        {"nesting in a shape", one(u8, "[[[[0]]]]", "[0,0]"), "inside each other"},
        {"array in a shape", with("{\"t\":{\"shape\":{\"a\":1}}}"), "holds an object"},
        {"tensor is a number", with("{\"t\":1}"), "not an object"},
        {"tensor is null", with("{\"t\":null}"), "not an object"},
        {"tensor is an array", with("{\"t\":[]}"), "is an array"},
        {"tensor is empty", with("{\"t\":{}}"), "lacks its 'dtype'"},
        {"no dtype", with("{\"t\":{\"shape\":[0],\"data_offsets\":[0,0]}}"), "lacks its 'dtype'"},
        {"no shape", with("{\"t\":{\"dtype\":\"U8\",\"data_offsets\":[0,0]}}"), "lacks its 'shape'"},
        {"no offsets", with("{\"t\":{\"dtype\":\"U8\",\"shape\":[0]}}"), "lacks its 'data_offsets'"},
        {"unknown field", with("{\"t\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0],\"x\":1}}"),
         "unknown field 'x'"},
        {"duplicate field",
         with("{\"t\":{\"dtype\":\"U8\",\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}"),
         "stands twice"},
        {"duplicate tensor",
         with("{\"t\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]},\"t\":{\"dtype\":\"U8\","
              "\"shape\":[0],\"data_offsets\":[0,0]}}"),
         "'t' stands twice"},
        {"duplicate by escape",
         with("{\"t\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]},\"\\u0074\":{\"dtype\":\"U8\","
              "\"shape\":[0],\"data_offsets\":[0,0]}}"),
         "'t' stands twice"},
        {"metadata twice", with("{\"__metadata__\":{},\"__metadata__\":{}}"), "stands twice"},
        {"metadata key twice", with("{\"__metadata__\":{\"a\":\"1\",\"a\":\"2\"}}"), "'a' stands twice"},
        {"metadata is a string", with("{\"__metadata__\":\"x\"}"), "not an object"},
        {"metadata is null", with("{\"__metadata__\":null}"), "not an object"},
        {"metadata is an array", with("{\"__metadata__\":[]}"), "is an array"},
        {"metadata number", with("{\"__metadata__\":{\"a\":1}}"), "not a string"},
        {"metadata null", with("{\"__metadata__\":{\"a\":null}}"), "not a string"},
        {"metadata object", with("{\"__metadata__\":{\"a\":{}}}"), "is an object"},
        {"metadata array", with("{\"__metadata__\":{\"a\":[]}}"), "is an array"},
        {"unknown dtype", one("\"F31\"", "[0]", "[0,0]"), "'F31' is not known"},
        {"lower case dtype", one("\"f32\"", "[0]", "[0,0]"), "'f32' is not known"},
        {"empty dtype", one("\"\"", "[0]", "[0,0]"), "is not known"},
        {"dtype with NUL", one("\"U8\\u0000\"", "[0]", "[0,0]"), "is not known"},
        {"dtype is a number", one("8", "[0]", "[0,0]"), "'dtype' is not a string"},
        {"dtype is an array", one("[]", "[0]", "[0,0]"), "where none belongs"},
        {"shape is a number", one(u8, "1", "[0,1]", 1), "'shape' is not an array"},
        {"shape is null", one(u8, "null", "[0,1]", 1), "'shape' is not an array"},
        {"shape holds a string", one(u8, "[\"1\"]", "[0,1]", 1), "not a number"},
        {"shape holds true", one(u8, "[true]", "[0,1]", 1), "not a number"},
        {"shape holds null", one(u8, "[null]", "[0,1]", 1), "not a number"},
        {"negative extent", one(u8, "[-1]", "[0,1]", 1), "'-1'"},
        {"negative zero", one(u8, "[-0]", "[0,0]"), "'-0'"},
        {"two negative extents", one(u8, "[-1,-1]", "[0,1]", 1), "'-1'"},
        {"fractional extent", one(u8, "[1.0]", "[0,1]", 1), "'1.0'"},
        {"exponent", one(u8, "[1e0]", "[0,1]", 1), "'1e0'"},
        {"extent 2^64", one(u8, "[18446744073709551616]", "[0,0]"), "'18446744073709551616'"},
        {"extent of 400 digits", one(u8, "[1" + std::string(400, '0') + "]", "[0,0]"), ""},
        {"extent 1e999", one(u8, "[1e999]", "[0,0]"), ""},
        {"NaN", one(u8, "[NaN]", "[0,0]"), "not valid JSON"},
        {"Infinity", one(u8, "[Infinity]", "[0,0]"), "not valid JSON"},
        {"-Infinity", one(u8, "[-Infinity]", "[0,0]"), "not valid JSON"},
        {"leading zero", one(u8, "[01]", "[0,1]", 1), "not valid JSON"},
        {"leading plus", one(u8, "[+1]", "[0,1]", 1), "not valid JSON"},
        {"hexadecimal", one(u8, "[0x1]", "[0,1]", 1), "not valid JSON"},
        {"nine dimensions", one(u8, "[1,1,1,1,1,1,1,1,1]", "[0,1]", 1), "more than 8"},
        {"a million dimensions", one(u8, "[1" + repeated(",1", 1'000'000) + "]", "[0,1]", 1), "more than 8"},
        {"product wraps to 0", one(u8, "[4294967296,4294967296]", "[0,0]"), "overflows"},
        {"product wraps to 8", one(u8, "[6148914691236517208,3]", "[0,8]", 8), "overflows"},
        {"bytes wrap to 4", one(f32, "[4611686018427387905]", "[0,4]", 4), "overflows"},
        {"bits wrap", one(u8, "[2305843009213693953]", "[0,1]", 1), "overflows"},
        {"zero hides an overflow", one(u8, "[4294967296,4294967296,0]", "[0,0]"), "overflows"},
        {"zero first hides an overflow", one(u8, "[0,18446744073709551615,18446744073709551615]", "[0,0]"),
         "overflows"},
        {"huge but honest shape", one(u8, "[1152921504606846975]", "[0,1152921504606846975]"),
         "only 0 bytes of data"},
        {"shape larger than offsets", one(f32, "[2]", "[0,4]", 4), "takes 8 bytes"},
        {"shape smaller than offsets", one(f32, "[1]", "[0,8]", 8), "takes 4 bytes"},
        {"scalar without data", one(f32, "[]", "[0,0]"), "takes 4 bytes"},
        {"half a byte", one("\"F4\"", "[1]", "[0,1]", 1), "whole bytes"},
        {"six bits", one("\"F6_E2M3\"", "[3]", "[0,3]", 3), "whole bytes"},
        {"one offset", one(u8, "[0]", "[0]"), "holds 1 numbers"},
        {"no offset", one(u8, "[0]", "[]"), "holds 0 numbers"},
        {"three offsets", one(u8, "[0]", "[0,0,0]"), "more than 2"},
        {"offsets are a string", one(u8, "[0]", "\"0,0\""), "not an array"},
        {"offsets reversed", one(u8, "[1]", "[1,0]", 1), "after its end"},
        {"negative offset", one(u8, "[1]", "[-1,0]", 1), "'-1'"},
        {"end beyond the file", one(u8, "[2]", "[0,2]", 1), "only 1 bytes of data"},
        {"begin beyond the file", one(u8, "[1]", "[5,6]", 1), "after a hole"},
        {"end at 2^64 - 1", one(u8, "[18446744073709551615]", "[0,18446744073709551615]", 1), "overflows"},
        {"range wraps", one(u8, "[2]", "[18446744073709551615,1]", 1), "after its end"},
        {"trailing bytes", one(u8, "[1]", "[0,1]", 2), "holds 2 bytes of data"},
        {"bytes without tensors", with("{}", 1), "holds 1 bytes of data"},
        {"first begins late", one(u8, "[1]", "[1,2]", 2), "after a hole"},
        {"hole between",
         with("{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},\"b\":{\"dtype\":\"U8\","
              "\"shape\":[1],\"data_offsets\":[2,3]}}",
              3),
         "'b' begins at byte 2"},
        {"overlap",
         with("{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},\"b\":{\"dtype\":\"U8\","
              "\"shape\":[2],\"data_offsets\":[1,3]}}",
              3),
         "inside another"},
        {"same bytes twice",
         with("{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},\"b\":{\"dtype\":\"U8\","
              "\"shape\":[2],\"data_offsets\":[0,2]}}",
              2),
         "inside another"},
        {"nested range",
         with("{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]},\"b\":{\"dtype\":\"U8\","
              "\"shape\":[1],\"data_offsets\":[1,2]}}",
              4),
         "inside another"},
        {"empty tensor in a hole", with("{\"a\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[1,1]}}", 0),
         "after a hole"},
        {"empty tensor inside another",
         with("{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},\"b\":{\"dtype\":\"U8\","
              "\"shape\":[0],\"data_offsets\":[1,1]}}",
              2),
         "inside another"},
    };
}

/// A small file with everything in it.
std::string seed_file() {
    std::string header =
        R"({"__metadata__":{"format":"pt","who":"é\n"},"w":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]},"h":{"dtype":"BF16","shape":[3],"data_offsets":[8,14]},"e":{"dtype":"U8","shape":[0,9],"data_offsets":[14,14]},"s":{"dtype":"I8","shape":[],"data_offsets":[14,15]}})";
    while (header.size() % 8 != 0) header += ' ';
    return safetensors_bytes(header, "0123456789abcde");
}

struct Watched {
    Result<io::SafetensorsFile> file;
    std::size_t largest_bytes;  // of its allocations
};

Watched watched_parse(std::string_view bytes) {
    const AllocationWatch watch;
    auto file = parse(bytes);
    return {std::move(file), watch.largest_bytes()};
}

/// Touches all that a parsed file offers; returns how many bytes its tensors have.
std::size_t use(const io::SafetensorsFile& file) {
    std::size_t total = 0;
    unsigned sum = 0;
    for (const auto& [name, entry] : file.entries()) {
        for (const std::byte byte : file.bytes(entry)) sum += std::to_integer<unsigned>(byte);
        total += entry.size_bytes;
        const auto tensor = file.tensor(name);
        if (tensor)
            for (const std::byte byte : tensor->bytes()) sum += std::to_integer<unsigned>(byte);
    }
    CHECK(sum < 0xFFFFFFFFu);
    return total;
}

}  // namespace

TEST_CASE("hostile safetensors files", "[io][hostile]") {
    std::set<std::string> classes;
    for (const BadSafetensors& bad : bad_safetensors()) {
        INFO(bad.what);
        CHECK(classes.insert(bad.what).second);
        const auto [file, largest] = watched_parse(bad.bytes);
        REQUIRE_FALSE(file);
        INFO(file.error().message);
        CHECK(file.error().kind == ErrorKind::bad_input);
        CHECK(contains(file.error().message, "'memory': "));
        CHECK(contains(file.error().message, bad.sentence));
        CHECK(file.error().message.size() < 600);
        CHECK(largest <= 2 * bad.bytes.size() + 4096);
    }
    CHECK(classes.size() >= 60);
    CHECK_FALSE(parse(""));
}

TEST_CASE("every truncation and every extension is an error", "[io][hostile]") {
    const std::string seed = seed_file();
    REQUIRE(message(parse(seed)) == "");
    for (std::size_t size = 0; size < seed.size(); ++size) {
        INFO(size);
        CHECK_FALSE(parse(seed.substr(0, size)));
    }
    CHECK_FALSE(parse(seed + std::string(1, '\0')));
    CHECK_FALSE(parse(seed + seed));
}

TEST_CASE("every flipped bit and every replaced byte gives an error or a sound file", "[io][hostile]") {
    const std::string seed = seed_file();
    const std::size_t header_end = seed.size() - 15;
    std::size_t accepted = 0, refused = 0;
    const auto attempt = [&](const std::string& bytes) {
        const auto file = parse(bytes);
        if (!file) {
            ++refused;
            REQUIRE_FALSE(file.error().message.empty());
            return;
        }
        ++accepted;
        REQUIRE(use(*file) == 15);
    };
    for (std::size_t i = 0; i < header_end; ++i) {
        for (int bit = 0; bit < 8; ++bit) {
            std::string bytes = seed;
            bytes[i] = static_cast<char>(bytes[i] ^ (1 << bit));
            attempt(bytes);
        }
        for (const char c : {'\0', '"', '{', '}', '[', ']', ',', '9', '-', '.', 'e', '\\', '\xff'}) {
            std::string bytes = seed;
            bytes[i] = c;
            attempt(bytes);
        }
    }
    CHECK(accepted > 0);  // letters of names and metadata
    CHECK(refused > accepted);
}

TEST_CASE("random mutations of a header", "[io][hostile]") {
    const std::string seed = seed_file();
    std::mt19937 random(20240607);
    for (int round = 0; round < 20'000; ++round) {
        std::string bytes = seed;
        for (unsigned edits = 1 + random() % 4; edits > 0; --edits) {
            const std::size_t at = 8 + random() % (bytes.size() - 8), length = random() % 12;
            switch (random() % 4) {
                case 0: bytes[at] = static_cast<char>(random()); break;
                case 1: bytes.erase(at, length); break;
                case 2: bytes.insert(at, bytes.substr(8 + random() % (bytes.size() - 8), length)); break;
                default:
                    bytes.insert(at, std::to_string(random() % 3 == 0 ? random() % 20 : random()));
                    break;
            }
            if (bytes.size() < 9) break;
        }
        if (random() % 2 == 0 && bytes.size() > 23) bytes.replace(0, 8, u64_bytes(bytes.size() - 8 - 15));
        const auto file = parse(bytes);
        if (file) use(*file);
    }
}

TEST_CASE("a header of many tensors is read in good time and proportionate memory", "[io][hostile]") {
    std::string header = "{\"t\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}";
    for (int i = 0; i < 20'000; ++i)
        header += text(",\"", i, "\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}");
    const std::string bytes = safetensors_bytes(header + "}");
    std::size_t total = 0, tensors = 0;
    {
        const AllocationWatch watch;
        const auto file = parse(bytes);
        total = watch.total_bytes();
        tensors = file ? file->entries().size() : 0;
    }
    CHECK(tensors == 20'001);
    CHECK(total < 64 * bytes.size());  // over the whole parse, freed memory included
}
