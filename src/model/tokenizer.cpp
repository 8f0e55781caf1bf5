// Tokenizer: encoding and decoding. The reader of tokenizer.bin is in tokenizer_file.cpp.
#include "fewbit/model/tokenizer.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <optional>
#include <queue>
#include <utility>

#include "fewbit/core/text.hpp"

namespace fewbit::inline v0::model {
namespace {

constexpr float never_merges = -1e10f;  // llama2.c's threshold

/// The byte that "<0xHH>" spells.
[[nodiscard]] std::optional<std::uint8_t> spelled_byte(std::string_view piece) noexcept {
    if (piece.size() != 6 || !piece.starts_with("<0x") || piece[5] != '>') return std::nullopt;
    unsigned value = 0;
    const auto [end, error] = std::from_chars(piece.data() + 3, piece.data() + 5, value, 16);
    if (error != std::errc{} || end != piece.data() + 5) return std::nullopt;
    return static_cast<std::uint8_t>(value);
}

[[nodiscard]] bool continues_character(char byte) noexcept {
    return (static_cast<unsigned char>(byte) & 0xC0) == 0x80;
}

}  // namespace

void Vocabulary::guess_kinds() {
    kinds.assign(pieces.size(), TokenKind::normal);
    for (std::size_t i = 0; i < pieces.size(); ++i) {
        const auto id = static_cast<std::int64_t>(i);
        if (id == unknown)
            kinds[i] = TokenKind::unknown;
        else if (id == bos || id == eos)
            kinds[i] = TokenKind::control;
        else if (spelled_byte(pieces[i]))
            kinds[i] = TokenKind::byte;
    }
}

Result<Tokenizer> Tokenizer::create(Vocabulary vocabulary) {
    const std::size_t count = vocabulary.pieces.size();
    const auto bad = [](const auto&... why) { return fail(ErrorKind::bad_input, "the vocabulary ", why...); };
    if (count == 0) return bad("is empty");
    if (count > INT32_MAX) return bad("has ", count, " tokens, more than 32-bit ids");
    if (vocabulary.scores.size() != count || vocabulary.kinds.size() != count)
        return bad("has ", count, " texts, ", vocabulary.scores.size(), " scores and ",
                   vocabulary.kinds.size(), " kinds");
    const std::pair<const char*, int> ids[] = {
        {"BOS", vocabulary.bos}, {"EOS", vocabulary.eos}, {"unknown", vocabulary.unknown}};
    for (const auto& [what, id] : ids)
        if (id < 0 || static_cast<std::size_t>(id) >= count)
            return bad("has ", count, " tokens, but its ", what, " token is ", id);

    Tokenizer t;
    t.byte_ids_.fill(-1);
    t.texts_.resize(count);
    for (std::size_t i = 0; i < count; ++i) {
        const std::string& piece = vocabulary.pieces[i];
        const int id = static_cast<int>(i);
        if (!std::isfinite(vocabulary.scores[i]))
            return bad("has the score ", vocabulary.scores[i], " for token ", i, " ('", piece, "')");
        switch (vocabulary.kinds[i]) {
            case TokenKind::control: break;
            case TokenKind::byte: {
                const auto byte = spelled_byte(piece);
                if (!byte)
                    return bad("calls token ", i, " ('", piece, "') a byte, but it does not read <0xHH>");
                t.texts_[i] = static_cast<char>(*byte);
                if (t.byte_ids_[*byte] < 0) t.byte_ids_[*byte] = id;
                break;
            }
            case TokenKind::normal:
                if (!piece.empty()) t.ids_.try_emplace(piece, id);
                t.longest_ = std::max(t.longest_, piece.size());
                [[fallthrough]];
            case TokenKind::unknown: t.texts_[i] = piece; break;
        }
    }
    t.vocabulary_ = std::move(vocabulary);
    return t;
}

int Tokenizer::find(std::string_view text) const noexcept {
    if (text.size() > longest_) return -1;
    const auto found = ids_.find(text);
    return found == ids_.end() ? -1 : found->second;
}

std::vector<int> Tokenizer::encode(std::string_view text, bool with_bos, bool with_eos) const {
    std::vector<int> tokens;
    tokens.reserve(text.size() + 3);
    if (vocabulary_.space_prefix && !text.empty()) append_characters(" ", tokens);
    append_characters(text, tokens);
    tokens = merge(tokens);
    if (with_bos) tokens.insert(tokens.begin(), bos());
    if (with_eos) tokens.push_back(eos());
    return tokens;
}

/// A character is a byte and the continuation bytes behind it, four at most: broken UTF-8 is cut somehow,
/// never lost.
void Tokenizer::append_characters(std::string_view text, std::vector<int>& tokens) const {
    for (std::size_t i = 0; i < text.size();) {
        std::size_t size = 1;
        while (size < 4 && i + size < text.size() && continues_character(text[i + size])) ++size;
        const std::string_view character = text.substr(i, size);
        i += size;
        if (const int id = find(character); id >= 0) {
            tokens.push_back(id);
            continue;
        }
        const auto byte_id = [&](char byte) { return byte_ids_[static_cast<unsigned char>(byte)]; };
        if (std::any_of(character.begin(), character.end(), [&](char byte) { return byte_id(byte) < 0; }))
            tokens.push_back(unknown());
        else
            for (const char byte : character) tokens.push_back(byte_id(byte));
    }
}

/// Tokens form a linked list. A queue holds the pairs that can merge, best first; an entry whose tokens have
/// changed since it was made is passed over. The result is that of searching the whole list for the best pair
/// each time.
std::vector<int> Tokenizer::merge(std::span<const int> tokens) const {
    constexpr std::size_t none = static_cast<std::size_t>(-1);
    struct Node {
        std::size_t previous, next;
        int id;  // -1: merged into its left neighbour
    };
    struct Pair {
        float score;
        int merged, left_id, right_id;
        std::size_t left;
        bool operator<(const Pair& other) const noexcept {  // the top of the queue is the greatest
            return score != other.score ? score < other.score : left > other.left;
        }
    };
    std::vector<Node> nodes(tokens.size());
    for (std::size_t i = 0; i < tokens.size(); ++i)
        nodes[i] = {i == 0 ? none : i - 1, i + 1 < tokens.size() ? i + 1 : none, tokens[i]};

    std::vector<Pair> pairs;
    std::string spelled;
    const auto pair_at = [&](std::size_t left) -> std::optional<Pair> {
        const std::size_t right = left == none ? none : nodes[left].next;
        if (right == none) return std::nullopt;
        const int left_id = nodes[left].id, right_id = nodes[right].id;
        const std::string &a = vocabulary_.pieces[static_cast<std::size_t>(left_id)],
                          &b = vocabulary_.pieces[static_cast<std::size_t>(right_id)];
        if (a.size() + b.size() > longest_) return std::nullopt;
        const int merged = find(spelled.assign(a).append(b));
        if (merged < 0 || !(vocabulary_.scores[static_cast<std::size_t>(merged)] > never_merges))
            return std::nullopt;
        return Pair{vocabulary_.scores[static_cast<std::size_t>(merged)], merged, left_id, right_id, left};
    };
    for (std::size_t i = 0; i + 1 < tokens.size(); ++i)
        if (const auto pair = pair_at(i)) pairs.push_back(*pair);
    std::priority_queue<Pair> queue(std::less<Pair>{}, std::move(pairs));

    while (!queue.empty()) {
        const Pair best = queue.top();
        queue.pop();
        Node& left = nodes[best.left];
        if (left.id != best.left_id || left.next == none || nodes[left.next].id != best.right_id) continue;
        Node& right = nodes[left.next];
        left.id = best.merged;
        left.next = right.next;
        right.id = -1;
        if (left.next != none) nodes[left.next].previous = best.left;
        for (const std::size_t start : {left.previous, best.left})
            if (const auto pair = pair_at(start)) queue.push(*pair);
    }
    std::vector<int> merged;
    for (std::size_t i = tokens.empty() ? none : 0; i != none; i = nodes[i].next)
        merged.push_back(nodes[i].id);
    return merged;
}

std::string_view Tokenizer::piece(int previous, int token) const noexcept {
    if (token < 0 || static_cast<std::size_t>(token) >= texts_.size()) return {};
    std::string_view result = texts_[static_cast<std::size_t>(token)];
    if (previous == bos() && vocabulary_.space_prefix && result.starts_with(' ')) result.remove_prefix(1);
    return result;
}

std::string Tokenizer::decode(std::span<const int> tokens) const {
    std::string text;
    for (std::size_t i = 0; i < tokens.size(); ++i) text += piece(i == 0 ? -1 : tokens[i - 1], tokens[i]);
    return text;
}

}  // namespace fewbit::inline v0::model
