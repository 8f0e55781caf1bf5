// Vocabularies: kinds by spelling, and from one dialect to the other.
#include "fewbit/io/vocabulary.hpp"

#include <charconv>

namespace fewbit::inline v0::io {

std::optional<std::uint8_t> spelled_byte(std::string_view piece) noexcept {
    if (piece.size() != 6 || !piece.starts_with("<0x") || piece[5] != '>') return std::nullopt;
    unsigned value = 0;
    const auto [end, error] = std::from_chars(piece.data() + 3, piece.data() + 5, value, 16);
    if (error != std::errc{} || end != piece.data() + 5) return std::nullopt;
    return static_cast<std::uint8_t>(value);
}

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

Vocabulary in_sentencepiece(Vocabulary vocabulary) {
    if (vocabulary.dialect == TokenDialect::sentencepiece) return vocabulary;
    vocabulary.dialect = TokenDialect::sentencepiece;
    for (std::size_t i = 0; i < vocabulary.pieces.size() && i < vocabulary.kinds.size(); ++i) {
        std::string& piece = vocabulary.pieces[i];
        if (vocabulary.kinds[i] == TokenKind::control && piece.size() > 2 && piece.front() == '\n' &&
            piece.back() == '\n')
            piece = piece.substr(1, piece.size() - 2);
        if (vocabulary.kinds[i] != TokenKind::normal) continue;
        std::string spelled;
        for (const char c : piece)
            if (c == ' ')
                spelled += spelled_space;
            else
                spelled += c;
        piece = std::move(spelled);
    }
    return vocabulary;
}

}  // namespace fewbit::inline v0::io
