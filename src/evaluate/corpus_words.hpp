// The words of the corpus. The embedded vocabulary is made of them in this order, and a model relies on its
// order: a word is added by training another model. Internal to src/evaluate.
#pragma once

#include <array>
#include <span>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

namespace fewbit::inline v0::evaluate::detail {

/// The first half are women's, the second half men's.
inline constexpr std::array<std::string_view, 64> names{
    "ada",  "amy",  "ana", "ann",  "ava",  "eva",  "eve",  "ida",  "ina",  "ivy",  "jane", "joy",  "kate",
    "kim",  "lea",  "lia", "lily", "lucy", "mary", "maya", "mia",  "mila", "nina", "nora", "rita", "rosa",
    "ruth", "sara", "sue", "tina", "vera", "zoe",  "abe",  "ben",  "bob",  "carl", "dan",  "dave", "don",
    "finn", "fred", "gus", "hugo", "ian",  "ivan", "jack", "jim",  "joe",  "john", "ken",  "leo",  "liam",
    "luke", "mark", "max", "ned",  "nick", "noah", "otto", "paul", "ray",  "rob",  "sam",  "tom"};

/// People without a name; women first, as above.
inline constexpr std::array<std::string_view, 6> people{"girl", "lady", "queen", "boy", "king", "man"};

inline constexpr std::array<std::string_view, 18> things{"bag",  "ball", "bell", "boat", "book", "box",
                                                         "coat", "coin", "cup",  "doll", "drum", "hat",
                                                         "key",  "kite", "lamp", "map",  "ring", "ship"};
inline constexpr std::array<std::string_view, 14> places{"barn",  "cave", "farm", "garden", "hall",
                                                         "house", "mill", "park", "school", "shop",
                                                         "tent",  "town", "wood", "yard"};
inline constexpr std::array<std::string_view, 9> colours{"black", "blue", "brown", "gold", "green",
                                                         "grey",  "pink", "red",   "white"};
inline constexpr std::array<std::string_view, 6> sizes{"big", "fine", "new", "old", "small", "tiny"};
inline constexpr std::array<std::string_view, 4> moods{"glad", "happy", "proud", "sad"};
inline constexpr std::array<std::string_view, 4> weathers{"cold", "dark", "warm", "wet"};

/// What the sentences of corpus_prose.cpp are made of besides.
inline constexpr std::array<std::string_view, 56> other_words{
    "a",     "after", "again", "and",   "at",   "back", "but",  "came",  "day",  "found", "gave",   "had",
    "he",    "her",   "him",   "his",   "home", "in",   "is",   "it",    "kept", "liked", "looked", "my",
    "night", "now",   "of",    "on",    "once", "one",  "said", "sat",   "saw",  "she",   "so",     "still",
    "the",   "then",  "there", "to",    "took", "was",  "went", "where", "with", "you",   "your",   "know",
    "story", "put",   "ran",   "under", "for",  "this", "that", "little"};

/// Every beginning of every word with the blank before it, " m", " mi", " mia", each once, in the order of the
/// lists: the vocabulary's pieces.
[[nodiscard]] inline const std::vector<std::string>& word_beginnings() {
    static const std::vector<std::string> all = [] {
        std::vector<std::string> beginnings;
        std::unordered_set<std::string> known;
        using Words = std::span<const std::string_view>;
        for (const Words words : {Words(names), Words(people), Words(things), Words(places), Words(colours),
                                  Words(sizes), Words(moods), Words(weathers), Words(other_words)})
            for (const std::string_view word : words)
                for (std::size_t letters = 1; letters <= word.size(); ++letters) {
                    std::string beginning = " " + std::string(word.substr(0, letters));
                    if (known.insert(beginning).second) beginnings.push_back(std::move(beginning));
                }
        return beginnings;
    }();
    return all;
}

}  // namespace fewbit::inline v0::evaluate::detail
