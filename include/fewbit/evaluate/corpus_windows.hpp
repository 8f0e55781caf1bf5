// Documents of the synthetic corpus as windows, one each: BOS, the document, EOS. (Windows that are cut from
// a text have no EOS, because a text does not say where it ends.)
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "fewbit/core/config.hpp"
#include "fewbit/core/result.hpp"
#include "fewbit/evaluate/corpus.hpp"
#include "fewbit/evaluate/documents.hpp"
#include "fewbit/model/tokenizer.hpp"

namespace fewbit::inline v0::evaluate {

struct CorpusOptions {
    std::uint64_t seed = 1;
    CorpusPart part = CorpusPart::held_out;
    std::size_t documents = 1024;
    std::size_t context = 512;                ///< longer documents are cut
    std::size_t max_predictions = unlimited;  ///< as in DocumentOptions
};

/// Documents 0 .. of a part. Errors: a context below 2, no documents.
[[nodiscard]] FEWBIT_API Result<std::vector<Window>> corpus_windows(const CorpusOptions& options,
                                                                    const model::Tokenizer& tokenizer);

}  // namespace fewbit::inline v0::evaluate
