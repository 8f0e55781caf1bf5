// The generic lines of kernels/catalog.def and the header-only catalogue say the same.
#include "fewbit/matmul/generic/catalog.hpp"
#include "support/catch.hpp"

using namespace fewbit;

TEST_CASE("the header-only catalogue is the generic part of the catalogue") {
    std::size_t i = 0;
    for (const KernelInfo& info : kernel_catalog()) {
        if (info.isa != Isa::generic) continue;
        REQUIRE(i < generic::catalog.size());
        const KernelInfo& header = generic::catalog[i++];
        CHECK(info.name == header.name);
        CHECK(info.family == header.family);
        CHECK(info.activations == header.activations);
        CHECK(info.layout == header.layout);
        CHECK(info.bits == header.bits);
        CHECK(info.code->tile_n == header.code->tile_n);
        CHECK(info.code->scratch_bytes == header.code->scratch_bytes);
    }
    CHECK(i == generic::catalog.size());
}
