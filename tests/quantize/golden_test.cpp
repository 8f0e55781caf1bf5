// The same bytes everywhere: hashes of codes and parameters over all formats and methods, as constants. g++,
// clang++, x86 and Arm compare with the same numbers; 1, 2 and 7 threads with each other. A changed number is
// a changed file format for everybody who quantizes again: change it only on purpose, and say so in the
// changelog.
#include <cmath>
#include <string>
#include <vector>

#include "fewbit/core/thread_pool.hpp"
#include "fewbit/quantize/quantize.hpp"
#include "support/all_formats.hpp"
#include "support/catch.hpp"
#include "support/fnv.hpp"
#include "support/random.hpp"

using namespace fewbit;
using testing::Fnv;

namespace {

std::string hash_of(const Quantized& q) {
    Fnv hash;
    hash.add(q);
    return hash.hex();
}

std::vector<Matrix> matrices() {
    std::vector<Matrix> out{testing::gaussian_matrix(11, 300, 1, 0.02),
                            testing::heavy_tailed_matrix(5, 257, 2), testing::gaussian_matrix(5, 40, 3, 1e-6),
                            Matrix(3, 33)};
    Matrix positive(3, 71);
    testing::Random random(4);
    for (float& x : positive.values()) x = static_cast<float>(random.uniform(3, 5));
    out.push_back(positive);
    return out;
}

std::string hash_of(const Method& method, const std::vector<Format>& formats, ExecutionContext context = {}) {
    Fnv hash;
    for (const Matrix& w : matrices())
        for (const Format& format : formats) {
            const auto q = quantize(w, {}, format, method, context);
            REQUIRE(q);
            hash.add(*q);
        }
    return hash.hex();
}

}  // namespace

TEST_CASE("golden: the generator's own numbers", "[quantize][golden]") {
    Fnv hash;
    for (const Matrix& w : matrices()) hash.add(std::as_bytes(w.values()));
    CHECK(hash.hex() == "f46e5b9c5ca5fcda");
}

TEST_CASE("golden: bytes of rtn and mse in every format", "[quantize][golden]") {
    CHECK(hash_of(RtnOptions{}, testing::all_formats({8, 32})) == "91c3b2f3612c286c");
    CHECK(hash_of(MseOptions{}, testing::all_formats({8, 32})) == "036df340183d366b");
    CHECK(hash_of(RtnOptions{}, testing::codebook_and_dq_formats({8, 32})) == "33c58fd97a1a2f25");
    CHECK(hash_of(MseOptions{}, testing::codebook_and_dq_formats({8, 32})) == "460dc8ab2733f149");
    MseOptions gptq;
    gptq.exponent = 2.4;  // slow: a few formats
    std::vector<Format> few;
    for (const char* name :
         {"int2-g32", "int3-g32-asym", "int4-g8-fzero-sbf16", "int4-channel-narrow", "int4-tensor-asym"})
        few.push_back(*parse_format(name));
    CHECK(hash_of(gptq, few) == "fcac568fd75da180");
}

TEST_CASE("golden: bytes and reports do not depend on threads", "[quantize][golden]") {
    const auto w = testing::heavy_tailed_matrix(160, 500, 9);  // five blocks of rows
    ThreadPool two(2), seven(7);
    for (const char* name : {"int4-g32", "int3-g37-asym", "int3-tensor-asym", "int2-tensor-fzero",
                             "int8-channel-fzero", "int4-channel-narrow", "bf16"})
        for (const Method& method : {Method(RtnOptions{}), Method(MseOptions{})}) {
            INFO(name);
            const auto one = quantize(w, {}, *parse_format(name), method);
            for (ThreadPool* pool : {&two, &seven}) {
                const auto many = quantize(w, {}, *parse_format(name), method, *pool);
                CHECK(hash_of(*one) == hash_of(*many));
                CHECK(one->report.sqnr_db == many->report.sqnr_db);
                CHECK(one->report.max_abs_error == many->report.max_abs_error);
            }
        }
}
