// Importance matrices, .dat and GGUF.
#include "fewbit/io/imatrix.hpp"
#include "fuzz.hpp"

using namespace fewbit;

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (const auto read = io::parse_imatrix(testing::fuzz_bytes(data, size), "fuzz"))
        for (const auto& [name, entry] : read->entries)
            for (std::size_t expert = 0; expert < entry.experts() && expert < 64; ++expert)
                for (const float value : entry.mean(expert))
                    if (!(value >= 0)) __builtin_trap();
    return 0;
}
