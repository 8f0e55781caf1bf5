// safetensors files, as tensors and as models of fewbit's layout.
#include "fewbit/io/safetensors.hpp"
#include "fewbit/io/model_safetensors.hpp"
#include "fuzz.hpp"

using namespace fewbit;

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const auto file = io::parse_safetensors(testing::fuzz_bytes(data, size), nullptr, "fuzz");
    if (!file) return 0;
    volatile std::size_t sum = 0;
    for (const auto& [name, entry] : file->entries()) {
        sum = sum + testing::touched(file->bytes(entry));
        if (const auto tensor = file->tensor(name)) sum = sum + testing::touched(tensor->bytes());
    }
    if (const auto model = io::read_safetensors_model(*file, "/nowhere"))
        for (const auto& [name, linear] : model->linears) {
            std::vector<float> row(linear.k());
            for (std::size_t r = 0; r < linear.n(); ++r) linear.weights.dequantize(r, 0, row);
        }
    return 0;
}
