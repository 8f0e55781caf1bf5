// Tokenizer: what it knows of a vocabulary, cutting tokens out, decoding. Merging is in tokenizer_merge.cpp, the
// reader of tokenizer.bin in tokenizer_file.cpp.
#include "fewbit/model/tokenizer.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <utility>

#include "fewbit/core/text.hpp"

namespace fewbit::inline v0::model {
namespace {

/// `text` with `to` for each `from`.
[[nodiscard]] std::string replaced(std::string_view text, std::string_view from, std::string_view to) {
    std::string out;
    out.reserve(text.size());
    for (std::size_t at = 0;;) {
        const std::size_t found = text.find(from, at);
        out += text.substr(at, found - at);
        if (found == std::string_view::npos) return out;
        out += to;
        at = found + from.size();
    }
}

/// Without spaces at the ends, and one where there are several. As SentencePiece has it, a U+2581 of the text
/// is a space only at the end.
[[nodiscard]] std::string trimmed(std::string_view text) {
    std::string out;
    for (const char c : text)
        if (c != ' ' || (!out.empty() && out.back() != ' ')) out += c;
    for (;;)
        if (out.ends_with(' '))
            out.pop_back();
        else if (out.ends_with(io::spelled_space))
            out.resize(out.size() - io::spelled_space.size());
        else
            return out;
}

}  // namespace

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

    const bool sentencepiece = vocabulary.dialect == TokenDialect::sentencepiece;
    Tokenizer t;
    t.byte_ids_.fill(-1);
    t.texts_.resize(count);
    for (std::size_t i = 0; i < count; ++i) {
        const std::string& piece = vocabulary.pieces[i];
        const int id = static_cast<int>(i);
        const TokenKind kind = vocabulary.kinds[i];
        if (!std::isfinite(vocabulary.scores[i]))
            return bad("has the score ", vocabulary.scores[i], " for token ", i, " ('", piece, "')");
        if (kind == TokenKind::byte) {
            const auto byte = io::spelled_byte(piece);
            if (!byte) return bad("calls token ", i, " ('", piece, "') a byte, but it does not read <0xHH>");
            t.texts_[i] = static_cast<char>(*byte);
            if (t.byte_ids_[*byte] < 0) t.byte_ids_[*byte] = id;
            continue;
        }
        const bool is_text = kind == TokenKind::normal || kind == TokenKind::user_defined ||
                             (kind == TokenKind::unused && sentencepiece);
        if (is_text) {
            if (!piece.empty()) t.ids_.try_emplace(piece, id);
            t.longest_ = std::max(t.longest_, piece.size());
        } else if (kind == TokenKind::unused) {
            continue;
        }
        if (!is_text || kind == TokenKind::user_defined)
            if (!piece.empty()) t.cut_out_.push_back(id);
        if (kind == TokenKind::control) continue;
        t.texts_[i] = sentencepiece && is_text ? replaced(piece, io::spelled_space, " ") : piece;
    }
    std::stable_sort(t.cut_out_.begin(), t.cut_out_.end(), [&](int a, int b) {
        return vocabulary.pieces[static_cast<std::size_t>(a)].size() >
               vocabulary.pieces[static_cast<std::size_t>(b)].size();
    });
    t.vocabulary_ = std::move(vocabulary);
    return t;
}

int Tokenizer::find(std::string_view text) const noexcept {
    if (text.size() > longest_) return -1;
    const auto found = ids_.find(text);
    return found == ids_.end() ? -1 : found->second;
}

std::vector<Tokenizer::Fragment> Tokenizer::cut(std::string_view text, Specials specials) const {
    std::vector<Fragment> fragments, pieces;
    if (!text.empty()) fragments.push_back({text});
    for (const int id : cut_out_) {
        const auto index = static_cast<std::size_t>(id);
        if (specials == Specials::as_text && vocabulary_.kinds[index] != TokenKind::user_defined) continue;
        const std::string& token = vocabulary_.pieces[index];
        pieces.clear();
        for (const Fragment& fragment : fragments) {
            std::string_view rest = fragment.text;
            for (std::size_t found = 0;
                 fragment.token < 0 && (found = rest.find(token)) != std::string_view::npos;) {
                if (found != 0) pieces.push_back({rest.substr(0, found)});
                pieces.push_back({rest.substr(found, token.size()), id});
                rest.remove_prefix(found + token.size());
            }
            if (!rest.empty()) pieces.push_back({rest, fragment.token});
        }
        fragments.swap(pieces);
    }
    return fragments;
}

std::vector<int> Tokenizer::encode(std::string_view text, bool with_bos, bool with_eos,
                                   Specials specials) const {
    std::vector<int> tokens;
    tokens.reserve(text.size() + 3);
    if (with_bos) tokens.push_back(bos());
    std::string kept;
    if (vocabulary_.trim_spaces) text = kept = trimmed(text);
    const bool sentencepiece = vocabulary_.dialect == TokenDialect::sentencepiece;
    const std::string_view space = sentencepiece ? io::spelled_space : " ";
    const std::string_view prefix = vocabulary_.space_prefix ? space : "";
    for (const Fragment& fragment : cut(text, specials)) {
        if (fragment.token >= 0) {
            tokens.push_back(fragment.token);
            continue;
        }
        std::string spelled(prefix);
        spelled += sentencepiece ? replaced(fragment.text, " ", space) : std::string(fragment.text);
        append(spelled, prefix.size(), tokens);
    }
    if (with_eos) tokens.push_back(eos());
    return tokens;
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
