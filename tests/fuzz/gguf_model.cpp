// Models and vocabularies in GGUF files: what is accepted can be looked at to the last weight, encodes a text
// into ids that exist, and is described again.
#include <string>

#include "fewbit/io/model_gguf.hpp"
#include "fewbit/model/tokenizer.hpp"
#include "fuzz.hpp"

using namespace fewbit;

namespace {

void try_model(const io::GgufFile& file) {
    const auto model = io::read_gguf_model(file);
    if (!model) return;
    double sum = 0;
    for (const auto& [name, linear] : model->linears) {
        std::vector<float> row(linear.k());
        for (std::size_t r = 0; r < linear.n(); ++r) {
            linear.weights.dequantize(r, 0, row);
            for (const float value : row) sum += static_cast<double>(value);
        }
        for (const float value : linear.bias) sum += static_cast<double>(value);
    }
    volatile double used = sum;
    (void)used;
    if (!io::gguf_metadata(*model, nullptr, {}) || !io::gguf_tensors(*model)) __builtin_trap();
}

void try_vocabulary(const io::GgufFile& file) {
    auto vocabulary = io::read_gguf_vocabulary(file);
    if (!vocabulary) return;
    const auto tokenizer = model::Tokenizer::create(*std::move(vocabulary));
    if (!tokenizer) return;
    for (const auto specials : {model::Specials::as_text, model::Specials::as_tokens}) {
        const auto ids =
            tokenizer->encode("once  upon a time \xC3\xA4 <0x0A><s>\xE2\x96\x81\xE2", true, true, specials);
        for (const int id : ids)
            if (id < 0 || static_cast<std::size_t>(id) >= tokenizer->size()) __builtin_trap();
        if (tokenizer->decode(ids).size() > std::size_t{1} << 30) __builtin_trap();
    }
}

}  // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const auto file = io::parse_gguf(testing::fuzz_bytes(data, size), nullptr, "fuzz");
    if (!file) return 0;
    try_model(*file);
    try_vocabulary(*file);
    return 0;
}
