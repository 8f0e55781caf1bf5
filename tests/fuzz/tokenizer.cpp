// llama2.c tokenizers. The first byte says how many tokens the model has, the rest is the file; what is
// accepted encodes a text and gives it back.
#include <string>

#include "fewbit/model/tokenizer.hpp"
#include "fuzz.hpp"

using namespace fewbit;

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size == 0) return 0;
    const std::size_t tokens = data[0];
    const auto tokenizer =
        model::Tokenizer::parse_llama2c(testing::fuzz_bytes(data + 1, size - 1), tokens, "fuzz");
    if (!tokenizer) return 0;
    for (const int id : tokenizer->encode("once upon a time \xC3\xA4 <0x0A>"))
        if (id < 0 || static_cast<std::size_t>(id) >= tokens) __builtin_trap();
    return 0;
}
