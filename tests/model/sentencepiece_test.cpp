// SentencePiece's rules: against a search of all pairs for each merge, written from the rules, and by hand.
#include <algorithm>
#include <string>
#include <vector>

#include "fewbit/model/tokenizer.hpp"
#include "support/catch.hpp"
#include "support/random.hpp"

namespace {

using namespace fewbit;
using model::Specials;
using model::TokenDialect;
using model::Tokenizer;
using model::TokenKind;
using model::Vocabulary;
using Ids = std::vector<int>;

const std::string space = "\xE2\x96\x81";  // U+2581

/// Three specials and, if asked, all bytes.
Vocabulary vocabulary(bool with_bytes) {
    Vocabulary v;
    v.dialect = TokenDialect::sentencepiece;
    v.pieces = {"<unk>", "<s>", "</s>"};
    v.kinds = {TokenKind::unknown, TokenKind::control, TokenKind::control};
    for (int byte = 0; with_bytes && byte < 256; ++byte) {
        char text[8];
        std::snprintf(text, sizeof text, "<0x%02X>", static_cast<unsigned>(byte));
        v.pieces.push_back(text);
        v.kinds.push_back(TokenKind::byte);
    }
    v.scores.resize(v.pieces.size());
    return v;
}
int add(Vocabulary& v, const std::string& piece, float score, TokenKind kind = TokenKind::normal) {
    v.pieces.push_back(piece);
    v.scores.push_back(score);
    v.kinds.push_back(kind);
    return static_cast<int>(v.pieces.size()) - 1;
}
Tokenizer tokenizer_of(const Vocabulary& v) {
    auto result = Tokenizer::create(v);
    INFO((result ? "" : result.error().message));
    REQUIRE(result);
    return *std::move(result);
}

/// The rules, one search per merge. `text` is valid UTF-8 and has no user-defined tokens in it.
Ids by_search(const Vocabulary& v, const std::string& text) {
    const auto lookup = [&](const std::string& piece) {
        for (std::size_t i = 0; i < v.pieces.size(); ++i)
            if (v.kinds[i] == TokenKind::normal && v.pieces[i] == piece) return static_cast<int>(i);
        return -1;
    };
    std::vector<std::string> parts;
    std::string spelled;
    for (const char c : text.empty() ? text : (v.space_prefix ? " " : "") + text)
        spelled += c == ' ' ? space : std::string(1, c);
    for (const char c : spelled) {
        if ((c & 0xC0) != 0x80) parts.emplace_back();
        parts.back() += c;
    }
    for (;;) {
        std::size_t best = parts.size();
        float score = 0;
        for (std::size_t i = 0; i + 1 < parts.size(); ++i) {
            const int id = lookup(parts[i] + parts[i + 1]);
            if (id < 0 || (best < parts.size() && !(v.scores[static_cast<std::size_t>(id)] > score)))
                continue;
            best = i;
            score = v.scores[static_cast<std::size_t>(id)];
        }
        if (best == parts.size()) break;
        parts[best] += parts[best + 1];
        parts.erase(parts.begin() + static_cast<std::ptrdiff_t>(best) + 1);
    }
    Ids ids{v.bos};
    for (const std::string& part : parts) {
        if (const int id = lookup(part); id >= 0)
            ids.push_back(id);
        else if (v.pieces.size() < 259)
            ids.push_back(v.unknown);
        else
            for (const char byte : part) ids.push_back(static_cast<unsigned char>(byte) + 3);
    }
    return ids;
}

}  // namespace

TEST_CASE("sentencepiece: merging is a search for the best pair, characters that are no tokens included") {
    testing::Random random(1);
    const std::string letters[] = {" ", "a", "b", "c", "é", "€", "𝄞", space};
    for (int round = 0; round < 60; ++round) {
        Vocabulary v = vocabulary(round % 2 == 0);
        v.space_prefix = round % 3 != 0;
        const bool has_bytes = round % 2 == 0;
        for (const std::string& letter : letters)
            if (letter != " " && random.below(3) != 0) add(v, letter, static_cast<float>(random.below(5)));
        for (std::size_t i = 0; i < 30; ++i) {  // few letters, few scores: many ties and overlaps
            std::string piece;
            for (std::size_t j = 0; j < 2 + random.below(4); ++j) piece += letters[1 + random.below(7)];
            if (std::find(v.pieces.begin(), v.pieces.end(), piece) == v.pieces.end())
                add(v, piece, i == 0 ? -2e10f : static_cast<float>(random.below(4)));
        }
        const bool has_space = std::find(v.pieces.begin(), v.pieces.end(), space) != v.pieces.end();
        const Tokenizer tokenizer = tokenizer_of(v);
        for (int t = 0; t < 40; ++t) {
            std::string text;
            for (std::size_t i = 0; i < random.below(50); ++i) text += letters[random.below(8)];
            INFO("round " << round << ", text '" << text << "'");
            const Ids expected = by_search(v, text);
            REQUIRE(tokenizer.encode(text) == expected);
            if (!has_bytes || !v.space_prefix || !has_space) continue;
            std::string with_spaces = text;  // U+2581 is a space to SentencePiece
            for (std::size_t at = 0; (at = with_spaces.find(space)) != std::string::npos;)
                with_spaces.replace(at, space.size(), " ");
            REQUIRE(tokenizer.decode(expected) == with_spaces);
        }
    }
}

TEST_CASE("sentencepiece: spaces, prefixes and broken UTF-8") {
    Vocabulary v = vocabulary(true);
    const int blank = add(v, space, 0), a = add(v, "a", 0), blank_a = add(v, space + "a", 1),
              two = add(v, space + space, 2);
    const Tokenizer plain = tokenizer_of(v);
    CHECK(plain.encode("a") == Ids{1, blank_a});
    CHECK(plain.encode("") == Ids{1});
    CHECK(plain.encode(" a") == Ids{1, two, a});
    CHECK(plain.encode(space + "a") == Ids{1, two, a});
    CHECK(plain.encode("aa a", false, true) == Ids{blank_a, a, blank_a, 2});
    CHECK(plain.decode(Ids{1, blank_a, a, blank_a}) == "aa a");
    CHECK(plain.decode(Ids{blank_a}) == " a");
    // A lone continuation byte, a beginning without an end, a character that is too long: bytes, each in its
    // place, and the letters around them letters.
    CHECK(plain.encode("\x80") == Ids{1, blank, 0x80 + 3});
    CHECK(plain.encode("\xE2\x82"
                       "a") == Ids{1, blank, 0xE2 + 3, 0x82 + 3, a});
    CHECK(plain.encode("a\x80\x80") == Ids{1, blank_a, 0x80 + 3, 0x80 + 3});

    v.space_prefix = false;
    const Tokenizer bare = tokenizer_of(v);
    CHECK(bare.encode("a a") == Ids{1, a, blank_a});
    CHECK(bare.decode(Ids{1, blank_a, a}) == " aa");

    v.trim_spaces = true;
    CHECK(tokenizer_of(v).encode("  a   a ") == Ids{1, a, blank_a});
    CHECK(tokenizer_of(v).encode("   ") == Ids{1});
    CHECK(tokenizer_of(v).encode("a " + space + " ") == Ids{1, a});
}

TEST_CASE("sentencepiece: user-defined tokens are cut out, others when the caller asks") {
    Vocabulary v = vocabulary(true);
    const int a = add(v, "a", 0), blank_a = add(v, space + "a", 1);
    const int tag = add(v, "<tag>", 0, TokenKind::user_defined),
              longer = add(v, "<tag>a", 0, TokenKind::user_defined);
    const int lines = add(v, "\n\n", 0, TokenKind::user_defined);
    const int blank = add(v, space, 0);
    const int system = add(v, "<|system|>", 0, TokenKind::control);
    const Tokenizer t = tokenizer_of(v);
    const int newline = '\n' + 3;
    CHECK(t.encode("a<tag>") == Ids{1, blank_a, tag});
    CHECK(t.encode("<tag>a") == Ids{1, longer});
    CHECK(t.encode("<tag><tag>aa") == Ids{1, tag, longer, blank_a});  // a space after what was cut out
    CHECK(t.encode("\n\n\n") == Ids{1, lines, blank, newline});
    CHECK(t.decode(Ids{1, blank_a, tag, a}) == "a<tag>a");
    // Control and unknown tokens: characters, unless asked for.
    Ids as_text{1, blank};
    for (const char c : std::string("<|system|>"))
        as_text.push_back(c == 'a' ? a : static_cast<unsigned char>(c) + 3);
    CHECK(t.encode("<|system|>") == as_text);
    CHECK(t.encode("<|system|>", true, false, Specials::as_tokens) == Ids{1, system});
    CHECK(t.encode("<s>a</s><unk>", false, false, Specials::as_tokens) == Ids{1, blank_a, 2, 0});
    CHECK(t.encode("<0x41>", true, false, Specials::as_tokens).size() == 8);  // bytes never
}

TEST_CASE("sentencepiece: unused tokens merge and are cut again") {
    Vocabulary v = vocabulary(false);
    v.space_prefix = false;
    const int a = add(v, "a", 0), b = add(v, "b", 0), c = add(v, "c", 0), ab = add(v, "ab", 5);
    add(v, "abc", 4, TokenKind::unused);
    const int abcd = add(v, "abcd", 3), d = add(v, "d", 0);
    add(v, "dd", 9, TokenKind::unused);
    const Tokenizer t = tokenizer_of(v);
    CHECK(t.encode("abc", false) == Ids{ab, c});
    CHECK(t.encode("abcd", false) == Ids{abcd});  // reached only through the unused one
    CHECK(t.encode("ddb", false) == Ids{d, d, b});
    CHECK(t.encode("xa", false) == Ids{0, a});
    CHECK(t.decode(Ids{abcd, a}) == "abcda");

    // As deep as a vocabulary likes.
    Vocabulary deep = vocabulary(false);
    deep.space_prefix = false;
    const int letter = add(deep, "a", 0);
    for (std::size_t size = 2; size <= 2000; ++size)
        add(deep, std::string(size, 'a'), static_cast<float>(size), TokenKind::unused);
    CHECK(tokenizer_of(deep).encode(std::string(2000, 'a'), false) == Ids(2000, letter));
}

TEST_CASE("sentencepiece: a text of a megabyte takes n log n") {
    Vocabulary v = vocabulary(false);
    add(v, space, 0);
    int last = add(v, "a", 0);
    for (std::size_t size = 2; size <= 16; size *= 2)
        last = add(v, std::string(size, 'a'), static_cast<float>(size));
    const Ids tokens = tokenizer_of(v).encode(std::string(std::size_t{1} << 20, 'a'));
    CHECK(tokens.size() == (std::size_t{1} << 16) + 2);
    CHECK(tokens.back() == last);
}
