// Selection says which kernel runs, refuses fallbacks unless asked, and names every candidate with its
// reason.
#include <cstdlib>
#include <set>
#include <string>

#include "fewbit/matmul/matmul.hpp"
#include "support/catch.hpp"

using namespace fewbit;

namespace {

/// Sets an environment variable for a scope; tests run on one thread.
class Environment {
public:
    Environment(const char* name, const char* value) : name_(name) { setenv(name, value, 1); }
    ~Environment() { unsetenv(name_); }
    Environment(const Environment&) = delete;
    Environment& operator=(const Environment&) = delete;

private:
    const char* name_;
};

MatmulQuery query(const char* weights, const char* activations, Fallback fallback) {
    return {*parse_format(weights), *parse_activation_format(activations), 4, 32, 256, fallback};
}

bool has_tuned_kernels() { return cpu_supports(Isa::avx2) || cpu_supports(Isa::neon); }

}  // namespace

TEST_CASE("the catalogue's names are unique and made of family, isa and activations") {
    std::set<std::string_view> names;
    for (const KernelInfo& info : kernel_catalog()) {
        INFO(info.name);
        CHECK(names.insert(info.name).second);
        CHECK(info.name == text(info.family, "/", name(info.isa), "/", name(info.activations)));
        if (info.isa == Isa::generic) CHECK(info.code != nullptr);
        if (info.code != nullptr) {
            CHECK(info.code->run != nullptr);
            CHECK(info.code->tile_m >= 1);
            CHECK(info.code->tile_n >= 1);
        }
    }
}

TEST_CASE("a fallback is refused by default, allowed on request, and reported") {
    const auto refused = select_kernel(query("int3-g12", "int8-g32", Fallback::refuse));
    REQUIRE(!refused);
    CHECK(refused.error().kind == ErrorKind::no_kernel);
    CHECK(refused.error().candidates.size() == kernel_catalog().size());
    for (const Candidate& candidate : refused.error().candidates) {
        INFO(candidate.kernel);
        CHECK(!candidate.reason.empty());
        CHECK(refused.error().message.find(candidate.kernel) != std::string::npos);
        CHECK(refused.error().message.find(candidate.reason) != std::string::npos);
    }
    const auto allowed = select_kernel(query("int3-g12", "int8-g32", Fallback::allow));
    REQUIRE(allowed);
    CHECK(allowed->name() == "int_grouped/generic/int8");
    CHECK(allowed->is_fallback());
    CHECK(!allowed->fallback_reason().empty());
}

TEST_CASE("a tuned kernel is chosen where the CPU has one, and is no fallback") {
    for (const char* weights : {"int4-g32", "int4-g128-asym", "int2-g64", "int6-g32-asym", "int8-channel",
                                "int8-g64-fzero", "int4-tensor"})
        for (const char* activations : {"f32", "bf16", "int8-row", "int8-g32"}) {
            const auto kernel = select_kernel(query(weights, activations, Fallback::refuse));
            INFO(weights << " " << activations);
            if (has_tuned_kernels()) {
                REQUIRE(kernel);
                CHECK(kernel->isa() != Isa::generic);
                CHECK(!kernel->is_fallback());
            } else {
                REQUIRE(!kernel);
                CHECK(kernel.error().message.find("this CPU lacks") != std::string::npos);
            }
        }
}

TEST_CASE("no kernel multiplies float weights with int8 activations") {
    const auto kernel = select_kernel(query("f32", "int8-row", Fallback::allow));
    REQUIRE(!kernel);
    CHECK(kernel.error().message.find("no kernel can multiply f32 weights") != std::string::npos);
}

TEST_CASE("FEWBIT_FORCE_ISA and FEWBIT_FORCE_KERNEL force, and unknown names are errors") {
    {
        const Environment force("FEWBIT_FORCE_ISA", "generic");
        const auto kernel = select_kernel(query("int4-g32", "int8-g32", Fallback::refuse));
        REQUIRE(kernel);
        CHECK(kernel->name() == "int_grouped/generic/int8");
    }
    {
        const Environment force("FEWBIT_FORCE_ISA", "avx9000");
        const auto kernel = select_kernel(query("int4-g32", "int8-g32", Fallback::allow));
        REQUIRE(!kernel);
        CHECK(kernel.error().message.find("'avx9000'") != std::string::npos);
    }
    {
        const Environment force("FEWBIT_FORCE_KERNEL", "int_grouped/generic/f32");
        const auto kernel = select_kernel(query("int4-g32", "f32", Fallback::refuse));
        REQUIRE(kernel);
        CHECK(kernel->name() == "int_grouped/generic/f32");
        // The forced kernel does not read int8 activations: an error, not another kernel.
        CHECK(!select_kernel(query("int4-g32", "int8-g32", Fallback::allow)));
    }
    {
        const Environment force("FEWBIT_FORCE_KERNEL", "int_grouped/avx2/int4");
        const auto kernel = select_kernel(query("int4-g32", "int8-g32", Fallback::allow));
        REQUIRE(!kernel);
        CHECK(kernel.error().message.find("'int_grouped/avx2/int4', which is no kernel") !=
              std::string::npos);
    }
    if (!cpu_supports(Isa::avx2)) {
        const Environment force("FEWBIT_FORCE_ISA", "avx2");
        CHECK(!select_kernel(query("int4-g32", "int8-g32", Fallback::allow)));
    }
}

TEST_CASE("invalid formats are refused with their sentence") {
    MatmulQuery bad = query("int4-g32", "f32", Fallback::allow);
    bad.weights.bits = 9;
    const auto kernel = select_kernel(bad);
    REQUIRE(!kernel);
    CHECK(kernel.error().message.find("9 bits") != std::string::npos);
    bad = query("int4-g32", "int8-g32", Fallback::allow);
    bad.activations.group = 3;
    CHECK(!select_kernel(bad));
}

TEST_CASE("matmul refuses what does not fit, with sentences that name the values") {
    const Format format = *parse_format("int4-g32");
    const auto w = *QuantizedMatrix::allocate(format, 8, 64);
    const auto kernel = *select_kernel({format, exact_activations(), 2, 8, 64, Fallback::allow});
    const auto packed = *pack(w, kernel.layout());
    Matrix x(2, 64), y(2, 8);
    REQUIRE(matmul(kernel, x.view(), packed, y.view()));

    Matrix narrow(2, 63), wrong(2, 9);
    const auto bad_x = matmul(kernel, narrow.view(), packed, y.view());
    REQUIRE(!bad_x);
    CHECK(bad_x.error().message.find("x is 2 x 63") != std::string::npos);
    CHECK(!matmul(kernel, x.view(), packed, wrong.view()));
    const float bias[7] = {};
    CHECK(!matmul(kernel, x.view(), packed, y.view(), bias));
    if (has_tuned_kernels()) {
        const auto rows = *pack(w, Layout::rows);
        const auto bad_layout = matmul(kernel, x.view(), rows, y.view());
        REQUIRE(!bad_layout);
        CHECK(bad_layout.error().message.find("packed as rows") != std::string::npos);
    }
    // Activations packed for one grouping of sums do not serve another.
    const auto int8 = *select_kernel({format, int8_row_activations(), 2, 8, 64, Fallback::allow});
    const auto int8_packed = *pack(w, int8.layout());
    const KernelCode& code = *int8.info().code;
    const auto other = *pack_activations(x.view(), int8_row_activations(),
                                         {16, code.rows_together, nullptr, code.elements_together});
    const auto bad_sums = matmul(int8, other, int8_packed, y.view());
    REQUIRE(!bad_sums);
    CHECK(bad_sums.error().message.find("sums over 16") != std::string::npos);
}

TEST_CASE("K = 0 gives the bias, M = 0 and N = 0 give nothing") {
    const Format format = *parse_format("int8-channel");
    for (const char* activations : {"f32", "int8-row"}) {
        const auto w = *QuantizedMatrix::allocate(format, 3, 0);
        const auto kernel =
            *select_kernel({format, *parse_activation_format(activations), 2, 3, 0, Fallback::allow});
        const auto packed = *pack(w, kernel.layout());
        Matrix x(2, 0), y(2, 3);
        for (float& value : y.values()) value = -1.0f;
        const float bias[3] = {1, 2, 3};
        REQUIRE(matmul(kernel, x.view(), packed, y.view(), bias));
        CHECK(y(0, 0) == 1.0f);
        CHECK(y(1, 2) == 3.0f);
        REQUIRE(matmul(kernel, x.view(), packed, y.view()));
        CHECK(y(1, 2) == 0.0f);
    }
}

TEST_CASE("activations that suit a format have the kernels that int8-g32 has, and groups like its own") {
    for (const char* weights :
         {"int2-g32",   "int4-g32", "int4-g64-asym", "int4-g128",     "int4-channel", "int5-g32-fzero",
          "int3-g40",   "int5-g72", "int4-g12",      "int8-channel",  "int8-tensor",  "int3-g256",
          "nf4-g64-dq", "q4_0",     "q8_0",          "q4_k",          "q2_k",         "q6_k",
          "iq4_xs",     "mxfp4",    "nvfp4",         "fp8-e4m3-g128", "f32",          "bf16"}) {
        const Format format = *parse_format(weights);
        const ActivationFormat suited = suited_activations(format);
        INFO(weights << ": " << name(suited));
        REQUIRE(validate(suited).has_value());
        const auto found = [&](const ActivationFormat& x) {
            return select_kernel({format, activations_for(format, x), 4, 256, 512, Fallback::refuse})
                .has_value();
        };
        CHECK(found(suited) == found(int8_group_activations(32)));
    }
    const auto suits = [](const char* weights, const char* x) {
        return name(suited_activations(*parse_format(weights))) == x;
    };
    CHECK(suits("int4-g128", "int8-g128"));
    CHECK(suits("int2-g16", "int8-g32"));
    CHECK(suits("int3-g40", "int8-g32"));  // planes take multiples of 16
    CHECK(suits("int3-g48", "int8-g48"));
    CHECK(suits("q4_0", "int8-g32"));
    CHECK(suits("q4_k", "int8-g256"));  // q8_k of ggml
    CHECK(suits("int8-channel", "int8-row"));
    CHECK(suits("bf16", "f32"));
}

TEST_CASE("a report names the kernel that ran, also where the chosen one hands a product on") {
    const auto kernel = select_kernel(query("int4-g32", "int8-g32", Fallback::allow));
    REQUIRE(kernel);
    static const KernelCode* other;  // of generic code, which every build has
    for (const KernelInfo& info : kernel_catalog())
        if (info.name == "int_grouped/generic/int8") other = info.code;
    REQUIRE(other != nullptr);
    KernelCode code = *other;
    code.hands_to = [](const KernelCall& call) noexcept { return call.x.m < 3 ? other : nullptr; };
    const KernelInfo info{
        "int_grouped/mine/int8", "int_grouped", Isa::generic, ActivationElement::int8, Layout::rows,
        integer_weights,         &code};
    const Kernel mine(info, *parse_activation_format("int8-g32"), {});
    const auto w = QuantizedMatrix::allocate(*parse_format("int4-g32"), 5, 64);
    REQUIRE(w);
    const auto packed = pack(*w, Layout::rows);
    REQUIRE(packed);
    for (const std::size_t m : {1, 2, 3}) {
        Matrix x(m, 64), y(m, 5);
        const auto report = matmul(mine, x.view(), *packed, y);
        REQUIRE(report);
        CHECK(report->kernel == (m < 3 ? "int_grouped/generic/int8" : "int_grouped/mine/int8"));
    }
}
