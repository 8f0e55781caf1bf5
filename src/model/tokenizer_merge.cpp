// Merging: from characters to the tokens of a text.
#include <algorithm>
#include <cstdint>
#include <optional>
#include <queue>
#include <unordered_map>
#include <utility>

#include "fewbit/model/tokenizer.hpp"

namespace fewbit::inline v0::model {
namespace {

constexpr float never_merges = -1e10f;  // llama2.c's threshold

[[nodiscard]] bool continues_character(char byte) noexcept {
    return (static_cast<unsigned char>(byte) & 0xC0) == 0x80;
}

constexpr std::size_t none = static_cast<std::size_t>(-1);

/// A run of the text. Symbols form a linked list; one of no bytes has merged into its left neighbour.
struct Symbol {
    std::size_t start, size;
    std::size_t previous, next;
    int id;  ///< -1: no token

    [[nodiscard]] std::string_view of(std::string_view text) const { return text.substr(start, size); }
};

/// Two neighbours that can merge, by the left one.
struct Pair {
    float score;
    int merged;
    std::size_t left, left_size, right_size;
    bool operator<(const Pair& other) const noexcept {  // the top of the queue is the greatest
        return score != other.score ? score < other.score : left > other.left;
    }
};

/// Bytes of a character that begins with `first`, at most. llama2.c takes any byte for a beginning.
[[nodiscard]] std::size_t most_bytes(char first, TokenDialect dialect) noexcept {
    const auto byte = static_cast<unsigned char>(first);
    if (dialect == TokenDialect::llama2c || byte >= 0xF0) return 4;
    return byte >= 0xE0 ? 3 : byte >= 0xC0 ? 2 : 1;
}

/// A character is a byte and the continuation bytes behind it: broken UTF-8 is cut somehow, never lost.
/// `alone` bytes in front, the space that was put there, are one character.
[[nodiscard]] std::vector<Symbol> characters(std::string_view text, TokenDialect dialect, std::size_t alone) {
    std::vector<Symbol> symbols;
    symbols.reserve(text.size());
    for (std::size_t i = 0; i < text.size();) {
        const std::size_t most = i == 0 && alone != 0 ? alone : most_bytes(text[i], dialect);
        std::size_t size = 1;
        while (size < most && i + size < text.size() && continues_character(text[i + size])) ++size;
        const std::size_t index = symbols.size();
        symbols.push_back({i, size, index == 0 ? none : index - 1, index + 1, -1});
        i += size;
    }
    if (!symbols.empty()) symbols.back().next = none;
    return symbols;
}

}  // namespace

/// One unknown token per character, however many bytes it has.
void Tokenizer::append_bytes(std::string_view text, std::vector<int>& tokens) const {
    const auto byte_id = [&](char byte) { return byte_ids_[static_cast<unsigned char>(byte)]; };
    if (std::any_of(text.begin(), text.end(), [&](char byte) { return byte_id(byte) < 0; }))
        tokens.push_back(unknown());
    else
        for (const char byte : text) tokens.push_back(byte_id(byte));
}

/// A queue holds the pairs that can merge, best first; an entry whose symbols have changed since it was made
/// is passed over. The result is that of searching the whole list for the best pair each time.
void Tokenizer::append(std::string_view text, std::size_t prefix_bytes, std::vector<int>& tokens) const {
    const bool sentencepiece = vocabulary_.dialect == TokenDialect::sentencepiece;
    const auto is_unused = [&](int id) {
        return id >= 0 && vocabulary_.kinds[static_cast<std::size_t>(id)] == TokenKind::unused;
    };
    std::vector<Symbol> symbols = characters(text, vocabulary_.dialect, prefix_bytes);
    for (Symbol& symbol : symbols) symbol.id = find(symbol.of(text));

    std::unordered_map<int, std::size_t> splits;  // unused token: bytes of the left part it was seen to have
    const auto pair_at = [&](std::size_t left) -> std::optional<Pair> {
        if (left == none || symbols[left].next == none) return std::nullopt;
        const Symbol &a = symbols[left], &b = symbols[a.next];
        if (!sentencepiece && (a.id < 0 || b.id < 0)) return std::nullopt;
        const int merged = find(text.substr(a.start, a.size + b.size));
        if (merged < 0) return std::nullopt;
        const float score = vocabulary_.scores[static_cast<std::size_t>(merged)];
        if (!sentencepiece && !(score > never_merges)) return std::nullopt;
        if (is_unused(merged)) splits[merged] = a.size;
        return Pair{score, merged, left, a.size, b.size};
    };
    std::vector<Pair> pairs;
    for (std::size_t i = 0; i + 1 < symbols.size(); ++i)
        if (const auto pair = pair_at(i)) pairs.push_back(*pair);
    std::priority_queue<Pair> queue(std::less<Pair>{}, std::move(pairs));

    while (!queue.empty()) {
        const Pair best = queue.top();
        queue.pop();
        Symbol& left = symbols[best.left];
        if (left.size != best.left_size || left.next == none || symbols[left.next].size != best.right_size)
            continue;
        Symbol& right = symbols[left.next];
        left.id = best.merged;
        left.size += right.size;
        left.next = right.next;
        right.size = 0;
        if (left.next != none) symbols[left.next].previous = best.left;
        for (const std::size_t start : {left.previous, best.left})
            if (const auto pair = pair_at(start)) queue.push(*pair);
    }

    std::vector<std::string_view>
        waiting;  // a stack: unused tokens may lie in each other as deep as they like
    for (std::size_t i = symbols.empty() ? none : 0; i != none; i = symbols[i].next) {
        waiting.push_back(symbols[i].of(text));
        while (!waiting.empty()) {
            const std::string_view part = waiting.back();
            waiting.pop_back();
            const int id = find(part);
            const auto split = is_unused(id) ? splits.find(id) : splits.end();
            if (split != splits.end()) {
                waiting.push_back(part.substr(split->second));
                waiting.push_back(part.substr(0, split->second));
            } else if (id >= 0) {
                tokens.push_back(id);
            } else {
                append_bytes(part, tokens);
            }
        }
    }
}

}  // namespace fewbit::inline v0::model
