// One call of an Arm kernel on data that does not matter, to be traced by scripts/mca: int4 with groups of GROUP, int8
// activations with groups of X_GROUP, or f32 where it is 0; two tiles of rows of x, 16 channels (one tile), K of 1024.
#include "fewbit/matmul/contract.hpp"

using namespace fewbit;

namespace fewbit::inline v0::kernels {
extern const KernelCode KERNEL;
}

namespace {

constexpr bool floats = X_GROUP == 0;
constexpr std::size_t n = 16, k = 1024, x_group = floats ? k : X_GROUP;
constexpr std::size_t m = floats ? 12 : 8, stride = floats ? k : k + 64;
constexpr std::size_t sum_group = GROUP < x_group ? GROUP : x_group;

// A tile of W: groups of 16 scales (f16) and 64 bytes for each 8 of K.
alignas(64) std::uint8_t weights[k / GROUP * 32 + k * 8];
alignas(64) std::byte x[m * stride * (floats ? sizeof(float) : 1)];
alignas(64) std::byte scratch[1 << 20];
alignas(64) float scales[m * (k / x_group) + 16];
alignas(64) float y[m * n];
alignas(64) std::int32_t sums[m * (k / sum_group) + 16];

}  // namespace

int main() {
    KernelCall call;
    call.w.n = n;
    call.w.k = k;
    call.w.group_elements = GROUP;
    call.w.groups = k / GROUP;
    call.w.bits = 4;
    call.w.middle_code = 8;
    call.w.scale = Scalar::f16;
    call.w.codes = weights;
    call.w.codes_stride_bytes = sizeof weights;
    call.x.m = m;
    call.x.values = x;
    call.x.stride_elements = stride;
    call.x.rows_together = kernels::KERNEL.rows_together;
    call.x.elements_together = kernels::KERNEL.elements_together;
    call.x.scales = scales;
    call.x.group_elements = x_group;
    call.x.groups = k / x_group;
    call.x.sums = sums;
    call.x.sum_group_elements = sum_group;
    call.x.sum_groups = k / sum_group;
    call.y.values = y;
    call.y.stride_elements = n;
    if (kernels::KERNEL.scratch_bytes_of(call) > sizeof scratch) return 1;
    kernels::KERNEL.run(call, {0, m, 0, n}, scratch);
}
