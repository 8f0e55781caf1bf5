// Models for the tests of model files: small, of every format, filled with arbitrary bytes.
#pragma once

#include <cstring>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "fewbit/io/model_file.hpp"
#include "support/catch.hpp"

namespace fewbit_test {

using fewbit::QuantizedMatrix;
using fewbit::Tensor;

/// Valid codes, arbitrary parameters (NaNs included: files carry bits, not values).
inline QuantizedMatrix random_matrix(const fewbit::Format& format, std::size_t n, std::size_t k,
                                     std::mt19937& random) {
    auto matrix = QuantizedMatrix::allocate(format, n, k);
    REQUIRE(matrix);
    const auto fill = [&random](std::span<std::byte> bytes) {
        for (std::byte& byte : bytes) byte = static_cast<std::byte>(random());
    };
    const auto fill_codes = [&](fewbit::BitMatrix& codes) {
        std::vector<std::uint8_t> row(codes.cols());
        for (std::size_t r = 0; r < codes.rows(); ++r) {
            for (auto& code : row) code = static_cast<std::uint8_t>(random() & ((1u << codes.bits()) - 1u));
            codes.pack_row(r, row);
        }
    };
    if (format.is_float()) {
        for (std::size_t r = 0; r < n; ++r)
            fill({reinterpret_cast<std::byte*>(matrix->codes.mutable_row(r)), matrix->codes.row_bytes()});
        return *matrix;
    }
    fill_codes(matrix->codes);
    fill_codes(matrix->zeros);
    fill(matrix->scales.mutable_bytes());
    fill(matrix->offsets.mutable_bytes());
    fill(matrix->row_scales.mutable_bytes());
    return *matrix;
}

/// extras: bias, channel scales, permutation and float columns too.
inline fewbit::Linear random_linear(const fewbit::Format& format, std::size_t n, std::size_t k,
                                    std::mt19937& random, bool extras = false) {
    fewbit::Linear linear;
    linear.weights = random_matrix(format, n, k, random);
    if (!extras) return linear;
    for (std::size_t i = 0; i < n; ++i) linear.bias.push_back(static_cast<float>(random()));
    for (std::size_t i = 0; i < k; ++i) {
        linear.transform.channel_scales.push_back(static_cast<float>(1 + random() % 1000) / 7.0f);
        linear.transform.permutation.push_back(static_cast<std::uint32_t>(k - 1 - i));
    }
    for (std::size_t i = 1; i < k; i += 3) linear.columns.channels.push_back(static_cast<std::uint32_t>(i));
    const auto element = random() % 2 == 0 ? fewbit::Scalar::f16 : fewbit::Scalar::f32;
    linear.columns.values =
        random_matrix(fewbit::float_format(element), n, linear.columns.channels.size(), random);
    return linear;
}

inline fewbit::io::ModelShape small_shape() {
    fewbit::io::ModelShape shape;
    shape.dim = 24;
    shape.hidden = 20;
    shape.layers = 2;
    shape.heads = 4;
    shape.kv_heads = 2;
    shape.head_dim = 6;
    shape.vocabulary = 11;
    shape.context = 64;
    shape.rope_base = 12345.678f;
    shape.norm_epsilon = 1e-6f;
    return shape;
}

/// A whole decoder whose projections are of `format`.
inline fewbit::io::ModelFile small_model(const fewbit::Format& format, bool extras = false,
                                         unsigned seed = 1) {
    std::mt19937 random(seed);
    fewbit::io::ModelFile model;
    const auto s = model.shape = small_shape();
    const auto gains = [&random](std::size_t count) {
        std::vector<float> values(count);
        for (float& value : values) value = static_cast<float>(random() % 1000) / 999.0f;
        return values;
    };
    const auto f32 = fewbit::float_format(fewbit::Scalar::f32);
    model.linears["model.embed_tokens"] = random_linear(f32, s.vocabulary, s.dim, random);
    model.linears["lm_head"] = random_linear(format, s.vocabulary, s.dim, random, extras);
    model.vectors["model.norm"] = gains(s.dim);
    for (std::size_t layer = 0; layer < s.layers; ++layer) {
        const std::string base = "model.layers." + std::to_string(layer) + ".";
        model.vectors[base + "input_layernorm"] = gains(s.dim);
        model.vectors[base + "post_attention_layernorm"] = gains(s.dim);
        const std::size_t query = s.heads * s.head_dim, key = s.kv_heads * s.head_dim;
        model.linears[base + "self_attn.q_proj"] = random_linear(format, query, s.dim, random, extras);
        model.linears[base + "self_attn.k_proj"] = random_linear(format, key, s.dim, random, extras);
        model.linears[base + "self_attn.v_proj"] = random_linear(format, key, s.dim, random, extras);
        model.linears[base + "self_attn.o_proj"] = random_linear(format, s.dim, query, random, extras);
        model.linears[base + "mlp.gate_proj"] = random_linear(format, s.hidden, s.dim, random, extras);
        model.linears[base + "mlp.up_proj"] = random_linear(format, s.hidden, s.dim, random, extras);
        model.linears[base + "mlp.down_proj"] = random_linear(format, s.dim, s.hidden, random, extras);
    }
    model.metadata["source"] = "a test";
    return model;
}

inline bool same(const Tensor& a, const Tensor& b) {
    return a.type() == b.type() && a.elements() == b.elements() &&
           (a.elements() == 0 || a.shape() == b.shape()) &&
           (a.size_bytes() == 0 || std::memcmp(a.bytes().data(), b.bytes().data(), a.size_bytes()) == 0);
}

inline bool same(const QuantizedMatrix& a, const QuantizedMatrix& b) {
    return a.format() == b.format() && a.n() == b.n() && a.k() == b.k() &&
           same(a.codes.bytes(), b.codes.bytes()) && (a.format().is_float() || same(a.scales, b.scales)) &&
           same(a.zeros.bytes(), b.zeros.bytes()) && same(a.row_scales, b.row_scales) &&
           (a.format().offset != fewbit::Offset::real || same(a.offsets, b.offsets));
}

inline bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
    return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), 4 * a.size()) == 0);
}

inline bool same(const fewbit::Linear& a, const fewbit::Linear& b) {
    return same(a.weights, b.weights) && same_bits(a.bias, b.bias) &&
           same_bits(a.transform.channel_scales, b.transform.channel_scales) &&
           a.transform.permutation == b.transform.permutation && a.columns.channels == b.columns.channels &&
           (a.columns.empty() || same(a.columns.values, b.columns.values));
}

/// Names the first difference; "" when the models are equal bit by bit.
inline std::string difference(const fewbit::io::ModelFile& a, const fewbit::io::ModelFile& b) {
    if (!(a.shape == b.shape)) return "shape";
    if (a.metadata != b.metadata) return "metadata";
    if (a.linears.size() != b.linears.size() || a.vectors.size() != b.vectors.size())
        return "number of layers";
    for (const auto& [name, linear] : a.linears)
        if (!b.linears.contains(name) || !same(linear, b.linears.at(name))) return name;
    for (const auto& [name, values] : a.vectors)
        if (!b.vectors.contains(name) || !same_bits(values, b.vectors.at(name))) return name;
    return "";
}

}  // namespace fewbit_test
