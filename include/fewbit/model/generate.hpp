// Generation: a prompt in, tokens out one by one, chosen greedily or drawn from the most likely ones.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "fewbit/core/config.hpp"
#include "fewbit/core/executor.hpp"
#include "fewbit/core/result.hpp"
#include "fewbit/model/sequence.hpp"
#include "fewbit/model/tokenizer.hpp"
#include "fewbit/model/transformer.hpp"

namespace fewbit::inline v0::model {

struct SamplingOptions {
    double temperature = 0.0;  ///< 0: always the likeliest token; 1: the model's own distribution
    double top_p =
        1.0;  ///< draw among the likeliest tokens that together reach this probability; 1: among all
    std::uint64_t seed = 0;  ///< the same seed, the same draws
};

/// Chooses the next token. Not for several threads at once: it remembers its place in the random numbers.
class Sampler {
public:
    /// Error: a temperature that is negative or not finite, a top_p outside (0, 1].
    [[nodiscard]] FEWBIT_API static Result<Sampler> create(const SamplingOptions& options);

    /// An id in [0, logits.size()); the smaller one among equals when greedy. Error: no logits, or NaN among
    /// them.
    [[nodiscard]] FEWBIT_API Result<int> sample(std::span<const float> logits);

private:
    explicit Sampler(const SamplingOptions& options) : options_(options), state_(options.seed) {}
    [[nodiscard]] double random_unit() noexcept;

    struct Candidate {
        double probability;
        int id;
    };
    SamplingOptions options_;
    std::uint64_t state_;
    std::vector<Candidate> candidates_;  // kept between calls for their memory
};

struct GenerateOptions {
    SamplingOptions sampling;
    std::size_t max_tokens = 256;  ///< to generate; the model's context ends it too
    bool stop_at_end = true;       ///< at EOS, and at BOS, which begins another document
};

enum class StopReason : std::uint8_t { end_of_text, max_tokens, context_full, asked };

struct Generation {
    std::vector<int> tokens;        ///< what was generated, without the token that ended it
    std::string text;               ///< the same as text
    std::size_t prompt_tokens = 0;  ///< BOS included
    StopReason stop = StopReason::max_tokens;
    double prompt_seconds = 0;         ///< until the logits of the prompt's last token
    double generation_seconds = 0;     ///< for everything after
    std::size_t evaluated_tokens = 0;  ///< one by one, in generation_seconds
};

/// Called with each piece of text as it comes; returns false to stop. A piece may end inside a UTF-8
/// character.
using PieceCallback = std::function<bool(std::string_view piece)>;

/// Continues `prompt`. Errors: a tokenizer of another vocabulary, a prompt longer than the context, bad
/// sampling options, what Sequence::forward and Sampler::sample refuse.
[[nodiscard]] FEWBIT_API Result<Generation> generate(const Transformer& model, const Tokenizer& tokenizer,
                                                     std::string_view prompt, const GenerateOptions& options,
                                                     ExecutionContext context = {},
                                                     const PieceCallback& on_piece = {});

/// Positions that a sequence needs for that; 0 for a prompt longer than the context.
[[nodiscard]] FEWBIT_API std::size_t positions_of(const io::ModelShape& shape, const Tokenizer& tokenizer,
                                                  std::string_view prompt, const GenerateOptions& options);

/// The same behind what `sequence` has read, wherever that runs. It ends with StopReason::context_full where its capacity does.
[[nodiscard]] FEWBIT_API Result<Generation> generate(Sequence& sequence, const Tokenizer& tokenizer,
                                                     std::string_view prompt, const GenerateOptions& options,
                                                     ExecutionContext context = {},
                                                     const PieceCallback& on_piece = {});

}  // namespace fewbit::inline v0::model
