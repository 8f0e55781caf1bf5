// A whole model of random weights on a GPU: how long a prompt takes, and each token behind it.
#pragma once

#include <cstddef>
#include <string>

namespace fewbit::testing {

struct ModelSpeed {
    std::string format;
    double parameters = 0;            ///< of all matrices
    std::size_t bytes_per_token = 0;  ///< of weights
    std::size_t prompt_tokens = 0, generated_tokens = 0;
    double prompt_seconds = 0;  ///< median, until the last token's logits are on the host
    double token_seconds = 0,
           spread = 0;  ///< the same of one token behind the prompt; (9th - 1st decile) / median
};

/// The llama of about 1.1 B parameters of `fewbit bench model`, all matrices in `format`.
[[nodiscard]] ModelSpeed time_model(const char* format);

}  // namespace fewbit::testing
