// Definition of embedded_model.hpp. The assembler copies the file into the program: megabytes of numbers in
// source text would take a compiler minutes. CMake names the file and makes this depend on it.
#include "src/cli/embedded_model.hpp"

#if defined(FEWBIT_EMBEDDED_MODEL)
asm(R"(
    .section .rodata
    .balign 64
    .global fewbit_embedded_model_begin
    .global fewbit_embedded_model_end
fewbit_embedded_model_begin:
    .incbin ")" FEWBIT_EMBEDDED_MODEL R"("
fewbit_embedded_model_end:
    .previous
)");

extern "C" const std::byte fewbit_embedded_model_begin[];
extern "C" const std::byte fewbit_embedded_model_end[];
#endif

namespace fewbit::cli {

std::span<const std::byte> embedded_model() noexcept {
#if defined(FEWBIT_EMBEDDED_MODEL)
    return {fewbit_embedded_model_begin, fewbit_embedded_model_end};
#else
    return {};
#endif
}

}  // namespace fewbit::cli
