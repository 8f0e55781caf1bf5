// A warp on the host: Value<T> is the T of all 32 lanes, and what they do together is written out from the tables of
// kernels/mma16/fragments.hpp. With it the kernels of CUDA run here, lane by lane (kernels/mma16/device_warp.cuh is its twin).
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <utility>
#include <vector>

#include "fewbit/core/scalar.hpp"
#include "kernels/int_grouped/cuda/batch.hpp"
#include "kernels/int_grouped/cuda/decode.hpp"
#include "kernels/int_grouped/cuda/gather.hpp"
#include "kernels/int_grouped/cuda/prompt_mma.hpp"
#include "kernels/int_grouped/cuda/prompt_wgmma.hpp"
#include "kernels/int_grouped/cuda/w8a8_mma.hpp"
#include "kernels/int_grouped/cuda/w8a8_wgmma.hpp"
#include "kernels/mma16/fragments.hpp"
#include "kernels/operators/cuda/attention.hpp"

namespace fewbit::testing {

namespace decoding = fewbit::kernels::int_grouped_cuda;
using mma16::Half;

inline float half_value(Half type, std::uint32_t bits) {
    const auto half = static_cast<std::uint16_t>(bits);
    return load_float(type == Half::f16 ? Scalar::f16 : Scalar::bf16,
                      reinterpret_cast<const std::byte*>(&half));
}

/// f(low, low, ...) and f(high, high, ...) of packed pairs, rounded to `type`.
template <class F, class... Pairs>
std::uint32_t on_pairs(Half type, F&& f, Pairs... pairs) {
    const auto rounded = [&](float value) -> std::uint32_t {
        return type == Half::f16 ? f16_from_float(value) : bf16_from_float(value);
    };
    return rounded(f(half_value(type, pairs & 0xFFFF)...)) | rounded(f(half_value(type, pairs >> 16)...))
                                                                 << 16;
}

/// What a type of numbers is called here and there.
inline Scalar scalar_of(decoding::Number type) {
    return type == decoding::Number::f32    ? Scalar::f32
           : type == decoding::Number::f16  ? Scalar::f16
           : type == decoding::Number::bf16 ? Scalar::bf16
                                            : Scalar::e8m0;
}

struct HostMath {
    static std::uint32_t masked_or(std::uint32_t bits, std::uint32_t mask, std::uint32_t magic) {
        return (bits & mask) | magic;
    }
    static std::uint32_t subtract_f16(std::uint32_t a, std::uint32_t b) {
        return on_pairs(
            Half::f16, [](float x, float y) { return x - y; }, a, b);
    }
    static std::uint32_t fma_f16(std::uint32_t a, std::uint32_t b, std::uint32_t c) {
        return on_pairs(
            Half::f16, [](float x, float y, float z) { return x * y + z; }, a, b, c);
    }
    static std::uint32_t fma_bf16(std::uint32_t a, std::uint32_t b, std::uint32_t c) {
        return on_pairs(
            Half::bf16, [](float x, float y, float z) { return x * y + z; }, a, b, c);
    }
    static std::uint32_t add_bf16(std::uint32_t a, std::uint32_t b) {
        return on_pairs(
            Half::bf16, [](float x, float y) { return x + y; }, a, b);
    }
    static std::uint32_t select_bytes(std::uint32_t low, std::uint32_t high, std::uint32_t selector) {
        const std::uint64_t bytes = std::uint64_t{high} << 32 | low;
        std::uint32_t out = 0;
        for (unsigned i = 0; i < 4; ++i)
            out |= static_cast<std::uint32_t>(bytes >> (selector >> 4 * i & 7) * 8 & 0xFF) << 8 * i;
        return out;
    }
    static float subtract_f32(std::uint32_t a, std::uint32_t b) {
        return std::bit_cast<float>(a) - std::bit_cast<float>(b);
    }
    static std::uint32_t bf16_pair(float low, float high) {
        return bf16_from_float(low) | std::uint32_t{bf16_from_float(high)} << 16;
    }
    static std::uint32_t hidden(std::uint32_t number) { return number; }
    static float fma_f32(float a, float b, float c) {
        return static_cast<float>(static_cast<double>(a) * static_cast<double>(b) + static_cast<double>(c));
    }
    static mma16::Words load_x(const void* x, std::uint64_t from) {
        mma16::Words out;
        std::memcpy(&out, static_cast<const std::uint16_t*>(x) + from, sizeof out);
        return out;
    }
    static std::uint32_t load_u16(const void* from, std::uint64_t index) {
        std::uint16_t out;
        std::memcpy(&out, static_cast<const std::uint16_t*>(from) + index, sizeof out);
        return out;
    }
    static void load_pair(const void* from, decoding::Number type, std::uint64_t pair, float (&out)[2]) {
        const Scalar scalar = scalar_of(type);
        for (std::uint64_t i = 0; i < 2; ++i)
            out[i] =
                load_float(scalar, static_cast<const std::byte*>(from) + (2 * pair + i) * size_bytes(scalar));
    }
    template <std::size_t Count>
    static void load_raw(const void* from, decoding::Number type, const std::uint64_t (&pair)[Count],
                         std::uint32_t (&out)[Count][2]) {
        const std::size_t bytes = 2 * size_bytes(scalar_of(type));
        for (std::size_t i = 0; i < Count; ++i)
            std::memcpy(out[i], static_cast<const std::byte*>(from) + pair[i] * bytes, bytes);
    }
    template <std::size_t Count>
    static void numbers(decoding::Number type, const std::uint32_t (&raw)[Count][2], float (&out)[Count][2]) {
        for (std::size_t i = 0; i < Count; ++i) load_pair(raw[i], type, 0, out[i]);
    }
    static void load_staged(const std::uint32_t* from, std::uint32_t (&out)[4]) {
        std::memcpy(out, from, sizeof out);
    }
    static void load_staged_half(const std::uint32_t* from, std::uint32_t (&out)[4]) {
        std::memcpy(out, from, 8);
    }
    static float load_number(const void* from, decoding::Number type, std::uint64_t index) {
        const Scalar scalar = scalar_of(type);
        return load_float(scalar, static_cast<const std::byte*>(from) + index * size_bytes(scalar));
    }
    static void store_words(void* to, std::uint64_t index, const mma16::Words& words) {
        std::memcpy(static_cast<std::byte*>(to) + index * sizeof words, &words, sizeof words);
    }
    static std::uint32_t bits(float value) { return std::bit_cast<std::uint32_t>(value); }
    static float from_bits(std::uint32_t bits) { return std::bit_cast<float>(bits); }
    static float divide(float a, float b) { return a / b; }
    static std::int32_t nearest(float value) { return static_cast<std::int32_t>(std::nearbyint(value)); }
    static std::uint64_t bits_of_double(double value) { return std::bit_cast<std::uint64_t>(value); }
    static double double_of_bits(std::uint64_t bits) { return std::bit_cast<double>(bits); }
    static std::uint32_t e4m3(float value) { return fp8_e4m3_from_float(value); }
    static float from_e4m3(std::uint32_t code) {
        return float_from_fp8_e4m3(static_cast<std::uint8_t>(code));
    }
    static float infinity() { return std::numeric_limits<float>::infinity(); }
    static float exponential(float value) { return std::exp(value); }
    static float square_root(float value) { return std::sqrt(value); }
    static void store_number(void* to, decoding::Number type, std::uint64_t index, float value) {
        const Scalar scalar = scalar_of(type);
        store_float(scalar, value, static_cast<std::byte*>(to) + index * size_bytes(scalar));
    }
    template <kernels::operators_cuda::CacheType Cache>
    static float load_one(const void* from, std::uint64_t index) {
        using kernels::operators_cuda::CacheType;
        if constexpr (Cache == CacheType::int8) return static_cast<const std::int8_t*>(from)[index];
        return load_number(from, Cache == CacheType::f16 ? decoding::Number::f16 : decoding::Number::bf16,
                           index);
    }
    template <kernels::operators_cuda::CacheType Cache>
    static void load_eight(const void* from, std::uint64_t index, float (&out)[8]) {
        for (std::uint64_t i = 0; i < 8; ++i) out[i] = load_one<Cache>(from, index + i);
    }
};

/// The T of each lane.
template <class T>
struct Lanes {
    T v[mma16::lanes]{};
};

class HostWarp {
public:
    template <class T>
    using Value = Lanes<T>;
    using Math = HostMath;

    template <class R, class F, class... Values>
    Lanes<R> map(F&& f, const Values&... values) const {
        Lanes<R> out;
        for (unsigned lane = 0; lane < mma16::lanes; ++lane) out.v[lane] = f(lane, values.v[lane]...);
        return out;
    }
    template <class F, class... Values>
    void update(F&& f, Values&... values) const {
        for (unsigned lane = 0; lane < mma16::lanes; ++lane) f(lane, values.v[lane]...);
    }
    void sync() const {}
    Lanes<mma16::Words> load_codes(const void* codes, std::uint64_t chunk) const {
        Lanes<mma16::Words> out;
        std::memcpy(&out, static_cast<const std::byte*>(codes) + chunk * mma16::chunk_bytes,
                    mma16::chunk_bytes);
        return out;
    }
    template <mma16::Codes Kind, class B, class Sums>
    void multiply_bytes(const Lanes<mma16::FragmentA>& a, const Lanes<B>& b, unsigned tile8,
                        Lanes<Sums>& sums) const {
        std::uint8_t rows[16][32], columns[8][32];
        const auto byte = [](std::uint32_t word, unsigned e) {
            return static_cast<std::uint8_t>(word >> 8 * e);
        };
        for (unsigned lane = 0; lane < mma16::lanes; ++lane)
            for (unsigned e = 0; e < 4; ++e) {
                for (unsigned r = 0; r < 4; ++r) {
                    const mma16::Element at = mma16::byte_of_a(lane, r, e);
                    rows[at.row][at.column] = byte(a.v[lane].r[r], e);
                }
                for (unsigned r = 0; r < 2; ++r) {
                    const mma16::Element at = mma16::byte_of_b(lane, r, e);
                    columns[at.column][at.row] = byte(b.v[lane].r[r], e);
                }
            }
        for (unsigned lane = 0; lane < mma16::lanes; ++lane)
            for (unsigned i = 0; i < 4; ++i) {
                const mma16::Element at = mma16::element_of_c(lane, i);
                auto& c = sums.v[lane].c[tile8][i];
                c = sum_of_bytes<Kind>(c, rows[at.row], columns[at.column]);
            }
    }
    /// c + the products of 32 pairs of bytes. Integers are exact. Of fp8 nobody says how tensor cores add; measured on Hopper
    /// (DeepSeek-V3, 3.3.2), they keep about 14 bits: here all terms, c too, lose what lies 2^-13 below the power of two of the largest.
    template <mma16::Codes Kind, class T>
    static T sum_of_bytes(T c, const std::uint8_t (&a)[32], const std::uint8_t (&b)[32]) {
        if constexpr (Kind == mma16::Codes::int8) {
            for (unsigned k = 0; k < 32; ++k)
                c += static_cast<std::int8_t>(a[k]) * static_cast<std::int8_t>(b[k]);
            return c;
        } else {
            double terms[33];
            for (unsigned k = 0; k < 32; ++k)
                terms[k] = static_cast<double>(float_from_fp8_e4m3(a[k])) *
                           static_cast<double>(float_from_fp8_e4m3(b[k]));
            terms[32] = static_cast<double>(c);
            double largest = 0, sum = 0;
            for (const double term : terms) largest = std::max(largest, std::fabs(term));
            if (!(largest > 0)) return c;
            const double unit = std::ldexp(1.0, std::ilogb(largest) - 13);
            for (const double term : terms) sum += std::trunc(term / unit) * unit;
            return static_cast<float>(sum);
        }
    }
    std::uint32_t largest(const Lanes<std::uint32_t>& values) const { return std::ranges::max(values.v); }
    std::int32_t sum(const Lanes<std::int32_t>& values) const {
        std::int32_t total = 0;
        for (const std::int32_t value : values.v) total += value;
        return total;
    }
    /// As butterflies of shuffles add and compare.
    template <class F>
    static float butterfly(Lanes<float> values, F&& f) {
        for (unsigned apart = mma16::lanes / 2; apart > 0; apart /= 2) {
            const Lanes<float> before = values;
            for (unsigned lane = 0; lane < mma16::lanes; ++lane)
                values.v[lane] = f(before.v[lane], before.v[lane ^ apart]);
        }
        return values.v[0];
    }
    float total(const Lanes<float>& values) const {
        return butterfly(values, [](float a, float b) { return a + b; });
    }
    float largest_number(const Lanes<float>& values) const {
        return butterfly(values, [](float a, float b) { return std::fmax(a, b); });
    }
    template <class F>
    void once(F&& f) const {
        f();
    }
    /// Products of halves are exact in f32; each sum of 16 is rounded once here, in the hardware in its own way.
    template <Half Type, class B, class Sums>
    void multiply(const Lanes<mma16::FragmentA>& a, const Lanes<B>& b, unsigned tile8, unsigned step,
                  Lanes<Sums>& sums) const {
        double rows[16][16], columns[16][8];
        for (unsigned lane = 0; lane < mma16::lanes; ++lane)
            for (unsigned e = 0; e < 2; ++e) {
                for (unsigned r = 0; r < 4; ++r) {
                    const mma16::Element at = mma16::element_of_a(lane, r, e);
                    rows[at.row][at.column] =
                        static_cast<double>(half_value(Type, a.v[lane].r[r] >> 16 * e & 0xFFFF));
                }
                for (unsigned r = 0; r < 2; ++r) {
                    const mma16::Element at = mma16::element_of_b(lane, r, e);
                    columns[at.row][at.column] = static_cast<double>(
                        half_value(Type, b.v[lane].r[tile8][2 * step + r] >> 16 * e & 0xFFFF));
                }
            }
        for (unsigned lane = 0; lane < mma16::lanes; ++lane)
            for (unsigned i = 0; i < 4; ++i) {
                const mma16::Element at = mma16::element_of_c(lane, i);
                float& c = sums.v[lane].c[tile8][i];
                double sum = static_cast<double>(c);
                for (unsigned k = 0; k < 16; ++k) sum += rows[at.row][k] * columns[k][at.column];
                c = static_cast<float>(sum);
            }
    }
    /// The rows of a warp among the 64 of four; x is read where a descriptor says (PTX ISA, "Strides").
    template <Half Type, unsigned Steps>
    void multiply_staged(const Lanes<mma16::FragmentA> (&a)[Steps], const std::uint32_t* x,
                         Lanes<decoding::Sums<16>>& part) const {
        for (unsigned step = 0; step < Steps; ++step) {
            double rows[16][16];
            for (unsigned lane = 0; lane < mma16::lanes; ++lane)
                for (unsigned r = 0; r < 4; ++r)
                    for (unsigned e = 0; e < 2; ++e) {
                        const mma16::Element at = mma16::element_of_a(lane, r, e);
                        rows[at.row][at.column] =
                            static_cast<double>(half_value(Type, a[step].v[lane].r[r] >> 16 * e & 0xFFFF));
                    }
            each_staged_row(x, step, [&](unsigned n, const std::uint8_t(&bytes)[32]) {
                double column[16];
                for (unsigned k = 0; k < 16; ++k)
                    column[k] = static_cast<double>(
                        half_value(Type, bytes[2 * k] | static_cast<std::uint32_t>(bytes[2 * k + 1]) << 8));
                each_sum_of_row(n, part, [&](unsigned row, float& c) {
                    double sum = step > 0 ? static_cast<double>(c) : 0.0;
                    for (unsigned k = 0; k < 16; ++k) sum += rows[row][k] * column[k];
                    c = static_cast<float>(sum);
                });
            });
        }
    }
    template <mma16::Codes Kind, unsigned Steps, class T>
    void multiply_staged_bytes(const Lanes<mma16::FragmentA> (&a)[Steps], const std::uint32_t* x, bool onto,
                               Lanes<decoding::Sums<16, T>>& sums) const {
        for (unsigned step = 0; step < Steps; ++step) {
            std::uint8_t rows[16][32];
            for (unsigned lane = 0; lane < mma16::lanes; ++lane)
                for (unsigned r = 0; r < 4; ++r)
                    for (unsigned e = 0; e < 4; ++e) {
                        const mma16::Element at = mma16::byte_of_a(lane, r, e);
                        rows[at.row][at.column] = static_cast<std::uint8_t>(a[step].v[lane].r[r] >> 8 * e);
                    }
            each_staged_row(x, step, [&](unsigned n, const std::uint8_t(&bytes)[32]) {
                each_sum_of_row(n, sums, [&](unsigned row, T& c) {
                    c = sum_of_bytes<Kind>(onto || step > 0 ? c : T{}, rows[row], bytes);
                });
            });
        }
    }

private:
    /// f(n, the 32 bytes that a step multiplies) for each of 128 rows of x.
    template <class F>
    static void each_staged_row(const std::uint32_t* x, unsigned step, F&& f) {
        const std::uint64_t descriptor = mma16::wgmma_descriptor(step * 2 * mma16::wgmma_leading_bytes);
        const auto field = [&](unsigned bit) { return (descriptor >> bit & 0x3FFF) << 4; };
        const std::uint64_t start = field(0), leading = field(16), stride = field(32);
        for (unsigned n = 0; n < mma16::wgmma_rows; ++n) {
            std::uint8_t bytes[32];
            for (unsigned half = 0; half < 2; ++half)
                std::memcpy(bytes + 16 * half,
                            reinterpret_cast<const std::byte*>(x) + start + half * leading + n / 8 * stride +
                                n % 8 * 16,
                            16);
            f(n, bytes);
        }
    }
    /// f(row, c) for the sums of 16 channels and row n of x, where C of m64nNk16 has them.
    template <class T, class F>
    static void each_sum_of_row(unsigned n, Lanes<decoding::Sums<16, T>>& sums, F&& f) {
        for (unsigned g = 0; g < 8; ++g)
            for (unsigned high = 0; high < 2; ++high)
                f(g + 8 * high, sums.v[g * 4 + n % 8 / 2].c[n / 8][2 * high + n % 2]);
    }
};

/// A block of threads on the host: its warps and threads take turns between barriers. Shared memory and parts start as NaN, so that
/// what is read before it is written shows. Copies arrive when they are waited for, no earlier, and leave NaN until then; hazards()
/// counts what only a barrier would have made safe.
class HostBlock {
public:
    using Warp = HostWarp;
    template <class T>
    struct PerWarp {
        T v[decoding::warps_per_block]{};
    };

    HostBlock(unsigned index, std::size_t shared_words)
        : index_(index),
          shared_(shared_words, std::numeric_limits<float>::quiet_NaN()),
          words_(shared_words, 0xFFFFFFFFu) {}

    [[nodiscard]] unsigned index() const { return index_; }
    template <class T = float>
    T* shared() {
        return reinterpret_cast<T*>(shared_.data());
    }
    std::uint32_t* words() { return words_.data(); }  // apart from the floats: one memory on the device
    template <class F>
    void each_warp(F&& f) const {
        for (unsigned w = 0; w < decoding::warps_per_block; ++w) f(HostWarp(), w);
    }
    template <class F>
    void each_thread(F&& f) const {
        for (unsigned t = 0; t < decoding::threads_per_block; ++t) f(t);
    }
    template <class T, class F>
    void each_warp(PerWarp<T>& kept, F&& f) {
        hazards_ += arrived_;  // copies of other threads have been waited for by those alone
        reading_ = true;
        for (unsigned w = 0; w < decoding::warps_per_block; ++w) f(HostWarp(), w, kept.v[w]);
    }
    void copy16(unsigned word, const void* base, std::uint64_t offset, bool there) {
        hazards_ += reading_;  // a warp may still be reading there
        Copy copy{committed_, word, {}};
        if (there) std::memcpy(copy.bytes.w, static_cast<const std::byte*>(base) + offset, sizeof copy.bytes);
        std::fill_n(words_.begin() + word, 4, 0xFFFFFFFFu);
        copies_.push_back(copy);
    }
    void commit() { ++committed_; }
    template <unsigned Pending>
    void wait() {
        std::erase_if(copies_, [&](const Copy& copy) {
            if (copy.group + Pending >= committed_) return false;
            std::copy_n(copy.bytes.w, 4, words_.begin() + copy.word);
            return true;
        });
        arrived_ = true;
    }
    void barrier() {
        hazards_ += arrived_ && needs_show_ && !shown_;
        arrived_ = reading_ = shown_ = false;
    }
    /// Copies are there for wgmma only behind this, and then a barrier.
    void show_to_tensor_cores() const { shown_ = true; }
    void wgmma_reads_copies() { needs_show_ = true; }
    [[nodiscard]] unsigned hazards() const { return hazards_; }
    bool comes_last(std::uint32_t* counter, std::uint32_t others) const {
        if ((*counter)++ != others) return false;
        *counter = 0;
        return true;
    }
    template <class T>
    T read_part(const T* part) const {
        return *part;
    }
    void store(const decoding::Call& call, unsigned token, unsigned channel, float sum) const {
        if (token >= call.m || channel >= call.n) return;
        if (call.bias != nullptr) sum += call.bias[channel];
        store(call.y, call.y_type, token * call.y_stride + channel, sum);
    }
    void store(void* to, decoding::Number type, std::uint64_t index, float value) const {
        HostMath::store_number(to, type, index, value);
    }

private:
    struct Copy {
        unsigned group, word;
        mma16::Words bytes;
    };

    unsigned index_;
    unsigned committed_ = 0, hazards_ = 0;
    bool arrived_ = false, reading_ = false, needs_show_ = false;
    mutable bool shown_ = false;
    std::vector<Copy> copies_;
    std::vector<float> shared_;
    std::vector<std::uint32_t> words_;
};

}  // namespace fewbit::testing
