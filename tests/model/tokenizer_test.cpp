// The tokenizer against llama2.c's quadratic loop, on real files, and on files that nobody should trust.
#include "fewbit/model/tokenizer.hpp"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "support/catch.hpp"
#include "support/random.hpp"
#include "support/shared_data.hpp"

namespace {

using namespace fewbit;
using model::Tokenizer;
using model::Vocabulary;
using Bytes = std::vector<std::byte>;
using Ids = std::vector<int>;

struct Entry {
    std::string text;
    float score;
};

Bytes file_of(const std::vector<Entry>& entries, std::int32_t longest = 20) {
    Bytes bytes;
    const auto put = [&](const void* data, std::size_t size) {
        const auto* begin = static_cast<const std::byte*>(data);
        bytes.insert(bytes.end(), begin, begin + size);
    };
    put(&longest, 4);
    for (const auto& [text, score] : entries) {
        const auto length = static_cast<std::int32_t>(text.size());
        put(&score, 4);
        put(&length, 4);
        put(text.data(), text.size());
    }
    return bytes;
}

std::vector<Entry> specials() { return {{"<unk>", 0}, {"\n<s>\n", 0}, {"\n</s>\n", 0}}; }

std::vector<Entry> with_bytes() {
    std::vector<Entry> entries = specials();
    for (int byte = 0; byte < 256; ++byte) {
        char text[8];
        std::snprintf(text, sizeof text, "<0x%02X>", static_cast<unsigned>(byte));
        entries.push_back({text, 0});
    }
    return entries;
}

Tokenizer tokenizer_of(const std::vector<Entry>& entries) {
    auto result = Tokenizer::parse_llama2c(file_of(entries), entries.size(), "toy.bin");
    INFO((result ? "" : result.error().message));
    REQUIRE(result);
    return *std::move(result);
}

/// llama2.c's encode, loop for loop (it searches all pairs for each merge), with unknown characters as id 0
/// where there are no byte tokens.
Ids llama2c_encode(const std::vector<Entry>& entries, const std::string& text, bool byte_fallback) {
    const auto lookup = [&](const std::string& s) {
        for (std::size_t i = 3; i < entries.size(); ++i)
            if (entries[i].text == s && !(byte_fallback && i < 259)) return static_cast<int>(i);
        return -1;
    };
    Ids tokens{1};
    if (!text.empty()) tokens.push_back(lookup(" "));
    std::string buffer;
    for (std::size_t c = 0; c < text.size(); ++c) {
        if ((text[c] & 0xC0) != 0x80) buffer.clear();
        buffer += text[c];
        if (c + 1 < text.size() && (text[c + 1] & 0xC0) == 0x80 && buffer.size() < 4) continue;
        if (const int id = lookup(buffer); id != -1)
            tokens.push_back(id);
        else if (!byte_fallback)
            tokens.push_back(0);
        else
            for (const char byte : buffer) tokens.push_back(static_cast<unsigned char>(byte) + 3);
        buffer.clear();
    }
    for (;;) {
        float best_score = -1e10f;
        int best_id = -1;
        std::size_t best = 0;
        for (std::size_t i = 0; i + 1 < tokens.size(); ++i) {
            const int id = lookup(entries[static_cast<std::size_t>(tokens[i])].text +
                                  entries[static_cast<std::size_t>(tokens[i + 1])].text);
            if (id != -1 && entries[static_cast<std::size_t>(id)].score > best_score)
                best_score = entries[static_cast<std::size_t>(id)].score, best_id = id, best = i;
        }
        if (best_id == -1) return tokens;
        tokens[best] = best_id;
        tokens.erase(tokens.begin() + static_cast<std::ptrdiff_t>(best) + 1);
    }
}

}  // namespace

TEST_CASE("merging gives what llama2.c's loop gives") {
    testing::Random random(1);
    const std::string alphabet[] = {" ", "a", "b", "c", "é", "€", "𝄞"};
    for (int round = 0; round < 60; ++round) {
        const bool byte_fallback = round % 2 == 0;
        std::vector<Entry> entries = byte_fallback ? with_bytes() : specials();
        entries.push_back({" ", -1});
        for (const std::string& letter : alphabet)
            if (letter != " " && random.below(4) != 0)
                entries.push_back({letter, static_cast<float>(random.below(5))});
        for (std::size_t i = 0; i < 30; ++i) {  // few letters, few scores: many ties and overlaps
            std::string piece;
            for (std::size_t j = 0; j < 2 + random.below(4); ++j) piece += alphabet[random.below(5)];
            const bool is_new =
                std::none_of(entries.begin(), entries.end(), [&](const Entry& e) { return e.text == piece; });
            if (is_new) entries.push_back({piece, i == 0 ? -2e10f : static_cast<float>(random.below(4))});
        }
        const Tokenizer tokenizer = tokenizer_of(entries);
        for (int t = 0; t < 40; ++t) {
            std::string text;
            for (std::size_t i = 0; i < random.below(50); ++i)
                text += random.below(12) == 0 ? std::string(1, static_cast<char>(1 + random.below(255)))
                                              : alphabet[random.below(7)];
            const Ids expected = llama2c_encode(entries, text, byte_fallback);
            INFO("round " << round << ", text '" << text << "'");
            REQUIRE(tokenizer.encode(text) == expected);
            if (byte_fallback) REQUIRE(tokenizer.decode(expected) == text);
        }
    }
}

TEST_CASE("BOS, EOS, the space in front, and empty texts") {
    std::vector<Entry> entries = specials();
    entries.insert(entries.end(), {{" ", 0}, {"a", 0}, {" a", 1}});
    const Tokenizer tokenizer = tokenizer_of(entries);
    CHECK(tokenizer.encode("a") == Ids{1, 5});
    CHECK(tokenizer.encode("a", false) == Ids{5});
    CHECK(tokenizer.encode("aa", true, true) == Ids{1, 5, 4, 2});
    CHECK(tokenizer.encode("") == Ids{1});
    CHECK(tokenizer.encode("", false).empty());
    CHECK(tokenizer.encode("x") == Ids{1, 3, 0});
    CHECK(tokenizer.encode("€é") == Ids{1, 3, 0, 0});  // one unknown per character, not per byte
    CHECK(tokenizer.encode("<s>") == Ids{1, 3, 0, 0, 0});
    CHECK(tokenizer.decode(Ids{1, 5, 5, 2}) == "a a");
    CHECK(tokenizer.decode(Ids{5, 4}) == " aa");
    CHECK(tokenizer.piece(1, 5) == "a");
    CHECK(tokenizer.piece(4, 5) == " a");
    CHECK(tokenizer.piece(1, 1).empty());
    CHECK(tokenizer.piece(1, -1).empty());
    CHECK(tokenizer.piece(1, 6).empty());
}

TEST_CASE("bytes of characters that are no tokens come back") {
    std::vector<Entry> entries = with_bytes();
    entries.push_back({" ", 0});
    const Tokenizer tokenizer = tokenizer_of(entries);
    CHECK(tokenizer.encode("\n") == Ids{1, 259, 13});
    CHECK(tokenizer.encode("é") == Ids{1, 259, 0xC3 + 3, 0xA9 + 3});
    std::string all;
    for (int byte = 0; byte < 256; ++byte) all += static_cast<char>(byte);
    CHECK(tokenizer.decode(tokenizer.encode(all)) == all);
    CHECK(tokenizer.piece(-1, 0x80 + 3) == "\x80");
}

TEST_CASE("a text of a megabyte takes n log n") {
    std::vector<Entry> entries = specials();
    entries.push_back({" ", 0});
    entries.push_back({"a", 0});
    for (std::size_t size = 2; size <= 16; size *= 2)
        entries.push_back({std::string(size, 'a'), static_cast<float>(size)});
    const Tokenizer tokenizer = tokenizer_of(entries);
    const Ids tokens = tokenizer.encode(std::string(std::size_t{1} << 20, 'a'));
    CHECK(tokens.size() == (std::size_t{1} << 16) + 2);
    CHECK(tokens.back() == 8);
}

TEST_CASE("tokenizer files that cannot be right are refused") {
    std::vector<Entry> entries = specials();
    entries.insert(entries.end(), {{" ", 0}, {"abc", 1}});
    const Bytes good = file_of(entries);
    REQUIRE(Tokenizer::parse_llama2c(good, 5, "toy.bin"));
    const auto refused = [](const Bytes& bytes, std::size_t tokens, const std::string& part) {
        const auto result = Tokenizer::parse_llama2c(bytes, tokens, "toy.bin");
        REQUIRE(!result);
        INFO(result.error().message);
        CHECK(result.error().message.find("'toy.bin'") != std::string::npos);
        CHECK(result.error().message.find(part) != std::string::npos);
    };
    const auto with = [&](std::size_t offset, auto value) {
        Bytes bytes = good;
        std::memcpy(bytes.data() + offset, &value, sizeof value);
        return bytes;
    };
    refused({}, 5, "its 0 bytes are too few for the model's 5 tokens");
    refused(good, 4, "it holds more than the model's 4 tokens: 11 bytes follow");
    refused(good, 6, "it ends before token 5");
    refused(good, std::numeric_limits<std::size_t>::max(), "too few");
    refused(file_of({}), 0, "the vocabulary is empty");
    refused(with(0, std::int32_t{0}), 5, "longest token is 0");
    refused(with(0, std::int32_t{-7}), 5, "longest token is -7");
    refused(with(8, std::int32_t{-1}), 5, "token 0 has a length of -1 bytes");
    refused(with(8, std::numeric_limits<std::int32_t>::max()), 5,
            "token 0 has a length of 2147483647 bytes; the longest is said to have 20");
    refused(with(8, std::int32_t{19}), 5, "token");  // later fields are read out of place
    refused(with(4, std::numeric_limits<float>::quiet_NaN()), 5, "score nan for token 0");
    refused(with(4, std::numeric_limits<float>::infinity()), 5, "score inf");
    refused(file_of({{"a", 0}, {"b", 0}}), 2, "2 tokens, but its EOS token is 2");
    Bytes huge = with(0, std::numeric_limits<std::int32_t>::max());
    std::int32_t length = std::numeric_limits<std::int32_t>::max();
    std::memcpy(huge.data() + 8, &length, 4);
    refused(huge, 5, "token 0 has 2147483647 bytes at offset 12, but the file ends");
    for (std::size_t size = 0; size < good.size(); ++size)
        CHECK(!Tokenizer::parse_llama2c(std::span(good).first(size), 5, "toy.bin"));
    CHECK(!Tokenizer::read_llama2c("/nowhere/tokenizer.bin", 5));
}

TEST_CASE("vocabularies that cannot be right are refused") {
    Vocabulary good{{"<unk>", "<s>", "</s>", "a", "a", ""}, {0, 0, 0, 1, 2, 0}, {}};
    good.guess_kinds();
    const auto tokenizer = Tokenizer::create(good);
    REQUIRE(tokenizer);
    CHECK(tokenizer->encode("a", false) ==
          Ids{0, 3});  // of two tokens with the same text the first; no " " here

    Vocabulary short_scores = good, bad_bos = good, bad_byte = good;
    short_scores.scores.pop_back();
    bad_bos.bos = -1;
    bad_byte.kinds[3] = model::TokenKind::byte;
    CHECK(!Tokenizer::create(short_scores));
    CHECK(!Tokenizer::create(bad_bos));
    CHECK(!Tokenizer::create(bad_byte));
}

TEST_CASE("babyllama105: BOS, a space, one token per character, unknown characters 0") {
    const auto path = testing::shared_file("models/babyllama105/tok105.derived.bin");
    if (path.empty()) FEWBIT_SKIP("models/babyllama105 is not in FEWBIT_SHARED_DIR");
    const auto tokenizer = Tokenizer::read_llama2c(path, 105);
    REQUIRE(tokenizer);
    const Ids tokens = tokenizer->encode("Lily\nran");
    REQUIRE(tokens.size() == 10);
    CHECK(tokens[0] == 1);
    CHECK(tokens[1] == 3);
    CHECK(tokens[6] == 0);
    CHECK(tokenizer->decode(tokens) == "Lily<unk>ran");
    CHECK(!Tokenizer::read_llama2c(path, 512));
    CHECK(!Tokenizer::read_llama2c(path, 104));
}

TEST_CASE("tok512: a story there and back") {
    const auto path = testing::shared_file("models/stories260K/tok512.bin"),
               story = testing::shared_file("text/tinyshakespeare.txt");
    if (path.empty() || story.empty()) FEWBIT_SKIP("models/stories260K or text is not in FEWBIT_SHARED_DIR");
    const auto tokenizer = Tokenizer::read_llama2c(path, 512);
    REQUIRE(tokenizer);
    const std::string text = testing::read_text(story);
    const Ids tokens = tokenizer->encode(text);
    CHECK(tokenizer->decode(tokens) == text);
    CHECK(tokens.size() < text.size());
    CHECK(tokenizer->encode("Once upon a time") == Ids{1, 403, 407, 261, 378});
}
