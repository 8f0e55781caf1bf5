// GGUF files: whatever is accepted can be looked at and decoded.
#include "fewbit/io/gguf.hpp"
#include "fewbit/formats/ggml/blocks.hpp"
#include "fuzz.hpp"

using namespace fewbit;

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const auto file = io::parse_gguf(testing::fuzz_bytes(data, size), nullptr, "fuzz");
    if (!file) return 0;
    std::size_t sum = 0;
    for (const auto& [key, value] : file->metadata) {
        sum += testing::touched(value.bytes());
        if (const auto texts = value.as_texts())
            for (const std::string_view each : *texts)
                sum += testing::touched(std::as_bytes(std::span(each)));
        sum += value.as_floats().has_value() + value.as_integers().has_value() + value.as_text().has_value();
        sum += value.as_unsigned().has_value() + value.as_signed().has_value() + value.as_real().has_value();
    }
    for (const io::GgufTensor& tensor : file->tensors) {
        sum += testing::touched(tensor.bytes) + tensor.rows() + tensor.row_elements();
        if (!tensor.type->blocks) continue;
        float values[ggml::max_block_elements];
        for (std::size_t at = 0; at + tensor.type->bytes <= tensor.bytes.size(); at += tensor.type->bytes)
            ggml::dequantize_block(*tensor.type->blocks,
                                   reinterpret_cast<const std::uint8_t*>(tensor.bytes.data()) + at, values);
    }
    volatile std::size_t used = sum;
    (void)used;
    return 0;
}
