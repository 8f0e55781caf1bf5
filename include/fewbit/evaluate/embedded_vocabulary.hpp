// The vocabulary of fewbit's embedded model, 768 tokens:
//
//     0 ..   2   unknown, BOS, EOS
//     3 .. 258   the 256 bytes, "<0x00>" to "<0xFF>", for texts that are not ASCII
//   259 .. 354   "\n" and the printable characters of ASCII, blank to tilde
//   355 .. 767   the words of the corpus: a blank and every beginning of the word (" m", " mi", " mia"),
//                so that the merging of pairs arrives at the word; beginnings that words share stand once
//
// No other characters merge, so digits, JSON and whatever follows no blank stay one token per character: a
// small model then sees the digits it calculates with.
#pragma once

#include <cstddef>

#include "fewbit/core/config.hpp"
#include "fewbit/model/tokenizer.hpp"

namespace fewbit::inline v0::evaluate {

inline constexpr std::size_t embedded_vocabulary_size = 768;

/// Model files of the embedded model rely on the order: it does not change.
[[nodiscard]] FEWBIT_API model::Vocabulary embedded_vocabulary();

}  // namespace fewbit::inline v0::evaluate
