// The same bytes everywhere, of methods that read statistics or iterate: as golden_test.cpp, whose words on
// changed numbers hold here too. The statistics come from inputs that are small multiples of 1/8, whose sums
// of products are exact in any order: what is pinned is the methods' own arithmetic.
#include <array>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <string>
#include <vector>

#include "fewbit/core/thread_pool.hpp"
#include "fewbit/quantize/awq.hpp"
#include "fewbit/quantize/gptq.hpp"
#include "fewbit/quantize/hqq.hpp"
#include "fewbit/quantize/smoothquant.hpp"
#include "support/catch.hpp"
#include "support/fnv.hpp"
#include "support/random.hpp"

using namespace fewbit;
using testing::Fnv;

namespace {

using Integers = std::vector<std::int64_t>;  ///< (tokens, k)

/// sum over tokens of a^T b, of eighths: (k, k)
Tensor products(const Integers& a, const Integers& b, std::size_t k) {
    Integers sums(k * k);
    for (std::size_t t = 0; t < a.size() / k; ++t)
        for (std::size_t i = 0; i < k; ++i)
            for (std::size_t j = 0; j < k; ++j) sums[i * k + j] += a[t * k + i] * b[t * k + j];
    Tensor out = *Tensor::allocate(Scalar::f64, {k, k});
    for (std::size_t i = 0; i < k * k; ++i) out.as_mutable<double>()[i] = static_cast<double>(sums[i]) / 64;
    return out;
}

/// Of fewer tokens than channels, fours of which are correlated, some larger than others, one always zero;
/// the float model's inputs differ by up to a quarter.
TensorStatistics statistics(std::size_t k) {
    constexpr std::size_t tokens = 150;
    testing::Random random(k);
    const auto draw = [&](std::int64_t most) {
        return static_cast<std::int64_t>(random.below(static_cast<std::size_t>(2 * most + 1))) - most;
    };
    Integers x(tokens * k), difference(tokens * k);
    Matrix as_floats(tokens, k);
    for (std::size_t t = 0; t < tokens; ++t) {
        std::int64_t common = 0;
        for (std::size_t c = 0; c < k; ++c) {
            if (c % 4 == 0) common = 3 * draw(8);
            const std::int64_t factor = c == 5 ? 0 : c % 7 == 3 ? 4 : 1;
            x[t * k + c] = factor * (common + draw(8));
            difference[t * k + c] = draw(2);
            as_floats(t, c) = static_cast<float>(x[t * k + c]) / 8;
        }
    }
    TensorStatistics out;
    REQUIRE(out.add(as_floats));
    out.hessian_sum = products(x, x, k);
    out.asymmetry_sum = products(difference, x, k);
    return out;
}

/// Of one K: weights and what their inputs were. ggml's super-blocks divide 512, no group divides 300.
struct Layer {
    explicit Layer(std::size_t k)
        : w(testing::heavy_tailed_matrix(72, k, k, 0.02)), statistics(::statistics(k)) {}
    Matrix w;
    TensorStatistics statistics;
};

const Layer& layer_for(const Format& format) {
    static const Layer of_groups(300), of_blocks(512);
    return format.is_block() ? of_blocks : of_groups;
}

using Run = std::function<Result<Quantized>(const Layer&, const Format&, ExecutionContext)>;

/// The hash of what `run` makes, which has to be the same for 1, 2 and 7 threads (7 alone under sanitizers and
/// emulators, whose minutes are few).
std::string hash_of(const char* format_name, const Run& run) {
    static ThreadPool two(2), seven(7);
    const Format format = *parse_format(format_name);
    std::vector<ExecutionContext> contexts{seven};
    if (!fewbit_test::sampled()) contexts.emplace_back(), contexts.emplace_back(two);
    std::string first;
    for (const ExecutionContext context : contexts) {
        const auto done = run(layer_for(format), format, context);
        INFO(format_name << ": " << (done ? std::string() : done.error().message));
        REQUIRE(done);
        Fnv hash;
        hash.add(*done);
        if (first.empty()) first = hash.hex();
        CHECK(hash.hex() == first);
    }
    return first;
}

std::string hash_of(const ChannelScales& scales) {
    Fnv hash;
    hash.add(std::as_bytes(std::span(scales.scales)));
    return hash.hex();
}

}  // namespace

TEST_CASE("golden: weights and statistics themselves", "[quantize][golden]") {
    Fnv hash;
    for (const char* name : {"int4-g32", "q4_k"}) {
        const Layer& layer = layer_for(*parse_format(name));
        hash.add(std::as_bytes(layer.w.values()));
        hash.add(std::as_bytes(std::span(layer.statistics.sum_abs)));
        hash.add(std::as_bytes(std::span(layer.statistics.sum_square)));
        hash.add(layer.statistics.hessian_sum.bytes());
        hash.add(layer.statistics.asymmetry_sum.bytes());
    }
    CHECK(hash.hex() == "5c37d6825f497963");
}

TEST_CASE("golden: bytes of gptq in every order", "[quantize][golden]") {
    const auto gptq = [](const GptqOptions& options) -> Run {
        return [options](const Layer& layer, const Format& format, ExecutionContext context) {
            return quantize_gptq(layer.w, layer.statistics, format, options, context);
        };
    };
    struct Row {
        const char* format;
        std::array<const char*, 4> hashes;  ///< natural, group_aware, activation, permuted
    };
    for (const Row& row :
         {Row{"int4-g32", {"17752c2b8c7a3726", "6b7fa8cede967ec9", "6562b6eb5489096b", "7c9a12207bd8f65b"}},
          Row{"int3-g64-asym",
              {"ca501c60612a1fe7", "7279df5d00426ad2", "a21e8de26499c89d", "dbf9efae28d0b917"}},
          Row{"int4-channel",
              {"657a130acce36afa", "7a68ceee5f93ef70", "7a68ceee5f93ef70", "7a68ceee5f93ef70"}},
          Row{"nf4-g64", {"028817f83609ee82", "7b893953719a274d", "cd71d1f35abd28db", "6bef443a28b4a316"}},
          Row{"q4_k", {"c4c3e4783171c7b7", "8391e6f21a5789bd", "8e2f1f3583d8f4e2", "e0af7fa32712f201"}}})
        for (std::size_t order = 0; order < row.hashes.size(); ++order) {
            INFO(row.format << ", order " << order);
            GptqOptions options;
            options.order = static_cast<ColumnOrder>(order);
            CHECK(hash_of(row.format, gptq(options)) == row.hashes[order]);
        }
    GptqOptions fixed, symmetric, undamped;
    fixed.static_groups = true;
    symmetric.asymmetry = 0;
    undamped.damping = 0;  // this Hessian has no factor then; the first it has is with 0.01, as above
    CHECK(hash_of("int3-g64-asym", gptq(fixed)) == "922f0cc52740ab5a");
    CHECK(hash_of("int3-g64-asym", gptq(symmetric)) == "de47f41b6453efbb");
    CHECK(hash_of("int3-g64-asym", gptq(undamped)) == "7279df5d00426ad2");
}

TEST_CASE("golden: scales and bytes of awq", "[quantize][golden]") {
    AwqOptions options;
    options.steps = 6;
    options.rows = 24;
    for (const auto& [name, expected] : {std::pair{"int3-g32", "5d8d32c7bae41702"},
                                         {"int4-g64-asym", "8ec6b044d99b992c"},
                                         {"nf4-g64", "9ca10b36ba896597"},
                                         {"q4_k", "e64f8fe4b6746489"}}) {
        INFO(name);
        CHECK(hash_of(name, [&](const Layer& layer, const Format& format, ExecutionContext context) {
                  return quantize_awq(layer.w, layer.statistics, format, options, context);
              }) == expected);
    }
    // Clipping alone, with its whole search.
    CHECK(hash_of("int3-g64-asym", [&](const Layer& layer, const Format& format, ExecutionContext context) {
              return quantize_awq_clip(layer.w, layer.statistics, format, {}, context);
          }) == "978b9c2103860abf");
    // Two matrices that read the same channels, which are tied in pairs.
    const Format format = *parse_format("int3-g32");
    const Layer& layer = layer_for(format);
    const Matrix other = testing::gaussian_matrix(10, 300, 5, 0.05);
    const MatrixView<const float> readers[] = {layer.w.view(), other.view()};
    std::vector<std::uint32_t> tied(300);
    for (std::uint32_t c = 0; c < 300; ++c) tied[c] = c / 2;
    const auto scales = awq_scales(readers, layer.statistics, format, options, tied);
    REQUIRE(scales);
    CHECK(scales->how != "none");
    CHECK(hash_of(*scales) == "543ad3e0434240a6");
}

TEST_CASE("golden: scales of smoothquant", "[quantize][golden]") {
    const Layer& layer = layer_for(*parse_format("int4-g32"));
    const Matrix other = testing::gaussian_matrix(10, 300, 5, 0.05);
    const MatrixView<const float> readers[] = {layer.w.view(), other.view()};
    for (const auto& [alpha, expected] :
         {std::pair{0.5, "b8e77169e1c2f945"}, {0.75, "6590ca10652f2641"}, {1.0, "d8f9e1de671770bb"}}) {
        SmoothQuantOptions options;
        options.alpha = alpha;
        const auto scales = smoothquant_scales(readers, layer.statistics, options);
        REQUIRE(scales);
        INFO("alpha " << alpha);
        CHECK(hash_of(*scales) == expected);
    }
}

TEST_CASE("golden: bytes of hqq", "[quantize][golden]") {
    struct Row {
        const char* format;
        double exponent, beta;  ///< of weights this small the default beta, 10, shrinks all errors to 0
        const char* hash;
    };
    for (const Row& row : {Row{"int4-g64-fzero", 0.7, 10, "9f05e0e36b460717"},
                           Row{"int4-g64-fzero", 1.0, 1000, "7c385ec6f3533a5a"},
                           Row{"int3-g32-asym", 0.7, 1000, "819d96994ff1fbf7"},
                           Row{"int2-channel-fzero", 0.7, 1000, "31ad0da34cd09e0d"},
                           Row{"int3-g48-fzero-sf32", 0.7, 1000, "ef87bca1702e2d9e"}}) {
        INFO(row.format << ", p " << row.exponent << ", beta " << row.beta);
        HqqOptions options;
        options.exponent = row.exponent;
        options.beta = row.beta;
        CHECK(hash_of(row.format, [&](const Layer& layer, const Format& format, ExecutionContext context) {
                  return quantize_hqq(layer.w, format, options, context);
              }) == row.hash);
    }
}
