// Definitions of evaluate/corpus.hpp.
#include "fewbit/evaluate/corpus.hpp"

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
constexpr std::array<KindShare, 7> kind_shares{{{Behaviour::addition, 1808},
                                                {Behaviour::subtraction, 1540},
                                                {Behaviour::recall, 123},
                                                {Behaviour::json, 84},
                                                {Behaviour::copying, 142},
                                                {Behaviour::sorting, 345},
                                                {std::nullopt, 54}}};

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
        // A table is long and an answer short: eight questions give eight times the practice.
        detail::Draws draws(seed, part, recall_document_stream, index);
        document.pieces = detail::recall_pieces(draws, part, 8);
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
            std::vector<CorpusPiece> pieces = detail::recall_pieces(draws, part, 1);
            return {std::move(pieces[0].text), std::move(pieces[1].text)};
        }
        case Behaviour::json: return detail::json_item(draws, part);
        case Behaviour::copying: return detail::copying_item(draws, part);
        case Behaviour::sorting: return detail::sorting_item(draws, part);
    }
    return {};
}

}  // namespace fewbit::inline v0::evaluate
