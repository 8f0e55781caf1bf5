// int8 activations times tile16 in tiles of AMX: one instruction multiplies 16 rows x 64 of K with 64 of K x 16 channels.
// Codes of 32 channels x a piece of K are loaded as tiles (matrix_panel.hpp), and all rows of a block (matrix_pieces.hpp) meet them
// there; their sums are scaled and added to
//
//   totals   [row][32]   f32, of all rows of the block, written to y when K ends
#pragma once

#include "kernels/tile16/matrix_panel.hpp"

namespace fewbit::inline v0::kernels {
namespace {

/// Zero points that are left to the sums: none, the same one for all, which sums of activations are multiplied by, one for each channel.
enum class Zeros { none, same, own };

/// What is to be done with the sums of a tile of rows.
struct MatrixSums {
    std::int32_t* sums = nullptr;  ///< [row][32]
    const MatrixPanel* panel = nullptr;
    const float* x_scales = nullptr;
    const std::int32_t* x_sums = nullptr;
    const float* scaled_x_sums = nullptr;
    float* totals = nullptr;
};

/// How a product is formed: 16 channels or 32, what is left of zero points, whether there are offsets.
template <int TileCount, Zeros LeftOfZeros, bool HasOffsets>
struct MatrixKind {
    static constexpr int tiles = TileCount;
    static constexpr Zeros zeros = LeftOfZeros;
    static constexpr bool offsets = HasOffsets;
};

/// totals += (sums - zero * sum of x) * scale * scale of x + offset * sum of x * scale of x, for rows [first, last)
template <class Kind>
[[gnu::always_inline]] inline void add_sums(const MatrixSums& of, std::size_t first, std::size_t last) {
    constexpr int Tiles = Kind::tiles;
    LanesAmx::Floats scale[Tiles], offset[Tiles];
    LanesAmx::Ints zero[Tiles];
    for (int t = 0; t < Tiles; ++t) {
        const int at = t * static_cast<int>(tile_channels);
        scale[t] = LanesAmx::load(of.panel->scales + at);
        if constexpr (Kind::offsets) offset[t] = LanesAmx::load(of.panel->offsets + at);
        if constexpr (Kind::zeros == Zeros::own) zero[t] = LanesAmx::load_ints(of.panel->zeros + at);
    }
#pragma GCC unroll 16
    for (std::size_t r = first; r < last; ++r) {
        const auto x_scale = LanesAmx::set(of.x_scales[r]);
#pragma GCC unroll 2
        for (int t = 0; t < Tiles; ++t) {
            const std::size_t at = r * matrix_channels + static_cast<std::size_t>(t) * tile_channels;
            auto sums = LanesAmx::load_ints(of.sums + at);
            const auto x_sum = LanesAmx::set_int(of.x_sums[r]);
            if constexpr (Kind::zeros == Zeros::same) sums = LanesAmx::add(sums, x_sum);
            if constexpr (Kind::zeros == Zeros::own)
                sums = LanesAmx::add(sums, LanesAmx::multiply_ints(zero[t], x_sum));
            auto total =
                LanesAmx::multiply_add(LanesAmx::to_floats(sums), LanesAmx::multiply(scale[t], x_scale),
                                       LanesAmx::load(of.totals + at));
            if constexpr (Kind::offsets)
                total = LanesAmx::multiply_add(offset[t], LanesAmx::set(of.scaled_x_sums[r]), total);
            LanesAmx::store(of.totals + at, total);
        }
    }
}

/// Products of piece p, in `panel`, with all rows of the block. Their sums are added to totals while those of the next tile
/// are formed; `before`: the last ones, which wait.
template <class Kind, bool Signed>
void multiply_piece(const MatrixScratch& scratch, const MatrixPanel& panel, const MatrixCodes& w,
                    std::size_t p, bool has_second, std::size_t rows, MatrixSums& before) {
    constexpr int Tiles = Kind::tiles;
    const MatrixCut& cut = scratch.cut;
    const std::size_t step = cut.step(), x_step_bytes = amx_rows * step,
                      x_tile_bytes = MatrixRows::code_bytes(cut, scratch.pieces);
    constexpr std::size_t sums_row_bytes = matrix_channels * sizeof(std::int32_t);
    load_tile<4>(w.parts[0], vector_bytes);
    if (Tiles == 2) load_tile<5>(w.parts[1], vector_bytes);
    if (has_second) {
        load_tile<6>(w.parts[0] + w.step_bytes, vector_bytes);
        if (Tiles == 2) load_tile<7>(w.parts[1] + w.step_bytes, vector_bytes);
    }
    const std::int8_t* x = scratch.x.codes + p * cut.steps() * x_step_bytes;
    MatrixSums now{scratch.sums[before.sums == scratch.sums[0]],
                   &panel,
                   scratch.x.scales + p * amx_rows,
                   scratch.x.sums + p * amx_rows,
                   scratch.x.scaled_sums + p * amx_rows,
                   scratch.totals};
    for (std::size_t r = 0; r < rows; r += amx_rows) {
        const auto add = [&](std::size_t quarter) __attribute__((always_inline)) {
            constexpr std::size_t some = amx_rows / 4;
            if (before.sums != nullptr) add_sums<Kind>(before, quarter * some, (quarter + 1) * some);
        };
        zero_tile<0>();
        if (Tiles == 2) zero_tile<1>();
        load_tile<2>(x, step);
        multiply_tiles<Signed, 0, 2, 4>();
        add(0);
        if (Tiles == 2) multiply_tiles<Signed, 1, 2, 5>();
        add(1);
        if (has_second) {
            load_tile<3>(x + x_step_bytes, step);
            multiply_tiles<Signed, 0, 3, 6>();
        }
        add(2);
        if (has_second && Tiles == 2) multiply_tiles<Signed, 1, 3, 7>();
        add(3);
        store_tile<0>(now.sums, sums_row_bytes);
        if (Tiles == 2) store_tile<1>(now.sums + tile_channels, sums_row_bytes);
        before = now;
        now.sums = scratch.sums[before.sums == scratch.sums[0]];
        now.x_scales += scratch.pieces * amx_rows;
        now.x_sums += scratch.pieces * amx_rows;
        now.scaled_x_sums += scratch.pieces * amx_rows;
        now.totals += amx_rows * matrix_channels;
        x += x_tile_bytes;
    }
}

/// Two tiles of rows, and what adds their sums.
template <class Kind>
struct MatrixPair {
    MatrixSums tiles[2];

    /// Eighth `part` of both.
    [[gnu::always_inline]] void add(std::size_t part) const {
        constexpr std::size_t some = amx_rows / 4;
        const MatrixSums& of = tiles[part / 4];
        if (of.sums != nullptr) add_sums<Kind>(of, part % 4 * some, (part % 4 + 1) * some);
    }
};

/// multiply_piece() for pieces of more steps than tiles hold of W: two tiles of rows meet two of channels, step by step.
template <class Kind, bool Signed>
void multiply_long_piece(const MatrixScratch& scratch, const MatrixPanel& panel, const MatrixCodes& w,
                         std::size_t p, std::size_t steps, std::size_t rows, MatrixPair<Kind>& before) {
    constexpr int Tiles = Kind::tiles;
    const MatrixCut& cut = scratch.cut;
    const std::size_t x_step_bytes = amx_rows * cut.step(),
                      x_tile_bytes = MatrixRows::code_bytes(cut, scratch.pieces);
    constexpr std::size_t sums_row_bytes = matrix_channels * sizeof(std::int32_t);
    for (std::size_t r = 0; r < rows; r += 2 * amx_rows) {
        const std::size_t tile = r / amx_rows;
        const bool has_both = rows - r > amx_rows;
        const std::int8_t* x = scratch.x.codes + tile * x_tile_bytes + p * cut.steps() * x_step_bytes;
        zero_tile<0>();
        zero_tile<1>();
        zero_tile<2>();
        zero_tile<3>();
        for (std::size_t s = 0; s < steps; ++s, x += x_step_bytes) {
            load_tile<6>(w.parts[0] + s * w.step_bytes, vector_bytes);
            load_tile<4>(x, cut.step());
            multiply_tiles<Signed, 0, 4, 6>();
            if (Tiles == 2) {
                load_tile<7>(w.parts[1] + s * w.step_bytes, vector_bytes);
                multiply_tiles<Signed, 1, 4, 7>();
            }
            if (has_both) {
                load_tile<5>(x + x_tile_bytes, cut.step());
                multiply_tiles<Signed, 2, 5, 6>();
                if (Tiles == 2) multiply_tiles<Signed, 3, 5, 7>();
            }
            before.add(s);
        }
        for (std::size_t s = steps; s < 8; ++s) before.add(s);
        std::int32_t* const* const free = scratch.sums + (before.tiles[0].sums == scratch.sums[0] ? 2 : 0);
        before.tiles[1].sums = nullptr;
        for (std::size_t t = 0; t < (has_both ? 2u : 1u); ++t) {
            const std::size_t numbers = ((tile + t) * scratch.pieces + p) * amx_rows;
            before.tiles[t] = {free[t],
                               &panel,
                               scratch.x.scales + numbers,
                               scratch.x.sums + numbers,
                               scratch.x.scaled_sums + numbers,
                               scratch.totals + (tile + t) * amx_rows * matrix_channels};
        }
        store_tile<0>(free[0], sums_row_bytes);
        if (Tiles == 2) store_tile<1>(free[0] + tile_channels, sums_row_bytes);
        if (!has_both) continue;
        store_tile<2>(free[1], sums_row_bytes);
        if (Tiles == 2) store_tile<3>(free[1] + tile_channels, sums_row_bytes);
    }
}

/// `rows` rows of the block, from the one of `y` on, x the channels of `first`, from n on, and of `second`.
template <class Kind, class Source>
void multiply_channels(const KernelCall& call, const Source& first, const Source& second, std::size_t rows,
                       std::size_t n, float* y, const MatrixScratch& scratch) {
    constexpr int Tiles = Kind::tiles;
    constexpr bool is_signed = !is_tile<Source>;
    std::memset(scratch.totals, 0, scratch.rows * matrix_channels * sizeof(float));
    MatrixSums before;
    MatrixPair<Kind> pair;  // of long pieces
    std::size_t p = 0;
    scratch.cut.each_piece(call.w.k, [&](std::size_t begin, std::size_t end) {
        const MatrixPanel& panel = scratch.panels[p % 2];
        MatrixCodes codes;
        prepare_piece(call.w, first, begin, end, scratch, panel, 0, codes);
        if (Tiles == 2) prepare_piece(call.w, second, begin, end, scratch, panel, 1, codes);
        const std::size_t steps = (end - begin + scratch.cut.step() - 1) / scratch.cut.step();
        if (scratch.cut.is_long())
            multiply_long_piece<Kind, is_signed>(scratch, panel, codes, p, steps, rows, pair);
        else
            multiply_piece<Kind, is_signed>(scratch, panel, codes, p, steps == 2, rows, before);
        ++p;
    });
    if (scratch.cut.is_long())
        for (std::size_t part = 0; part < 8; ++part) pair.add(part);
    else
        add_sums<Kind>(before, 0, amx_rows);
    const std::size_t count = smaller(Tiles * tile_channels, call.w.n - n);
    for (std::size_t r = 0; r < rows; ++r)
        for (int c = 0; c < Tiles; ++c) {
            auto total = LanesAmx::load(scratch.totals + r * matrix_channels +
                                        static_cast<std::size_t>(c) * tile_channels);
            if (call.y.bias != nullptr)
                total = LanesAmx::add(total, load_some<LanesAmx>(call.y.bias + n, c, count));
            store_some<LanesAmx>(y + r * call.y.stride_elements + n, c, count, total);
        }
}

template <class Field>
void multiply_matrices(const KernelCall& call, const Field& field, const Rectangle& part, std::byte* memory) {
    using Source = StreamSource<LanesAmx, Field>;
    const MatrixScratch scratch(call, memory);
    const std::int32_t middle = Source(call, field, part.n_begin).middle();
    configure_tiles(amx_rows, scratch.cut.step());
    for (std::size_t m = part.m_begin; m < part.m_end; m += scratch.rows) {
        const std::size_t rows = smaller(part.m_end - m, scratch.rows);
        float* const y = call.y.values + m * call.y.stride_elements;
        scratch.x.arrange(call, scratch.cut, call.w.has_zeros ? -1 : -middle, m, rows);
        for (std::size_t n = part.n_begin; n < part.n_end; n += matrix_channels) {
            const auto multiply = [&](auto tiles, auto zeros, auto offsets) {
                multiply_channels<MatrixKind<tiles, zeros, offsets>>(
                    call, Source(call, field, n), Source(call, field, n + (tiles - 1) * tile_channels), rows,
                    n, y, scratch);
            };
            const auto with_tiles = [&](auto zeros, auto offsets) {
                part.n_end - n > tile_channels ? multiply(Constant<2>{}, zeros, offsets)
                                               : multiply(Constant<1>{}, zeros, offsets);
            };
            if (call.w.has_offsets)  // and then no zero points
                with_tiles(Constant<Zeros::none>{}, Constant<true>{});
            else if (!is_tile<Source>)
                with_tiles(Constant<Zeros::none>{}, Constant<false>{});
            else if (call.w.has_zeros)
                with_tiles(Constant<Zeros::own>{}, Constant<false>{});
            else
                with_tiles(Constant<Zeros::same>{}, Constant<false>{});
        }
    }
    release_tiles();
}

// What kernel files export. Few rows, which memory bounds, run as `Few` does, the kernel for AVX-512.

/// Where tiles do not pay (measured on one CPU, docs/decisions/0026): unpacking takes as long as 12 rows do, and what ends a piece
/// of 32 as long as its products twice; with less of K, or with offsets, AVX-512 is as fast at any number of rows.
inline bool is_few_for_matrices(const KernelCall& call) {
    const MatrixCut cut(call);
    const std::size_t piece = cut.steps() * cut.step();
    if (piece >= 64) return call.x.m <= 12;
    return call.x.m <= 24 || piece < 32 || call.w.has_offsets;
}
template <const KernelCode& Few>
const KernelCode* few_rows_to(const KernelCall& call) noexcept {
    return is_few_for_matrices(call) ? &Few : nullptr;
}
template <const KernelCode& Few>
std::size_t matrix_scratch_bytes(const KernelCall& call) noexcept {
    return is_few_for_matrices(call) ? Few.scratch_bytes_of(call) : MatrixScratch(call, nullptr).bytes;
}
template <const KernelCode& Few>
void integer_matrix_products(const KernelCall& call, const Rectangle& part, void* scratch) noexcept {
    if (is_few_for_matrices(call)) return Few.run(call, part, scratch);
    with_field_bits(call.w.field_bits, [&](auto bits) {
        using Lanes = typename Either<bits == 8, LanesAmxBytes, LanesAmx>::Type;
        using Field = typename Integers<bits>::template Field<Lanes>;
        multiply_matrices(call, Field(call.w), part, static_cast<std::byte*>(scratch));
    });
}
template <const KernelCode& Few>
void table_matrix_products(const KernelCall& call, const Rectangle& part, void* scratch) noexcept {
    if (is_few_for_matrices(call)) return Few.run(call, part, scratch);
    multiply_matrices(call, TableField<LanesAmx>(call.w), part, static_cast<std::byte*>(scratch));
}
template <const KernelCode& Few>
constexpr KernelCode matrix_kernel(decltype(KernelCode::run) run) {
    return {run,
            0,
            amx_rows,
            matrix_channels,
            matrix_scratch_bytes<Few>,
            activation_tile_rows,
            quantize_tile<LanesAmx>,
            LanesAmx::run,
            false,
            few_rows_to<Few>};
}

}  // namespace
}  // namespace fewbit::inline v0::kernels
