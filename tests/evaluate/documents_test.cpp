// The protocol of documents.hpp on hand-made texts: what is a document, what is a window, what is predicted.
#include <string>
#include <vector>

#include "fewbit/evaluate/documents.hpp"
#include "support/catch.hpp"

using namespace fewbit;
using namespace fewbit::evaluate;

namespace {

constexpr int bos = 1;

/// One token per byte: byte + 10.
constexpr auto bytes_of = [](std::string_view text) {
    std::vector<int> tokens;
    for (const char c : text) tokens.push_back(static_cast<unsigned char>(c) + 10);
    return tokens;
};

std::vector<Window> cut(std::string_view text, const DocumentOptions& options) {
    auto windows = cut_windows(text, options, bytes_of, bos);
    REQUIRE(windows);
    return *windows;
}

/// The bytes that the windows predict, one string per window.
std::vector<std::string> predicted(const std::vector<Window>& windows) {
    std::vector<std::string> out;
    for (const Window& window : windows) {
        CHECK(window.tokens.size() >= 2);
        CHECK(window.tokens[0] == bos);
        out.emplace_back();
        for (std::size_t i = 1; i < window.tokens.size(); ++i)
            out.back() += static_cast<char>(window.tokens[i] - 10);
    }
    return out;
}

using Strings = std::vector<std::string>;
using Views = std::vector<std::string_view>;

}  // namespace

TEST_CASE("documents between marks are stripped and empty ones dropped") {
    CHECK(split_documents("a<|>b", "<|>") == Views{"a", "b"});
    CHECK(split_documents(" a b \n<|>\r\n\t\v\fc\r\n<|>", "<|>") == Views{"a b", "c"});
    CHECK(split_documents("<|><|> \n <|>a<|><|>", "<|>") == Views{"a"});
    CHECK(split_documents("", "<|>").empty());
    CHECK(split_documents(" \n ", "<|>").empty());
    CHECK(split_documents("no mark", "<|>") == Views{"no mark"});
    CHECK(split_documents("aaa", "aa") == Views{"a"});  // marks do not overlap
    CHECK(split_documents("a<|", "<|>") == Views{"a<|"});
}

TEST_CASE("inner line ends and bytes that are not ASCII stay") {
    CHECK(split_documents("one\r\n\r\ntwo\r\n<|>\r\n", "<|>") == Views{"one\r\n\r\ntwo"});
    // U+00A0 and U+3000 are white space to others, not here: their bytes belong to the text.
    CHECK(split_documents("\xC2\xA0"
                          "a\xE3\x80\x80<|>\xF0\x9F\x99\x82",
                          "<|>") == Views{"\xC2\xA0"
                                          "a\xE3\x80\x80",
                                          "\xF0\x9F\x99\x82"});
    CHECK(split_documents("a→b→c", "→") == Views{"a", "b", "c"});
}

TEST_CASE("without a mark the text is one document, untouched") {
    CHECK(split_documents(" a \n", "") == Views{" a \n"});
    CHECK(split_documents("", "").empty());
    CHECK(split_documents("a<|>b", "<|>", 1) == Views{"a"});
    CHECK(split_documents(" <|>a<|> <|>b<|>c", "<|>", 2) == Views{"a", "b"});  // empty ones do not count
    CHECK(split_documents("a", "<|>", 0).empty());
}

TEST_CASE("every token of an unsplit text is predicted exactly once") {
    const std::string text = "0123456789";
    for (std::size_t context = 2; context <= 13; ++context) {
        const auto windows = cut(text, {.context = context});
        std::string all;
        for (const std::string& part : predicted(windows)) all += part;
        CHECK(all == text);
        CHECK(count_predictions(windows) == text.size());
        for (std::size_t w = 0; w < windows.size(); ++w) {
            CHECK(windows[w].document == 0);
            CHECK(windows[w].first == w * (context - 1));
            CHECK(windows[w].tokens.size() <= context);
            if (w + 1 < windows.size()) CHECK(windows[w].tokens.size() == context);
        }
    }
}

TEST_CASE("exact multiples of the context leave no empty window") {
    CHECK(predicted(cut("012345", {.context = 4})) == Strings{"012", "345"});
    CHECK(predicted(cut("012345", {.context = 7})) == Strings{"012345"});
    CHECK(predicted(cut("0123456", {.context = 4})) == Strings{"012", "345", "6"});
}

TEST_CASE("documents between marks give one window each, cut to the context") {
    const std::string text = " abcdef <|>x<|><|>yz\n";
    CHECK(predicted(cut(text, {.split = "<|>", .context = 4})) == Strings{"abc", "x", "yz"});
    CHECK(predicted(cut(text, {.split = "<|>", .context = 7})) == Strings{"abcdef", "x", "yz"});
    const auto two = cut(text, {.split = "<|>", .context = 4, .max_documents = 2});
    CHECK(predicted(two) == Strings{"abc", "x"});
    CHECK(two[1].document == 1);
}

TEST_CASE("documents without tokens give no window") {
    const auto drops_x = [](std::string_view text) {
        return text == "x" ? std::vector<int>{} : bytes_of(text);
    };
    const auto windows = cut_windows("x<|>a<|>x", {.split = "<|>"}, drops_x, bos);
    REQUIRE(windows);
    CHECK(predicted(*windows) == Strings{"a"});
    CHECK((*windows)[0].document == 1);
}

TEST_CASE("predictions can be limited: the last window is cut") {
    CHECK(predicted(cut("0123456789", {.context = 5, .max_predictions = 6})) == Strings{"0123", "45"});
    CHECK(predicted(cut("0123456789", {.context = 5, .max_predictions = 8})) == Strings{"0123", "4567"});
    CHECK(predicted(cut("abc<|>def<|>g", {.split = "<|>", .max_predictions = 4})) == Strings{"abc", "d"});
}

TEST_CASE("a text with nothing to predict is an error, as is a context that leaves nothing") {
    for (const char* text : {"", " \n<|>\t"}) {
        const auto windows = cut_windows(text, {.split = "<|>"}, bytes_of, bos);
        REQUIRE_FALSE(windows);
        CHECK(windows.error().message.find("nothing to predict") != std::string::npos);
    }
    const auto windows = cut_windows("abc", {.context = 1}, bytes_of, bos);
    REQUIRE_FALSE(windows);
    CHECK(windows.error().message.find("a context of 1 ") != std::string::npos);
}
