#include "src/model/chosen_operators.hpp"

#include <array>
#include <cstdlib>

#include "fewbit/matmul/isa.hpp"

namespace fewbit::inline v0 {

namespace kernels {
extern const model::OperatorCode operators_generic;
#if defined(FEWBIT_BUILT_AVX2)
extern const model::OperatorCode operators_avx2;
#endif
#if defined(FEWBIT_BUILT_AVX512_VNNI)
extern const model::OperatorCode operators_avx512_vnni;
#endif
}  // namespace kernels

namespace model {
namespace {

/// Weakest first.
constexpr std::array built {
    &kernels::operators_generic,
#if defined(FEWBIT_BUILT_AVX2)
        &kernels::operators_avx2,
#endif
#if defined(FEWBIT_BUILT_AVX512_VNNI)
        &kernels::operators_avx512_vnni,
#endif
};

}  // namespace

const OperatorCode& chosen_operators() noexcept {
    const char* const name = std::getenv("FEWBIT_FORCE_ISA");
    const auto forced = name != nullptr ? isa_from_name(name) : std::nullopt;
    const OperatorCode* chosen = built.front();
    for (const OperatorCode* code : built)
        if (cpu_supports(code->isa) && (!forced || code->isa <= *forced)) chosen = code;
    return *chosen;
}

}  // namespace model
}  // namespace fewbit::inline v0
