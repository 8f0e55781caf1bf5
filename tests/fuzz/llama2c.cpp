// llama2.c models, versions 0, 1 and 2.
#include "fewbit/io/llama2c.hpp"
#include "fuzz.hpp"

using namespace fewbit;

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (const auto model = io::parse_llama2c(testing::fuzz_bytes(data, size), nullptr, "fuzz"))
        for (const auto& [name, linear] : model->linears) {
            std::vector<float> row(linear.k());
            for (std::size_t r = 0; r < linear.n(); ++r) linear.weights.dequantize(r, 0, row);
        }
    return 0;
}
