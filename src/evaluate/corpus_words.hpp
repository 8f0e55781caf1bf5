// The words of the corpus. The embedded vocabulary is made of them in this order, and a model relies on its
// order: a word is added by training another model. Internal to src/evaluate.
#pragma once

#include <array>
#include <string_view>

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

}  // namespace fewbit::inline v0::evaluate::detail
