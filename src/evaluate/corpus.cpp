// Definitions of evaluate/corpus.hpp.
#include "fewbit/evaluate/corpus.hpp"

#include <algorithm>
#include <utility>

#include "src/evaluate/corpus_items.hpp"
#include "src/evaluate/corpus_prose.hpp"

namespace fewbit::inline v0::evaluate {
namespace {

// Streams of random numbers; behaviours have those of their own values.
constexpr std::uint64_t prose_stream = 64, recall_document_stream = 65, kind_stream = 66;

/// How many documents of each kind a block holds: shares of tokens divided by the mean length of a document,
/// which the tests measure.
constexpr std::uint64_t block_documents = 4096;
struct KindShare {
    std::optional<Behaviour> kind;
    std::uint64_t documents;
};
constexpr std::array<KindShare, 7> kind_shares{{{Behaviour::addition, 1461},
                                                {Behaviour::subtraction, 1315},
                                                {Behaviour::recall, 196},
                                                {Behaviour::json, 104},
                                                {Behaviour::copying, 296},
                                                {Behaviour::sorting, 680},
                                                {std::nullopt, 44}}};

/// Documents come in an order that depends on the seed; the counts above do not, so that short training runs
/// see the mix as well.
std::optional<Behaviour> kind_of_document(std::uint64_t seed, CorpusPart part, std::uint64_t index) {
    detail::Draws draws(seed, part, kind_stream, index / block_documents);
    std::uint64_t place = index % block_documents;
    for (int round = 0; round < 4; ++round) {  // each a permutation of the block
        place *= draws.bits() | 1;
        place += draws.bits();
        place %= block_documents;
        place ^= place >> 6;
    }
    for (const auto& [kind, documents] : kind_shares) {
        if (place < documents) return kind;
        place -= documents;
    }
    return std::nullopt;
}

}  // namespace

std::string CorpusDocument::text() const {
    std::string out;
    for (const CorpusPiece& piece : pieces) out += piece.text;
    return out;
}

CorpusDocument corpus_document(std::uint64_t seed, CorpusPart part, std::uint64_t index) {
    CorpusDocument document;
    document.behaviour = kind_of_document(seed, part, index);
    if (!document.behaviour) {
        detail::Draws draws(seed, part, prose_stream, index);
        const std::size_t sentences = draws.between(4, 30);
        document.pieces = {{detail::story(draws, part, sentences), true}};
    } else if (document.behaviour == Behaviour::recall) {
        // A table is long and an answer short: many questions give as much practice. Half of the tables are
        // shorter than those of items: among few keys a model finds out what matters.
        detail::Draws draws(seed, part, recall_document_stream, index);
        const std::size_t size = draws.below(2) == 0 ? draws.between(2, 15) : detail::recall_size(draws);
        document.pieces = detail::recall_pieces(draws, part, size, std::min<std::size_t>(size, 14));
    } else {
        BehaviourItem item = behaviour_item(*document.behaviour, seed, part, index);
        document.pieces = {{std::move(item.prompt), false}, {std::move(item.answer), true}};
    }
    return document;
}

BehaviourItem behaviour_item(Behaviour behaviour, std::uint64_t seed, CorpusPart part, std::uint64_t index) {
    detail::Draws draws(seed, part, static_cast<std::uint64_t>(behaviour), index);
    switch (behaviour) {
        case Behaviour::addition: return detail::addition_item(draws, part);
        case Behaviour::subtraction: return detail::subtraction_item(draws, part);
        case Behaviour::recall: {
            const std::size_t size = detail::recall_size(draws);
            std::vector<CorpusPiece> pieces = detail::recall_pieces(draws, part, size, 1);
            return {std::move(pieces[0].text), std::move(pieces[1].text)};
        }
        case Behaviour::json: return detail::json_item(draws, part);
        case Behaviour::copying: return detail::copying_item(draws, part);
        case Behaviour::sorting: return detail::sorting_item(draws, part);
    }
    return {};
}

}  // namespace fewbit::inline v0::evaluate
