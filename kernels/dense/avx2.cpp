// AVX2 kernels for float weights (f32, f16, bf16) in Layout::rows with f32 and bf16 activations.
//
//   few rows of x    dot products along K, in place (rows.hpp)
//   more             blocks of W and x copied into panels that the caches hold, and a tile of 6 rows by 16
//                    channels over them, which keeps the multipliers busy
//
//   W panel  [channel / 16][k][16]     x panel  [row / 6][k][6]     f32, zeros where W or x end
//
// README.md has the sizes and the reasons.
#include <immintrin.h>

#include <cstring>

#include "kernels/dense/rows.hpp"

namespace fewbit::inline v0::kernels {

extern const KernelCode dense_avx2_f32;
extern const KernelCode dense_avx2_bf16;

namespace {

constexpr std::size_t lanes = 8;

template <Scalar Type>
__m256 load8(const std::uint8_t* p) {
    if constexpr (Type == Scalar::f16)
        return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
    else if constexpr (Type == Scalar::bf16)
        return _mm256_castsi256_ps(_mm256_slli_epi32(
            _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))), 16));
    else
        return _mm256_loadu_ps(reinterpret_cast<const float*>(p));
}

/// The first `count` < 8 elements, zeros behind them; reads nothing else.
template <Scalar Type>
__m256 load_tail(const std::uint8_t* p, std::size_t count) {
    alignas(32) std::uint8_t bytes[32] = {};
    std::memcpy(bytes, p, count * (Type == Scalar::f32 ? 4 : 2));
    return load8<Type>(bytes);
}

float horizontal_sum(__m256 v) {
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

/// Registers of 256 bits, for rows.hpp.
struct Lanes {
    using Floats = __m256;
    static constexpr std::size_t words = lanes, word_elements = 1;
    static constexpr int channels_of_four = 3;  ///< 12 sums

    template <Scalar Type>
    static Floats load(const std::uint8_t* p) {
        return load8<Type>(p);
    }
    template <Scalar Type>
    static Floats load_part(const std::uint8_t* p, std::size_t count) {
        return load_tail<Type>(p, count);
    }
    static Floats load_x(const std::uint8_t* p) { return load8<Scalar::f32>(p); }
    static Floats load_x_part(const std::uint8_t* p, std::size_t count) {
        return load_tail<Scalar::f32>(p, count);
    }
    static Floats dot(Floats sum, Floats w, Floats x) { return _mm256_fmadd_ps(x, w, sum); }
    static Floats zero() { return _mm256_setzero_ps(); }
    static float sum(Floats v) { return horizontal_sum(v); }
};

// --- panels -----------------------------------------------------------------------------------------------

constexpr std::size_t tile_rows = 6;
constexpr std::size_t tile_channels = 16;
constexpr std::size_t block_k = 256;         // a W panel of one tile: 16 KiB, half of L1
constexpr std::size_t block_channels = 256;  // W panels: 256 KiB of L2
constexpr std::size_t block_rows = 96;       // x panels: 96 KiB of L2
constexpr std::size_t worth_panels = 16;     // rows of x from which copying W pays

static_assert(block_channels % tile_channels == 0 && block_rows % tile_rows == 0);

/// rows[i][j] -> rows[j][i].
[[gnu::always_inline]] inline void transpose8(__m256 (&rows)[8]) {
    __m256 pairs[8], fours[8];
    for (int i = 0; i < 8; i += 2) {
        pairs[i] = _mm256_unpacklo_ps(rows[i], rows[i + 1]);
        pairs[i + 1] = _mm256_unpackhi_ps(rows[i], rows[i + 1]);
    }
    for (int i = 0; i < 8; i += 4)
        for (int j = 0; j < 2; ++j) {
            fours[i + 2 * j] = _mm256_shuffle_ps(pairs[i + j], pairs[i + j + 2], 0x44);
            fours[i + 2 * j + 1] = _mm256_shuffle_ps(pairs[i + j], pairs[i + j + 2], 0xee);
        }
    for (int i = 0; i < 4; ++i) {
        rows[i] = _mm256_permute2f128_ps(fours[i], fours[i + 4], 0x20);
        rows[i + 4] = _mm256_permute2f128_ps(fours[i], fours[i + 4], 0x31);
    }
}

/// panel[k * Step + r] = row r at k, for `present` rows out of 8 and k < count; zeros for the others. Eight
/// floats are written at every k, so that with Step < 8 each k overwrites what the one before wrote too much;
/// the last writes up to 8 - Step floats beyond.
template <Scalar Type, std::size_t Step>
void transpose_rows(const std::uint8_t* source, std::size_t stride_bytes, std::size_t present,
                    std::size_t count, float* panel) {
    constexpr std::size_t element_bytes = Type == Scalar::f32 ? 4 : 2;
    for (std::size_t k = 0; k < count; k += lanes) {
        const std::size_t columns = count - k < lanes ? count - k : lanes;
        __m256 rows[8];
        for (std::size_t r = 0; r < 8; ++r) {
            const std::uint8_t* p = source + r * stride_bytes + k * element_bytes;
            rows[r] = r >= present       ? _mm256_setzero_ps()
                      : columns == lanes ? load8<Type>(p)
                                         : load_tail<Type>(p, columns);
        }
        transpose8(rows);
        for (std::size_t c = 0; c < columns; ++c) _mm256_storeu_ps(panel + (k + c) * Step, rows[c]);
    }
}

/// 6 rows by 16 channels over `count` of K, added to what `sums` holds.
void multiply_tile(const float* x, const float* w, std::size_t count, __m256 (&sums)[tile_rows][2]) {
    for (std::size_t k = 0; k < count; ++k) {
        const __m256 low = _mm256_load_ps(w + k * tile_channels);
        const __m256 high = _mm256_load_ps(w + k * tile_channels + lanes);
        for (std::size_t r = 0; r < tile_rows; ++r) {
            const __m256 value = _mm256_broadcast_ss(x + k * tile_rows + r);
            sums[r][0] = _mm256_fmadd_ps(value, low, sums[r][0]);
            sums[r][1] = _mm256_fmadd_ps(value, high, sums[r][1]);
        }
    }
}

/// The part of a tile that y has, in a buffer of whole tiles.
struct TileBuffer {
    alignas(32) float values[tile_rows][tile_channels];
};

/// y (rows, channels) = start + x panel * w panel; start is the bias at first, then y.
void panel_tile(const float* x, const float* w, std::size_t count, const OutputView& y, std::size_t m,
                std::size_t n, std::size_t rows, std::size_t channels, bool first) {
    __m256 sums[tile_rows][2];
    const bool whole = rows == tile_rows && channels == tile_channels;
    float* const out = y.values + m * y.stride_elements + n;
    TileBuffer buffer;
    if (!whole) {
        for (std::size_t r = 0; r < tile_rows; ++r)
            for (std::size_t c = 0; c < tile_channels; ++c)
                buffer.values[r][c] = r < rows && c < channels ? (!first ? out[r * y.stride_elements + c]
                                                                  : y.bias != nullptr ? y.bias[n + c]
                                                                                      : 0.0f)
                                                               : 0.0f;
        for (std::size_t r = 0; r < tile_rows; ++r)
            for (int half = 0; half < 2; ++half) sums[r][half] = _mm256_load_ps(buffer.values[r] + 8 * half);
    } else {
        for (std::size_t r = 0; r < tile_rows; ++r)
            for (int half = 0; half < 2; ++half)
                sums[r][half] = !first              ? _mm256_loadu_ps(out + r * y.stride_elements + 8 * half)
                                : y.bias != nullptr ? _mm256_loadu_ps(y.bias + n + 8 * half)
                                                    : _mm256_setzero_ps();
    }
    multiply_tile(x, w, count, sums);
    if (whole) {
        for (std::size_t r = 0; r < tile_rows; ++r)
            for (int half = 0; half < 2; ++half)
                _mm256_storeu_ps(out + r * y.stride_elements + 8 * half, sums[r][half]);
        return;
    }
    for (std::size_t r = 0; r < tile_rows; ++r)
        for (int half = 0; half < 2; ++half) _mm256_store_ps(buffer.values[r] + 8 * half, sums[r][half]);
    for (std::size_t r = 0; r < rows; ++r)
        for (std::size_t c = 0; c < channels; ++c) out[r * y.stride_elements + c] = buffer.values[r][c];
}

constexpr std::size_t w_panel_elements = block_k * block_channels;
constexpr std::size_t x_panel_elements = block_k * block_rows + lanes;  // what transpose_rows writes beyond

constexpr std::size_t smaller(std::size_t a, std::size_t b) { return a < b ? a : b; }

/// Blocks of channels, of K, of rows: W panels are made once per block of channels and K, x panels once per
/// block of rows. Every element of y is summed in ascending k, whatever the rectangle.
template <Scalar Type>
void panels(const KernelCall& call, const Rectangle& part, float* scratch) {
    constexpr std::size_t element_bytes = Type == Scalar::f32 ? 4 : 2;
    float* const w_panels = scratch;
    float* const x_panels = scratch + w_panel_elements;
    const auto* x = static_cast<const std::uint8_t*>(call.x.values);
    const std::size_t x_stride_bytes = call.x.stride_elements * sizeof(float);
    for (std::size_t n0 = part.n_begin; n0 < part.n_end; n0 += block_channels) {
        const std::size_t channels = smaller(block_channels, part.n_end - n0);
        for (std::size_t k0 = 0; k0 < call.w.k; k0 += block_k) {
            const std::size_t count = smaller(block_k, call.w.k - k0);
            for (std::size_t n = 0; n < channels; n += lanes)
                transpose_rows<Type, tile_channels>(
                    call.w.codes + (n0 + n) * call.w.codes_stride_bytes + k0 * element_bytes,
                    call.w.codes_stride_bytes, smaller(lanes, channels - n), count,
                    w_panels + n / tile_channels * tile_channels * count + n % tile_channels);
            if (channels % tile_channels != 0 && channels % tile_channels <= lanes)  // no second half
                for (std::size_t k = 0; k < count; ++k)
                    _mm256_store_ps(w_panels + channels / tile_channels * tile_channels * count +
                                        k * tile_channels + lanes,
                                    _mm256_setzero_ps());
            for (std::size_t m0 = part.m_begin; m0 < part.m_end; m0 += block_rows) {
                const std::size_t rows = smaller(block_rows, part.m_end - m0);
                for (std::size_t m = 0; m < rows; m += tile_rows)
                    transpose_rows<Scalar::f32, tile_rows>(x + (m0 + m) * x_stride_bytes + k0 * sizeof(float),
                                                           x_stride_bytes, smaller(tile_rows, rows - m),
                                                           count, x_panels + m * count);
                for (std::size_t n = 0; n < channels; n += tile_channels)
                    for (std::size_t m = 0; m < rows; m += tile_rows)
                        panel_tile(x_panels + m * count, w_panels + n * count, count, call.y, m0 + m, n0 + n,
                                   smaller(tile_rows, rows - m), smaller(tile_channels, channels - n),
                                   k0 == 0);
            }
        }
    }
}

// ----------------------------------------------------------------------------------------------------------

template <Scalar Type>
void rectangle(const KernelCall& call, const Rectangle& part, void* scratch) {
    // By the rows of the whole product, so that every part of it is computed alike.
    if (call.x.m < worth_panels)
        few_rows<Lanes, Type>(call, part);
    else
        panels<Type>(call, part, static_cast<float*>(scratch));
}

void run_f32(const KernelCall& call, const Rectangle& part, void* scratch) noexcept {
    if (call.w.scale == Scalar::f16)
        rectangle<Scalar::f16>(call, part, scratch);
    else if (call.w.scale == Scalar::bf16)
        rectangle<Scalar::bf16>(call, part, scratch);
    else
        rectangle<Scalar::f32>(call, part, scratch);
}

constexpr KernelCode code{run_f32, (w_panel_elements + x_panel_elements) * sizeof(float), block_rows, 48};

}  // namespace

const KernelCode dense_avx2_f32 = code;
const KernelCode dense_avx2_bf16 = code.for_bf16();

}  // namespace fewbit::inline v0::kernels
