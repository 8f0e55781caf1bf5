// The compiled twin of formats/ggml/encode_impl.hpp, and the choice among its builds.
#include <array>

#include "fewbit/core/cpu.hpp"
#include "fewbit/formats/ggml/encode_impl.hpp"
#include "fewbit/formats/ggml/encoders.hpp"

namespace fewbit::inline v0 {

#if defined(FEWBIT_BUILT_AVX2)
namespace kernels {
void encode_avx2(const ggml::detail::LaneJob&) noexcept;
}
#endif

namespace ggml {
namespace {

using namespace detail;

template <LaneCode Lanes>
void encode_with(BlockType type, std::span<const float> x, std::span<const float> importance,
                 std::span<std::uint8_t> out) noexcept {
    encode_row_in_lanes(Lanes, type, x, importance, out);
}

constexpr std::array built {
    Encoder{"scalar", 1, encode_with<run_lanes<One>>},
        Encoder{"generic", GenericLanes::lanes, encode_with<run_lanes<GenericLanes>>},
#if defined(FEWBIT_BUILT_AVX2)
        Encoder{"avx2", 16, encode_with<kernels::encode_avx2>},
#endif
};

}  // namespace

std::span<const Encoder> encoders() noexcept {
    const bool all = built.back().name != "avx2" || cpu_has_avx2();
    return std::span(built).first(built.size() - (all ? 0 : 1));
}

void encode_row(BlockType type, std::span<const float> x, std::span<const float> importance,
                std::span<std::uint8_t> out) noexcept {
    static const Encoder& fastest = encoders().back();
    fastest.encode_row(type, x, importance, out);
}

}  // namespace ggml
}  // namespace fewbit::inline v0
