// How the corpus is cut and told apart: tokens that no piece shares with its neighbour, the mix, the same
// documents everywhere, the vocabulary, and docs/corpus.md, whose examples and numbers are made again here.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <map>
#include <optional>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "evaluate/corpus_support.hpp"

using namespace fewbit;
using namespace fewbit::evaluate;
using namespace fewbit_test;

TEST_CASE("pieces tokenized one by one give the tokens of the document; none is a byte or unknown") {
    const model::Tokenizer t = embedded_tokenizer();
    for (const CorpusPart part : both_parts) {
        std::map<std::optional<Behaviour>, std::size_t> seen;
        for (std::size_t i = 0; i < sized(20000); ++i) {
            const CorpusDocument document = corpus_document(1, part, i);
            ++seen[document.behaviour];
            const std::string text = document.text();
            const std::vector<int> joined = t.encode(text, false);
            std::vector<int> pieces;
            for (const CorpusPiece& piece : document.pieces) {
                const auto tokens = t.encode(piece.text, false);
                pieces.insert(pieces.end(), tokens.begin(), tokens.end());
            }
            REQUIRE(joined == pieces);
            REQUIRE(joined.size() + 2 <= longest_corpus_document);
            REQUIRE(t.decode(joined) == text);
            REQUIRE(*std::min_element(joined.begin(), joined.end()) >= 3 + 256);
            if (!document.behaviour)  // a word, a sign: a token
                REQUIRE(joined.size() ==
                        static_cast<std::size_t>(std::count_if(text.begin(), text.end(), [](char c) {
                            return c == ' ' || c == ',' || c == '.';
                        })));
        }
        CHECK(seen.size() == 7);
    }
    // Recall is rare among documents, and its prompts have the only blanks before an answer.
    for (std::size_t i = 0; i < sized(5000); ++i) {
        const BehaviourItem item = behaviour_item(Behaviour::recall, 1, CorpusPart::held_out, i);
        std::vector<int> tokens = t.encode(item.prompt, false);
        const auto answer = t.encode(item.answer, false);
        REQUIRE(answer.size() == 2);
        tokens.insert(tokens.end(), answer.begin(), answer.end());
        REQUIRE(t.encode(item.prompt + item.answer, false) == tokens);
        REQUIRE(tokens.size() + 2 <= longest_corpus_document);
    }
}

TEST_CASE("the mix, counted by tokens with BOS and EOS") {
    const model::Tokenizer t = embedded_tokenizer();
    for (const CorpusPart part : both_parts) {
        std::map<std::optional<Behaviour>, double> tokens;
        double total = 0;
        for (std::size_t i = 0; i < 20000; ++i) {
            const CorpusDocument document = corpus_document(1, part, i);
            const auto count = static_cast<double>(t.encode(document.text(), true, true).size());
            tokens[document.behaviour] += count;
            total += count;
        }
        const auto share = [&](std::optional<Behaviour> kind) { return 100 * tokens[kind] / total; };
        CHECK(share(Behaviour::addition) == Catch::Approx(17).margin(1));
        CHECK(share(Behaviour::subtraction) == Catch::Approx(15).margin(1));
        CHECK(share(Behaviour::recall) == Catch::Approx(28).margin(1));
        CHECK(share(Behaviour::json) == Catch::Approx(13).margin(1));
        CHECK(share(Behaviour::copying) == Catch::Approx(9).margin(1));
        CHECK(share(Behaviour::sorting) == Catch::Approx(12).margin(1));
        CHECK(share(std::nullopt) == Catch::Approx(6).margin(1));
    }
}

TEST_CASE("a document depends on seed, part and index alone") {
    std::vector<CorpusDocument> forwards, backwards;
    for (std::size_t i = 0; i < 300; ++i) forwards.push_back(corpus_document(9, CorpusPart::training, i));
    for (std::size_t i = 300; i-- > 0;) backwards.push_back(corpus_document(9, CorpusPart::training, i));
    std::reverse(backwards.begin(), backwards.end());
    CHECK(forwards == backwards);
    std::size_t same_seed = 0, same_part = 0;
    for (std::size_t i = 0; i < 300; ++i) {
        same_seed += forwards[i] == corpus_document(10, CorpusPart::training, i);
        same_part += forwards[i] == corpus_document(9, CorpusPart::held_out, i);
    }
    CHECK(same_seed == 0);
    CHECK(same_part == 0);
    const auto far = corpus_document(9, CorpusPart::training, ~std::uint64_t{0});
    CHECK(far == corpus_document(9, CorpusPart::training, ~std::uint64_t{0}));
    CHECK_FALSE(far.pieces.empty());
}

namespace {

/// FNV-1a of texts with their ends.
class Digest {
public:
    void add(std::string_view text) {
        for (const char c : text) value_ = (value_ ^ static_cast<unsigned char>(c)) * 0x100000001B3u;
        value_ = (value_ ^ 0x100u) * 0x100000001B3u;
    }
    [[nodiscard]] std::uint64_t value() const { return value_; }

private:
    std::uint64_t value_ = 0xCBF29CE484222325u;
};

}  // namespace

TEST_CASE("corpus and vocabulary are the same on every platform and in every version") {
    Digest documents, items, pieces;
    for (std::size_t i = 0; i < 1000; ++i) {
        const CorpusDocument document = corpus_document(1, CorpusPart::training, i);
        documents.add(document.behaviour ? name(*document.behaviour) : "prose");
        for (const CorpusPiece& piece : document.pieces) documents.add(piece.text);
    }
    for (const Behaviour behaviour : all_behaviours)
        for (std::size_t i = 0; i < 100; ++i) {
            const BehaviourItem item = behaviour_item(behaviour, 1, CorpusPart::held_out, i);
            items.add(item.prompt);
            items.add(item.answer);
        }
    for (const std::string& piece : embedded_vocabulary().pieces) pieces.add(piece);
    // A model trained on the corpus as it was cannot be judged on another: change these with the model.
    CHECK(documents.value() == 0x399764F9508BAAFDu);
    CHECK(items.value() == 0x7A17829795111626u);
    CHECK(pieces.value() == 0x1344AFDCC21A3981u);
}

TEST_CASE("the embedded vocabulary: sizes, kinds, words of one token, characters that stay alone") {
    const model::Vocabulary vocabulary = embedded_vocabulary();
    REQUIRE(vocabulary.pieces.size() == embedded_vocabulary_size);
    CHECK(vocabulary.bos == 1);
    CHECK(vocabulary.eos == 2);
    CHECK_FALSE(vocabulary.space_prefix);
    CHECK(std::set<std::string>(vocabulary.pieces.begin(), vocabulary.pieces.end()).size() ==
          embedded_vocabulary_size);
    CHECK(vocabulary.kinds[0] == model::TokenKind::unknown);
    CHECK(vocabulary.kinds[1] == model::TokenKind::control);
    CHECK(vocabulary.kinds[2] == model::TokenKind::control);
    for (std::size_t i = 3; i < embedded_vocabulary_size; ++i)
        REQUIRE(vocabulary.kinds[i] == (i < 259 ? model::TokenKind::byte : model::TokenKind::normal));

    const model::Tokenizer t = embedded_tokenizer();
    for (std::size_t i = 259; i < embedded_vocabulary_size; ++i) {
        const std::string& piece = vocabulary.pieces[i];
        const std::vector<int> alone{static_cast<int>(i)};
        REQUIRE(t.encode(piece, false) == alone);
        if (piece.size() > 1) REQUIRE(piece[0] == ' ');
        REQUIRE(t.encode(piece + "=42", false).size() == 4);
    }
    const std::string plain = "3482+917=9934{\"name\":\"mia\"}miathe";
    CHECK(t.encode(plain, false).size() == plain.size());
    for (const std::string text : {"", " ", "  mia  the", "\xC3\xA9\xE2\x82\xAC\tx\r", "\n mia?42", " miaz"})
        CHECK(t.decode(t.encode(text)) == text);
    CHECK(t.encode(" the red ball.", false).size() == 4);
}

namespace {

std::string page_part(const std::string& marker) {
    const char* root = std::getenv("FEWBIT_SOURCE_DIR");
    std::ifstream file(std::string(root == nullptr ? "." : root) + "/docs/corpus.md");
    std::stringstream page;
    page << file.rdbuf();
    const std::string all = page.str(), begin = "<!-- " + marker + ":begin -->\n",
                      end = "<!-- " + marker + ":end -->";
    const std::size_t from = all.find(begin), to = all.find(end);
    REQUIRE(from != std::string::npos);
    REQUIRE(to != std::string::npos);
    return all.substr(from + begin.size(), to - from - begin.size());
}

std::string kind_name(std::optional<Behaviour> kind) { return kind ? std::string(name(*kind)) : "prose"; }

}  // namespace

TEST_CASE("docs/corpus.md: the examples") {
    // Short ones of the first held-out items; what a model writes stands in brackets.
    const std::pair<Behaviour, std::uint64_t> shown[] = {
        {Behaviour::addition, 0}, {Behaviour::subtraction, 0}, {Behaviour::recall, 8},
        {Behaviour::json, 0},     {Behaviour::copying, 1},     {Behaviour::sorting, 0}};
    std::string expected;
    const auto add = [&](const std::string& title, const std::string& text) {
        expected += "\n" + title + ":\n\n```text\n" + text + "\n```\n";
    };
    for (const auto& [behaviour, index] : shown) {
        const BehaviourItem item = behaviour_item(behaviour, 1, CorpusPart::held_out, index);
        add(std::string(name(behaviour)), item.prompt + "[" + item.answer + "]");
    }
    add("prose", "[" + corpus_document(1, CorpusPart::held_out, 78).text() + "]");
    CHECK(page_part("examples") == expected + "\n");
}

TEST_CASE("docs/corpus.md: the mix") {
    const model::Tokenizer t = embedded_tokenizer();
    struct Count {
        std::size_t documents = 0, tokens = 0, answer_tokens = 0;
    };
    std::map<std::optional<Behaviour>, Count> counts;
    std::size_t total = 0;
    for (std::size_t i = 0; i < 40960; ++i) {
        const CorpusDocument document = corpus_document(1, CorpusPart::training, i);
        Count& count = counts[document.behaviour];
        ++count.documents;
        std::size_t tokens = 2, answers = 0;
        for (const CorpusPiece& piece : document.pieces) {
            const std::size_t size = t.encode(piece.text, false).size();
            tokens += size;
            if (piece.answer) answers += size;
        }
        count.tokens += tokens;
        count.answer_tokens += answers + 1;  // EOS
        total += tokens;
    }
    std::string expected =
        "| kind | share of tokens | documents of 4096 | tokens of a document | of these answer |\n"
        "|---|--:|--:|--:|--:|\n";
    std::vector<std::optional<Behaviour>> kinds(all_behaviours.begin(), all_behaviours.end());
    kinds.emplace_back(std::nullopt);
    for (const auto kind : kinds) {
        const Count& count = counts[kind];
        const auto documents = static_cast<double>(count.documents);
        char row[200];
        std::snprintf(row, sizeof row, "| %s | %.1f %% | %zu | %.1f | %.1f |\n", kind_name(kind).c_str(),
                      100 * static_cast<double>(count.tokens) / static_cast<double>(total),
                      count.documents / 10, static_cast<double>(count.tokens) / documents,
                      static_cast<double>(count.answer_tokens) / documents);
        expected += row;
    }
    CHECK(page_part("mix") == expected);
}
