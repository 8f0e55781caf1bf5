// The operators of CUDA between products, run on the host lane by lane, against sums in double precision.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <random>
#include <tuple>
#include <vector>

#include "cuda/host_launch.hpp"
#include "support/catch.hpp"
#include "support/random.hpp"

using namespace fewbit;
using namespace fewbit::testing;
namespace operators = fewbit::kernels::operators_cuda;
using decoding::Number;
using operators::CacheType;

namespace {

constexpr float left_alone = -12345.0f;

/// Numbers of a type in rows with something behind them.
struct NumberRows {
    Number type;
    std::size_t rows, cols, stride;
    std::vector<std::byte> bytes;

    NumberRows(Number a_type, std::size_t a_rows, std::size_t a_cols, std::size_t padding = 0)
        : type(a_type),
          rows(a_rows),
          cols(a_cols),
          stride(a_cols + padding),
          bytes(a_rows * (a_cols + padding) * size_bytes(scalar_of(a_type))) {
        for (std::size_t i = 0; i < rows * stride; ++i) HostMath::store_number(data(), type, i, left_alone);
    }
    static NumberRows gaussian(Number type, std::size_t rows, std::size_t cols, std::size_t padding,
                               std::uint64_t seed, float scale = 1) {
        NumberRows out(type, rows, cols, padding);
        const Matrix drawn = gaussian_matrix(rows, cols, seed);
        for (std::size_t r = 0; r < rows; ++r)
            for (std::size_t c = 0; c < cols; ++c)
                HostMath::store_number(out.data(), type, r * out.stride + c, scale * drawn(r, c));
        return out;
    }
    void* data() { return bytes.data(); }
    [[nodiscard]] double at(std::size_t r, std::size_t c) const {
        return static_cast<double>(HostMath::load_number(bytes.data(), type, r * stride + c));
    }
    /// What stands behind the rows is as it was.
    [[nodiscard]] bool kept_padding() const {
        NumberRows fresh(type, 1, 1);
        for (std::size_t r = 0; r < rows; ++r)
            for (std::size_t c = cols; c < stride; ++c)
                if (at(r, c) != fresh.at(0, 0)) return false;
        return true;
    }
};

/// Half a unit in the last place of a type, relative.
double rounding(Number type) {
    return type == Number::f32 ? 0x1p-24 : type == Number::f16 ? 0x1p-11 : 0x1p-8;
}

}  // namespace

TEST_CASE("cuda norm: the residual is summed, its rows are scaled", "[cuda][operators]") {
    std::uint64_t seed = 1;
    for (const std::size_t dim : {1, 31, 256, 1000, 2048})
        for (const Number type : {Number::f32, Number::f16, Number::bf16})
            for (const bool adds : {false, true}) {
                const std::size_t m = 3;
                INFO(dim << " columns, seed " << seed);
                NumberRows residual = NumberRows::gaussian(Number::f32, m, dim, 5, ++seed, 3),
                           delta = NumberRows::gaussian(type, m, dim, 2, ++seed), y(type, m, dim, 1);
                const NumberRows before = residual;
                const Matrix gain = gaussian_matrix(1, dim, ++seed);
                const operators::NormCall call{reinterpret_cast<float*>(residual.data()),
                                               adds ? delta.data() : nullptr,
                                               gain.row(0).data(),
                                               y.data(),
                                               residual.stride,
                                               delta.stride,
                                               y.stride,
                                               static_cast<std::uint32_t>(dim),
                                               1e-5f,
                                               type,
                                               type};
                for (unsigned row = 0; row < m; ++row) {
                    HostBlock block(row, decoding::warps_per_block);
                    operators::norm_row(call, block);
                }
                double worst = 0;
                for (std::size_t r = 0; r < m; ++r) {
                    double squares = 0;
                    for (std::size_t i = 0; i < dim; ++i) {
                        const double sum = before.at(r, i) + (adds ? delta.at(r, i) : 0);
                        CHECK(residual.at(r, i) == static_cast<double>(static_cast<float>(sum)));
                        squares += residual.at(r, i) * residual.at(r, i);
                    }
                    const double scale = 1 / std::sqrt(squares / static_cast<double>(dim) + 1e-5);
                    for (std::size_t i = 0; i < dim; ++i) {
                        const double exact = residual.at(r, i) * scale * static_cast<double>(gain(0, i));
                        // dim / 256 sums of a lane, 5 of its warp, 8 of the block; then root, quotients and products.
                        const double e = (static_cast<double>(dim) / 256 + 20) * 0x1p-24 + rounding(type);
                        worst = std::max(
                            worst, std::fabs(y.at(r, i) - exact) /
                                       (e * std::fabs(exact) + (type == Number::f16 ? 0x1p-25 : 1e-30)));
                    }
                }
                CHECK(worst <= 1);
                CHECK(y.kept_padding());
                CHECK(residual.kept_padding());
            }
}

TEST_CASE("cuda gate: silu(gate) up, whatever the size of gate", "[cuda][operators]") {
    for (const std::size_t n : {1, 1024, 1025, 2500}) {
        const std::size_t m = 2;
        NumberRows gate = NumberRows::gaussian(Number::f32, m, n, 3, n, 4),
                   up = NumberRows::gaussian(Number::f32, m, n, 0, n + 1), y(Number::f16, m, n, 4);
        for (const auto& [at, value] : {std::pair{0, -200.0f}, {1, 200.0f}})
            if (n > 1)
                HostMath::store_number(gate.data(), Number::f32, static_cast<std::uint64_t>(at), value);
        const auto per_row = static_cast<std::uint32_t>(ceil_div(n, std::size_t{operators::gate_columns}));
        const operators::GateCall call{gate.data(),
                                       up.data(),
                                       y.data(),
                                       gate.stride,
                                       up.stride,
                                       y.stride,
                                       static_cast<std::uint32_t>(n),
                                       per_row,
                                       Number::f32,
                                       Number::f16};
        for (unsigned b = 0; b < m * per_row; ++b) operators::gate_row(call, HostBlock(b, 1));
        double worst = 0;
        for (std::size_t r = 0; r < m; ++r)
            for (std::size_t i = 0; i < n; ++i) {
                const double g = gate.at(r, i), exact = g / (1 + std::exp(-g)) * up.at(r, i);
                worst = std::max(worst, std::fabs(y.at(r, i) - exact) /
                                            (rounding(Number::f16) * 1.01 * std::fabs(exact) + 0x1p-24));
            }
        CHECK(worst <= 1);
        CHECK(y.kept_padding());
    }
}

namespace {

/// A cache of one layer and what a reader finds in it.
struct ToyCache {
    CacheType type;
    std::size_t heads, capacity, head_dim;
    std::vector<std::byte> keys, values;
    std::vector<float> key_scales, value_scales;

    ToyCache(CacheType a_type, std::size_t a_heads, std::size_t a_capacity, std::size_t a_head_dim)
        : type(a_type), heads(a_heads), capacity(a_capacity), head_dim(a_head_dim) {
        const std::size_t bytes = heads * capacity * head_dim * (type == CacheType::int8 ? 1 : 2);
        keys.assign(bytes, std::byte{0x7F}), values.assign(bytes, std::byte{0x7F});  // NaN in f16 and bf16
        key_scales.assign(heads * capacity, std::numeric_limits<float>::quiet_NaN());
        value_scales = key_scales;
    }
    operators::CacheRows rows_of(bool is_key) {
        return {(is_key ? keys : values).data(), (is_key ? key_scales : value_scales).data()};
    }
    [[nodiscard]] double at(bool is_key, std::size_t head, std::size_t position, std::size_t i) const {
        const std::size_t row = head * capacity + position;
        const void* const from = (is_key ? keys : values).data();
        switch (type) {
            case CacheType::f16:
                return static_cast<double>(HostMath::load_one<CacheType::f16>(from, row * head_dim + i));
            case CacheType::bf16:
                return static_cast<double>(HostMath::load_one<CacheType::bf16>(from, row * head_dim + i));
            default:
                return static_cast<double>(HostMath::load_one<CacheType::int8>(from, row * head_dim + i)) *
                       static_cast<double>((is_key ? key_scales : value_scales)[row]);
        }
    }
};

std::vector<float> turns_of(std::size_t positions, std::size_t head_dim) {
    std::vector<float> out;
    for (std::size_t p = 0; p < positions; ++p)
        for (std::size_t i = 0; i < head_dim / 2; ++i) {
            const double angle =
                static_cast<double>(p) *
                std::pow(10000.0, -2.0 * static_cast<double>(i) / static_cast<double>(head_dim));
            out.push_back(static_cast<float>(std::cos(angle))),
                out.push_back(static_cast<float>(std::sin(angle)));
        }
    return out;
}

}  // namespace

TEST_CASE("cuda rope: queries and keys turn, keys and values are stored at their positions",
          "[cuda][operators]") {
    std::uint64_t seed = 1;
    for (const CacheType type : {CacheType::f16, CacheType::bf16, CacheType::int8})
        for (const auto& shape :
             {std::tuple<std::size_t, std::size_t, std::size_t, std::size_t, std::int32_t>{1, 4, 2, 8, 0},
              {3, 6, 2, 64, 4},
              {5, 2, 2, 72, 1},
              {4, 2, 2, 2, 6}}) {  // the last of these stand behind the cache: nothing is written there
            const std::size_t m = std::get<0>(shape), heads = std::get<1>(shape),
                              kv_heads = std::get<2>(shape), d = std::get<3>(shape);
            const std::int32_t first = std::get<4>(shape);
            const std::size_t capacity = 9;
            INFO(static_cast<int>(type)
                 << ", " << m << " rows, " << heads << " of " << d << " from " << first);
            NumberRows q = NumberRows::gaussian(Number::f32, m, heads * d, 1, ++seed),
                       k = NumberRows::gaussian(Number::f32, m, kv_heads * d, 2, ++seed),
                       v = NumberRows::gaussian(Number::f32, m, kv_heads * d, 3, ++seed),
                       rotated(Number::f16, m, heads * d, 5);
            ToyCache cache(type, kv_heads, capacity, d);
            const ToyCache empty = cache;
            const std::vector<float> turns = turns_of(capacity, d);
            const operators::StoreCall call{q.data(),
                                            k.data(),
                                            v.data(),
                                            turns.data(),
                                            &first,
                                            rotated.data(),
                                            cache.rows_of(true),
                                            cache.rows_of(false),
                                            q.stride,
                                            k.stride,
                                            v.stride,
                                            rotated.stride,
                                            static_cast<std::uint32_t>(m),
                                            static_cast<std::uint32_t>(heads),
                                            static_cast<std::uint32_t>(kv_heads),
                                            static_cast<std::uint32_t>(d),
                                            static_cast<std::uint32_t>(capacity),
                                            Number::f32,
                                            Number::f16,
                                            type};
            for (unsigned b = 0; b < ceil_div(call.warps(), std::uint64_t{decoding::warps_per_block}); ++b)
                operators::rotate_and_store(call, HostBlock(b, 1));
            const auto turned = [&](const NumberRows& x, std::size_t r, std::size_t head, std::size_t i) {
                const std::size_t p = static_cast<std::size_t>(first) + r,
                                  even = head * d + (i & ~std::size_t{1});
                const auto c = static_cast<double>(turns[p * d + (i & ~std::size_t{1})]),
                           s = static_cast<double>(turns[p * d + (i | 1)]);
                return i % 2 == 0 ? x.at(r, even) * c - x.at(r, even + 1) * s
                                  : x.at(r, even) * s + x.at(r, even + 1) * c;
            };
            double worst = 0;
            for (std::size_t r = 0; r < m; ++r) {
                const std::size_t p = static_cast<std::size_t>(first) + r;
                if (p >= capacity) continue;
                for (std::size_t h = 0; h < heads; ++h)
                    for (std::size_t i = 0; i < d; ++i) {
                        const double exact = turned(q, r, h, i);
                        worst = std::max(worst, std::fabs(rotated.at(r, h * d + i) - exact) /
                                                    (0x1p-11 * std::fabs(exact) + 0x1p-21));
                    }
                for (std::size_t h = 0; h < kv_heads; ++h)
                    for (const bool is_key : {true, false}) {
                        double most = 0;
                        for (std::size_t i = 0; i < d; ++i)
                            most =
                                std::max(most, std::fabs(is_key ? turned(k, r, h, i) : v.at(r, h * d + i)));
                        for (std::size_t i = 0; i < d; ++i) {
                            const double exact = is_key ? turned(k, r, h, i) : v.at(r, h * d + i);
                            const double allowed = type == CacheType::int8 ? most / 254 * 1.00001
                                                   : type == CacheType::f16
                                                       ? 0x1p-11 * std::fabs(exact) + 0x1p-21
                                                       : 0x1p-8 * std::fabs(exact) + 0x1p-21;
                            worst = std::max(worst, std::fabs(cache.at(is_key, h, p, i) - exact) / allowed);
                        }
                    }
            }
            CHECK(worst <= 1);
            CHECK(rotated.kept_padding());
            for (std::size_t h = 0; h < kv_heads; ++h)
                for (std::size_t p = 0; p < capacity; ++p) {
                    if (p >= static_cast<std::size_t>(first) && p < static_cast<std::size_t>(first) + m)
                        continue;
                    const std::size_t row = h * capacity + p,
                                      bytes = cache.keys.size() / (kv_heads * capacity);
                    CHECK(std::memcmp(cache.keys.data() + row * bytes, empty.keys.data() + row * bytes,
                                      bytes) == 0);
                    CHECK(std::memcmp(cache.values.data() + row * bytes, empty.values.data() + row * bytes,
                                      bytes) == 0);
                }
        }
}

TEST_CASE("cuda rope: a head that holds NaN or infinity becomes NaN in int8", "[cuda][operators]") {
    for (const float bad :
         {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
        NumberRows q = NumberRows::gaussian(Number::f32, 1, 16, 0, 1), k = q, v = q,
                   rotated(Number::f32, 1, 16);
        HostMath::store_number(v.data(), Number::f32, 9, bad);
        ToyCache cache(CacheType::int8, 2, 1, 8);
        const std::vector<float> turns = turns_of(1, 8);
        const std::int32_t first = 0;
        const operators::StoreCall call{q.data(),
                                        k.data(),
                                        v.data(),
                                        turns.data(),
                                        &first,
                                        rotated.data(),
                                        cache.rows_of(true),
                                        cache.rows_of(false),
                                        16,
                                        16,
                                        16,
                                        16,
                                        1,
                                        2,
                                        2,
                                        8,
                                        1,
                                        Number::f32,
                                        Number::f32,
                                        CacheType::int8};
        operators::rotate_and_store(call, HostBlock(0, 1));
        CHECK(std::isfinite(cache.at(false, 0, 0, 3)));
        for (std::size_t i = 0; i < 8; ++i) CHECK(std::isnan(cache.at(false, 1, 0, i)));
    }
}

namespace {

struct AttentionCase {
    CacheType type;
    std::size_t m, heads, kv_heads, d;
    std::int32_t first;
};

void check_attention(const AttentionCase& c, std::uint64_t seed) {
    const std::size_t seen = static_cast<std::size_t>(c.first) + c.m, capacity = seen + 3;
    INFO(static_cast<int>(c.type) << ", " << c.m << " rows, " << c.heads << " over " << c.kv_heads
                                  << " heads of " << c.d << ", from " << c.first);
    NumberRows q = NumberRows::gaussian(Number::f32, c.m, c.heads * c.d, 1, seed, 2),
               out(Number::f32, c.m, c.heads * c.d, 3);
    ToyCache cache(c.type, c.kv_heads, capacity, c.d);
    const Matrix drawn = gaussian_matrix(2 * c.kv_heads * capacity, c.d, seed + 1);
    for (std::size_t row = 0; row < c.kv_heads * capacity; ++row) {
        if (row % capacity >= seen) continue;  // what nobody may read stays NaN
        for (const bool is_key : {true, false}) {
            const auto to = cache.rows_of(is_key);
            const auto x = drawn.row(2 * row + (is_key ? 0 : 1));
            for (std::size_t i = 0; i < c.d; ++i)
                if (c.type == CacheType::int8)
                    static_cast<std::int8_t*>(to.rows)[row * c.d + i] =
                        static_cast<std::int8_t>(std::lround(30 * std::clamp(x[i], -4.0f, 4.0f)));
                else
                    HostMath::store_number(to.rows, c.type == CacheType::f16 ? Number::f16 : Number::bf16,
                                           row * c.d + i, x[i]);
            to.scales[row] = 0.01f + 0.001f * static_cast<float>(row % 17);
        }
    }
    operators::AttentionCall call{};
    call.first_position = &c.first;
    call.keys = cache.rows_of(true), call.values = cache.rows_of(false);
    call.q_stride = q.stride, call.out_stride = out.stride;
    call.heads = static_cast<std::uint32_t>(c.heads), call.kv_heads = static_cast<std::uint32_t>(c.kv_heads);
    call.head_dim = static_cast<std::uint32_t>(c.d), call.capacity = static_cast<std::uint32_t>(capacity);
    call.runs = static_cast<std::uint32_t>(ceil_div(capacity, std::size_t{operators::attention_run})) +
                1;  // one of which nobody needs
    call.scale = 1 / std::sqrt(static_cast<float>(c.d));
    call.cache = c.type, call.type = Number::f32, call.out_type = Number::f32;
    const std::size_t units = c.m * call.units();
    std::vector<float> parts(units * call.runs * operators::attention_part(call.head_dim));
    std::vector<std::uint32_t> counters(units, 0);
    call.parts = parts.data(), call.counters = counters.data();
    std::mt19937 shuffled(static_cast<unsigned>(seed));
    std::vector<std::byte> first;
    // Blocks end in any order, and rows may come in slices: the same bits, and counters at rest.
    for (const std::size_t slice : {c.m, c.m, std::size_t{1}, std::size_t{2}}) {
        std::fill(parts.begin(), parts.end(), std::numeric_limits<float>::quiet_NaN());
        for (std::size_t begin = 0; begin < c.m; begin += slice) {
            call.first_row = static_cast<std::uint32_t>(begin);
            call.q = q.bytes.data() + begin * q.stride * sizeof(float);
            call.out = out.bytes.data() + begin * out.stride * sizeof(float);
            std::vector<unsigned> order(std::min(slice, c.m - begin) * call.units() * call.runs);
            std::iota(order.begin(), order.end(), 0u);
            if (!first.empty()) std::shuffle(order.begin(), order.end(), shuffled);
            for (const unsigned b : order) run_attention_block(call, b);
            CHECK(std::ranges::all_of(counters, [](std::uint32_t count) { return count == 0; }));
        }
        if (!first.empty()) CHECK(first == out.bytes);
        first = out.bytes;
    }
    double worst = 0;
    for (std::size_t r = 0; r < c.m; ++r)
        for (std::size_t h = 0; h < c.heads; ++h) {
            const std::size_t kv = h / (c.heads / c.kv_heads),
                              visible = static_cast<std::size_t>(c.first) + r + 1;
            std::vector<double> scores(visible);
            double largest_sum = 0;  // of the magnitudes that make a score
            for (std::size_t p = 0; p < visible; ++p) {
                double sizes = 0;
                for (std::size_t i = 0; i < c.d; ++i) {
                    const double product = q.at(r, h * c.d + i) * cache.at(true, kv, p, i);
                    scores[p] += product, sizes += std::fabs(product);
                }
                scores[p] /= std::sqrt(static_cast<double>(c.d)),
                    largest_sum = std::max(largest_sum, sizes / std::sqrt(static_cast<double>(c.d)));
            }
            const double most = std::ranges::max(scores);
            double sum = 0;
            for (double& s : scores) s = std::exp(s - most), sum += s;
            for (std::size_t i = 0; i < c.d; ++i) {
                double exact = 0, sizes = 0;
                for (std::size_t p = 0; p < visible; ++p) {
                    exact += scores[p] / sum * cache.at(false, kv, p, i);
                    sizes += scores[p] / sum * std::fabs(cache.at(false, kv, p, i));
                }
                // A score is off by D + 3 roundings of its magnitudes, which is what a weight is off by, relatively, and twice,
                // because weights are divided by their sum; then the sums over positions.
                const double e = (2 * (static_cast<double>(c.d) + 6) * (largest_sum + 2) +
                                  static_cast<double>(visible) / 4 + 60) *
                                 0x1p-24;
                worst = std::max(worst, std::fabs(out.at(r, h * c.d + i) - exact) / (e * sizes + 1e-30));
            }
        }
    CHECK(worst <= 1);
    CHECK(out.kept_padding());
}

}  // namespace

TEST_CASE("cuda attention: right for every cache, shape and number of blocks that share a row",
          "[cuda][operators]") {
    std::uint64_t seed = 100;
    for (const CacheType type : {CacheType::f16, CacheType::bf16, CacheType::int8})
        for (const AttentionCase& c : {AttentionCase{type, 1, 4, 4, 64, 0},
                                       {type, 3, 6, 2, 32, 30},     // the second tile begins within the rows
                                       {type, 1, 32, 4, 64, 300},   // more positions than warps take at once
                                       {type, 2, 10, 1, 128, 70},   // ten heads share one: two sets
                                       {type, 2, 2, 1, 40, 1022},   // rows of one and of two runs
                                       {type, 1, 3, 1, 200, 2500},  // three runs
                                       {type, 4, 1, 1, 8, 5}})
            check_attention(c, seed += 2);
}
