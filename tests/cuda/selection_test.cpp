// Which CUDA kernel is chosen for what: the catalogue's own rules, over all formats.
#include <algorithm>
#include <set>
#include <string>

#include "fewbit/cuda/selection.hpp"
#include "fewbit/pack/mma16.hpp"
#include "src/cuda/plan.hpp"
#include "support/all_formats.hpp"
#include "support/catch.hpp"

using namespace fewbit;
using namespace fewbit::testing;

TEST_CASE("cuda selection: a kernel is chosen for exactly what can be packed", "[cuda]") {
    std::set<std::string_view> used;
    bool wgmma = false;
    auto formats = all_formats({16, 32, 48, 128});
    for (const ggml::BlockTraits& block : ggml::block_types) formats.push_back(block_format(block.type));
    for (const char* codebook : {"nf4-g64", "nf4-channel", "nf4-g64-dq", "int4-g64-dq", "iq4-g32-sbf16",
                                 "iq4-g16", "e2m1-g32-se8m0", "fp8-e4m3-channel", "mxfp8"})
        if (const auto format = parse_format(codebook)) formats.push_back(*format);
    for (const Format& format : formats)
        for (const Scalar x : {Scalar::f16, Scalar::bf16, Scalar::i8, Scalar::fp8_e4m3, Scalar::f32})
            for (const std::size_t rows : {1, 16, 17, 64, 65, 65, 100000, 100000}) {
                wgmma = !wgmma;
                INFO(name(format) << ", x of " << name(x) << ", " << rows << " rows, wgmma " << wgmma);
                const auto selected = cuda::select_kernel(format, x, rows, wgmma);
                if (!selected) {
                    CHECK(selected.error().kind == ErrorKind::no_kernel);
                    CHECK(selected.error().message.find(name(format)) != std::string::npos);
                    CHECK(selected.error().message.find(std::string(name(x))) != std::string::npos);
                }
                const bool has_type = x != Scalar::f32;
                if (format.is_float()) {
                    CHECK(selected.has_value() == (element_scalar(format) == x && has_type));
                    if (selected) CHECK(selected->name == "cublas/gemm-" + std::string(name(x)));
                } else {
                    const auto empty = QuantizedMatrix::allocate(format, 0, 0);
                    REQUIRE(empty);
                    const bool packs = pack_mma16(*empty).has_value(), nf4 = format.element == Element::nf4,
                               fp8 = format.element == Element::fp8_e4m3;
                    const Format held = mma16_format(format);
                    if (x == Scalar::i8 || x == Scalar::fp8_e4m3)
                        CHECK(selected.has_value() ==
                              (packs && held.bits == 8 && fp8 == (x == Scalar::fp8_e4m3) &&
                               held.granularity != Granularity::group));
                    else
                        CHECK(selected.has_value() == (packs && has_type && !(nf4 && x == Scalar::bf16)));
                }
                if (!selected) continue;
                used.insert(selected->name);
                CHECK(selected->x == x);
                CHECK(rows <= selected->most_rows);
                // The kernel's name and the way that src/cuda takes are of one mind.
                if (format.is_float()) continue;
                if (x == Scalar::i8 || x == Scalar::fp8_e4m3) {
                    CHECK((selected->name.find(wgmma ? "/wgmma-" : "/prompt-") != std::string::npos));
                    continue;
                }
                const cuda::Way way = cuda::way_of(rows);
                const std::string part = way == cuda::Way::prompt  ? wgmma ? "/wgmma-" : "/prompt-"
                                         : way == cuda::Way::batch ? "/batch-"
                                                                   : "/decode-";
                CHECK(selected->name.find(part) != std::string::npos);
                CHECK(selected->name.ends_with("-" + std::string(name(x))));
                CHECK(selected->name.starts_with(mma16_format(format).is_codebook() ? "codebook/"
                                                                                    : "int_grouped/"));
            }
    CHECK(used.size() == std::size(cuda::kernel_table));
}
