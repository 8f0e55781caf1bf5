// Caches of few bits: what is read is what the format's quantizer makes of each row, attention sees nothing else, and a
// rotation of queries and keys changes no score, only what rounding does to them.
#include "fewbit/model/kv_cache.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "fewbit/core/thread_pool.hpp"
#include "fewbit/model/operators.hpp"
#include "fewbit/model/transformer.hpp"
#include "fewbit/quantize/rtn.hpp"
#include "support/catch.hpp"
#include "support/random.hpp"
#include "support/toy_model.hpp"

namespace {

using namespace fewbit;
using model::KvCache;
using model::KvCacheOptions;

constexpr float not_a_number = std::numeric_limits<float>::quiet_NaN();

io::ModelShape shape_of(std::size_t layers, std::size_t kv_heads, std::size_t head_dim, std::size_t context) {
    io::ModelShape shape;
    shape.layers = layers;
    shape.kv_heads = kv_heads;
    shape.head_dim = head_dim;
    shape.context = context;
    return shape;
}

Format parsed(const std::string& name) {
    const auto format = model::parse_cache_format(name);
    INFO((format ? name : format.error().message));
    REQUIRE(format);
    return *format;
}

KvCacheOptions both(const std::string& name, bool rotate_keys = false) {
    return {parsed(name), parsed(name), rotate_keys};
}

KvCache made(const io::ModelShape& shape, std::size_t positions, const KvCacheOptions& options) {
    auto cache = KvCache::create(shape, positions, options);
    INFO((cache ? "" : cache.error().message));
    REQUIRE(cache);
    return *std::move(cache);
}

std::string refused(const io::ModelShape& shape, std::size_t positions, const KvCacheOptions& options) {
    const auto cache = KvCache::create(shape, positions, options);
    REQUIRE(!cache);
    return cache.error().message;
}

/// NaNs are equal here.
bool same_values(std::span<const float> a, std::span<const float> b) {
    return std::ranges::equal(a, b,
                              [](float x, float y) { return x == y || (std::isnan(x) && std::isnan(y)); });
}

const std::vector<std::string> names{"f32",           "f16",      "bf16",          "int8-row",
                                     "int8-g32",      "int4-row", "int4-g8",       "int4-g32-asym",
                                     "int3-row-asym", "int3-g16", "int2-g8-fzero", "int5-row-narrow",
                                     "int6-g24",      "int7-row", "int2-row"};
const std::vector<std::string> block_names{"q8_0", "q4_0", "q4_1", "q5_0", "q5_1", "iq4_nl", "mxfp4"};

}  // namespace

TEST_CASE("kv cache: names are read back; what a cache cannot be is refused in a sentence") {
    for (const auto& list : {names, block_names})
        for (const std::string& name : list) CHECK(model::cache_format_name(parsed(name)) == name);
    for (const auto& [name, why] :
         std::vector<std::pair<std::string, std::string>>{{"int4", "how many values share a scale"},
                                                          {"int4-channel", "belong to a row of a head"},
                                                          {"int4-tensor", "each row of a head"},
                                                          {"int4-row-sf32", "are f16"},
                                                          {"int4-g32-sbf16", "scale of f16"},
                                                          {"int4-g32-dq", "scale of f16"},
                                                          {"nf4-g32", "or integers"},
                                                          {"int9-row", "b from 2 to 8"},
                                                          {"int4-g4", "n from 8 on"},
                                                          {"f17", "known are"},
                                                          {"f16-row", "known are"},
                                                          {"int4-rows", "known are"},
                                                          {"nf4", "or integers"},
                                                          {"", "known are"}}) {
        const auto format = model::parse_cache_format(name);
        REQUIRE(!format);
        INFO(format.error().message);
        CHECK(format.error().message.find(why) != std::string::npos);
        CHECK(format.error().message.find("'" + name + "'") != std::string::npos);
    }
    CHECK(refused(shape_of(1, 2, 48, 9), 4, both("q8_0")).find("48") != std::string::npos);
    CHECK(refused(shape_of(1, 2, 1032, 9), 4, both("int4-row")).find("1032") != std::string::npos);
    CHECK(refused(shape_of(1, 2, 64, 9), 10, both("int4-row")).find("10 positions") != std::string::npos);
    Format careless = parsed("f16");  // of floats only the element counts
    careless.bits = 4;
    KvCache floats = made(shape_of(1, 1, 8, 9), 9, {careless, careless, false});
    const std::vector<float> ones(8, 1.0f);
    for (std::size_t p = 0; p < 9; ++p) floats.store(0, p, ones, ones);
    std::vector<float> read(8);
    CHECK(floats.keys(0, 0, 8, 1, read).row(0)[7] == 1.0f);
    const auto endless = shape_of(1, 1, 64, SIZE_MAX);
    CHECK(!KvCache::create(endless, SIZE_MAX / 2, both("int4-row")));
    CHECK(!KvCache::create(shape_of(SIZE_MAX / 2, 8, 64, SIZE_MAX), SIZE_MAX / 2, both("int4-row")));
}

TEST_CASE("kv cache: a row reads as rtn stores it, whatever stands beside it") {
    for (const std::size_t head_dim : {1, 7, 8, 32, 33, 64, 80, 160, 1024}) {
        const std::size_t heads = 3, layers = 2, positions = 5;
        std::vector<std::string> fitting = names;
        if (head_dim % 32 == 0) fitting.insert(fitting.end(), block_names.begin(), block_names.end());
        for (const std::string& name : fitting) {
            INFO(name << ", heads of " << head_dim);
            KvCache cache = made(shape_of(layers, heads, head_dim, 9), positions, both(name));
            const Matrix keys = testing::gaussian_matrix(layers * positions, heads * head_dim, 3, 2.0),
                         values = testing::gaussian_matrix(layers * positions, heads * head_dim, 4, 0.1);
            for (std::size_t pass = 0; pass < 2; ++pass)  // the second one over the first, backwards
                for (std::size_t r = 0; r < keys.rows(); ++r) {
                    const std::size_t at = pass == 0 ? r : keys.rows() - 1 - r;
                    const Matrix& k = pass == 0 ? values : keys;
                    const Matrix& v = pass == 0 ? keys : values;
                    cache.store(at / positions, at % positions, k.row(at), v.row(at));
                }
            std::vector<float> scratch(cache.scratch_elements(positions), not_a_number);
            CHECK((scratch.empty()) == (name == "f32"));
            for (std::size_t layer = 0; layer < layers; ++layer)
                for (std::size_t head = 0; head < heads; ++head)
                    for (const bool of_keys : {true, false}) {
                        Matrix rows(positions, head_dim);
                        for (std::size_t p = 0; p < positions; ++p) {
                            const auto from = (of_keys ? keys : values).row(layer * positions + p);
                            std::copy_n(from.begin() + static_cast<std::ptrdiff_t>(head * head_dim), head_dim,
                                        rows.row(p).begin());
                        }
                        const auto stored = quantize_rtn(std::as_const(rows).view(), parsed(name));
                        REQUIRE(stored);
                        for (const std::size_t first : {std::size_t{0}, std::size_t{2}}) {
                            const auto read =
                                of_keys ? cache.keys(layer, head, first, positions - first, scratch)
                                        : cache.values(layer, head, first, positions - first, scratch);
                            REQUIRE(read.rows == positions - first);
                            std::vector<float> expected(head_dim);
                            for (std::size_t p = first; p < positions; ++p) {
                                stored->linear.weights.dequantize(p, 0, expected);
                                CHECK(same_values(read.row(p - first), expected));
                            }
                        }
                    }
        }
    }
}

TEST_CASE("kv cache: few bits are few bytes") {
    for (const std::size_t head_dim : {64, 128})
        for (const auto& list : {names, block_names})
            for (const std::string& name : list) {
                INFO(name << ", heads of " << head_dim);
                const std::size_t rows = 3 * 4 * 100;
                const KvCache cache = made(shape_of(3, 4, head_dim, 100), 100, both(name));
                const double elements = 2.0 * static_cast<double>(rows * head_dim);
                const double bits = model::bits_per_element(parsed(name), head_dim);
                // Beside it a byte per row that says whether it could be stored, and rows of whole bytes.
                CHECK(static_cast<double>(cache.size_bytes()) >= bits / 8 * elements);
                CHECK(static_cast<double>(cache.size_bytes()) <= bits / 8 * elements + 2.0 * 3.0 * rows);
            }
    // Published sizes: 4.5 bits of q4_0, 8.5 of q8_0; a scale and a zero point of a group of 32: 20 bits.
    CHECK(model::bits_per_element(parsed("q4_0"), 64) == 4.5);
    CHECK(model::bits_per_element(parsed("q8_0"), 128) == 8.5);
    CHECK(model::bits_per_element(parsed("int4-g32-asym"), 64) == 4.625);
    CHECK(model::bits_per_element(parsed("int2-row"), 128) == 2.125);
}

TEST_CASE("kv cache: attention over few bits is attention over what they stand for, bit for bit") {
    ThreadPool three(3);
    struct Case {
        std::size_t heads, kv_heads, head_dim, first, rows;
    };
    for (const Case& c : {Case{4, 2, 64, 130, 3}, Case{6, 2, 80, 0, 70}, Case{1, 1, 7, 64, 1}})
        for (const std::string name : {"f16", "int8-row", "int4-g32-asym", "int2-g8-fzero"}) {
            INFO(name << ", heads of " << c.head_dim);
            const std::size_t positions = c.first + c.rows;
            const auto shape = shape_of(1, c.kv_heads, c.head_dim, positions);
            KvCache cache = made(shape, positions, {parsed(name), parsed("int4-row"), false});
            KvCache plain = made(shape, positions, {});
            const Matrix keys = testing::gaussian_matrix(positions, c.kv_heads * c.head_dim, 3),
                         values = testing::gaussian_matrix(positions, c.kv_heads * c.head_dim, 4);
            std::vector<float> one(cache.scratch_elements(1));
            for (std::size_t p = 0; p < positions; ++p) {
                cache.store(0, p, keys.row(p), values.row(p));
                std::vector<float> key, value;
                for (std::size_t head = 0; head < c.kv_heads; ++head) {
                    const auto k = cache.keys(0, head, p, 1, one).row(0);
                    key.insert(key.end(), k.begin(), k.end());
                    const auto v = cache.values(0, head, p, 1, one).row(0);
                    value.insert(value.end(), v.begin(), v.end());
                }
                plain.store(0, p, key, value);
            }
            const Matrix q = testing::gaussian_matrix(c.rows, c.heads * c.head_dim, 5);
            const auto attend = [&](const KvCache& over, ExecutionContext context) {
                Matrix out(c.rows, c.heads * c.head_dim);
                std::vector<float> scratch(model::attention_scratch_elements(over, context.workers()),
                                           not_a_number);
                model::attention(q.view(), c.heads, over, 0, c.first, out, scratch, context);
                return out;
            };
            const Matrix expected = attend(plain, {});
            CHECK(same_values(attend(cache, {}).values(), expected.values()));
            CHECK(same_values(attend(cache, three).values(), expected.values()));
            CHECK(std::isfinite(expected(0, 0)));
        }
}

TEST_CASE("kv cache: a row that cannot be stored is NaN, and its neighbours are not") {
    const float infinity = std::numeric_limits<float>::infinity();
    for (const std::string name :
         {"f16", "int8-row", "int4-g8-asym", "int2-g8-fzero", "q8_0", "q4_0", "q4_1"})
        for (const float bad : {not_a_number, infinity, -infinity, 3e38f}) {
            INFO(name << ", " << bad);
            KvCache cache = made(shape_of(1, 2, 32, 4), 3, both(name));
            Matrix rows = testing::gaussian_matrix(1, 64, 7);
            const Matrix good = rows;
            rows(0, 40) = bad;  // of the second head
            cache.store(0, 0, good.row(0), good.row(0));
            cache.store(0, 1, rows.row(0), good.row(0));
            std::vector<float> scratch(cache.scratch_elements(2));
            const auto finite = [](std::span<const float> row) {
                return std::all_of(row.begin(), row.end(), [](float v) { return std::isfinite(v); });
            };
            const auto view = cache.keys(0, 1, 0, 2, scratch);
            CHECK(finite(view.row(0)));
            // All of it: an infinity would take no part where a query points the other way.
            for (const float value : view.row(1)) CHECK(std::isnan(value));
            CHECK(finite(cache.keys(0, 0, 0, 2, scratch).row(1)));
            CHECK(finite(cache.values(0, 1, 0, 2, scratch).row(1)));
            cache.store(0, 1, good.row(0), good.row(0));  // and the place can be used again
            CHECK(finite(cache.keys(0, 1, 0, 2, scratch).row(1)));
        }
}

TEST_CASE("kv cache: a rotation keeps every score and spreads what one channel holds") {
    ThreadPool three(3);
    for (const std::size_t head_dim : {1, 2, 7, 8, 20, 64, 80, 96, 172}) {
        INFO("heads of " << head_dim);
        const std::size_t heads = 3, rows = 5;
        const KvCache cache = made(shape_of(1, heads, head_dim, 9), 9, both("f32", true));
        const std::size_t order = cache.rotation_order();
        REQUIRE(order != 0);
        REQUIRE(head_dim % order == 0);
        const Matrix q = testing::gaussian_matrix(rows, heads * head_dim, 1),
                     k = testing::gaussian_matrix(rows, heads * head_dim, 2);
        Matrix q_turned = q, k_turned = k, on_threads = k;
        cache.rotate(q_turned);
        cache.rotate(k_turned);
        cache.rotate(on_threads, three);
        CHECK(same_values(on_threads.values(), k_turned.values()));
        for (std::size_t r = 0; r < rows; ++r)
            for (std::size_t head = 0; head < heads; ++head) {
                double score = 0, turned = 0, size = 0;
                for (std::size_t i = head * head_dim; i < (head + 1) * head_dim; ++i) {
                    score += static_cast<double>(q(r, i)) * static_cast<double>(k(r, i));
                    turned += static_cast<double>(q_turned(r, i)) * static_cast<double>(k_turned(r, i));
                    size += static_cast<double>(q(r, i)) * static_cast<double>(q(r, i)) +
                            static_cast<double>(k(r, i)) * static_cast<double>(k(r, i));
                }
                // Each sum of a rotation adds log2 (order) + order / 64 roundings at most, of values of this size.
                CHECK(std::fabs(turned - score) <= 0x1p-24 * static_cast<double>(order + 8) * size);
            }
        Matrix spike(1, heads * head_dim);
        spike(0, 0) = 3.0f;
        cache.rotate(spike);
        for (std::size_t i = 0; i < head_dim; ++i) {
            const double expected = i < order ? 3 / std::sqrt(static_cast<double>(order)) : 0;
            // The scale and its product are rounded, and sums with zeros are not; bases above 1 multiply by +-1.
            CHECK(std::fabs(std::fabs(static_cast<double>(spike(0, i))) - expected) <= 2 * 0x1p-24 * 3);
        }
        for (std::size_t i = head_dim; i < heads * head_dim; ++i) CHECK(spike(0, i) == 0);
    }
}

TEST_CASE("kv cache: keys with one large channel lose what theory says, and less when rotated") {
    // Channels of N(0, 1) and one of C: the grid of int4-row has steps of 2 C / 15. Where C is large, all others round to 0
    // and their error is 1; C itself lies half a step outside the codes. Rotated, a row is N(0, 1) +- C / sqrt(64), whose
    // largest of 64 sets the step.
    const std::size_t head_dim = 64, positions = 200;
    const auto error = [&](float large, bool rotate) {
        KvCache cache = made(shape_of(1, 1, head_dim, positions), positions, both("int4-row", rotate));
        Matrix keys = testing::gaussian_matrix(positions, head_dim, 3);
        for (std::size_t p = 0; p < positions; ++p) keys(p, 17) = large;
        cache.rotate(keys);
        std::vector<float> scratch(cache.scratch_elements(1));
        double sum = 0;
        for (std::size_t p = 0; p < positions; ++p) {
            cache.store(0, p, keys.row(p), keys.row(p));
            const auto read = cache.keys(0, 0, p, 1, scratch).row(0);
            for (std::size_t i = 0; i < head_dim; ++i) {
                const double d = static_cast<double>(read[i]) - static_cast<double>(keys(p, i));
                sum += d * d;
            }
        }
        return sum / static_cast<double>(positions * head_dim);
    };
    const double step = 2.0 * 100 / 15;  // no |N(0, 1)| reaches half of it
    CHECK(step / 2 > 6);
    CHECK(std::fabs(error(100, false) - (63 + std::pow(step / 2, 2)) / 64) < 0.05);
    // The largest of 64 of |N(0, 1)| + 100 / 8 lies below 12.5 + 5: steps below 2 * 17.5 / 15, errors of step^2 / 12.
    const double rotated = error(100, true);
    CHECK(rotated < std::pow(2 * 17.5 / 15, 2) / 12 * 1.1);
    CHECK(rotated > std::pow(2 * 12.5 / 15, 2) / 12 * 0.9);
}

TEST_CASE(
    "kv cache: a decoder answers the same on any threads, nearly so however it is cut, and as its bits say") {
    const auto shape = testing::toy_shape(4, 2, 16, 44, 2, 31, 80, true);
    const io::ModelFile file = testing::toy_model(shape, 5);
    testing::Random random(3);
    std::vector<int> tokens(70);
    for (int& token : tokens) token = static_cast<int>(random.below(31));
    const auto logits = [&](const KvCacheOptions& options, std::size_t step, ExecutionContext context) {
        const auto transformer = model::Transformer::create(file, {exact_activations(), Fallback::allow});
        REQUIRE(transformer);
        KvCache cache = made(shape, tokens.size(), options);
        Matrix out(tokens.size(), 31);
        for (std::size_t begin = 0; begin < tokens.size(); begin += step) {
            const std::size_t count = std::min(step, tokens.size() - begin);
            REQUIRE(transformer->forward(std::span(tokens).subspan(begin, count), cache,
                                         out.view().rows_from(begin, count), context));
        }
        return out;
    };
    const auto distance = [](const Matrix& a, const Matrix& b) {
        double sum = 0;
        for (std::size_t i = 0; i < a.values().size(); ++i)
            sum += std::pow(static_cast<double>(a.values()[i]) - static_cast<double>(b.values()[i]), 2);
        return std::sqrt(sum / static_cast<double>(a.values().size()));
    };
    ThreadPool three(3);
    const Matrix exact = logits({}, 70, {});
    CHECK(distance(logits(both("f32", true), 70, {}), exact) < 1e-5);
    for (const bool rotate : {false, true}) {
        double last = 1e-6;  // far above f32's roundings
        for (const std::string name : {"f16", "int8-row", "int6-row", "int4-row", "int2-row"}) {
            INFO(name << (rotate ? ", rotated" : ""));
            const Matrix whole = logits(both(name, rotate), 70, {});
            CHECK(same_values(whole.values(), logits(both(name, rotate), 70, three).values()));
            const double error = distance(whole, exact);
            CHECK(error > last);
            last = name == "f16" ? 3e-5 : 2 * error;  // two bits are a factor of 4
            if (name == "f16") CHECK(error < 1e-2);
        }
        // Cut differently, products round differently, which may tip a code: rare, and of one code's size.
        CHECK(distance(logits(both("int8-row", rotate), 7, {}), logits(both("int8-row", rotate), 70, {})) <
              distance(logits(both("int8-row", rotate), 70, {}), exact));
    }
}
