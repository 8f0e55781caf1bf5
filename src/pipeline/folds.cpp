// Definitions of pipeline/folds.hpp.
#include "fewbit/pipeline/folds.hpp"

#include <cmath>
#include <map>
#include <numeric>
#include <optional>
#include <utility>

#include "fewbit/core/text.hpp"

namespace fewbit::inline v0::pipeline {
namespace {

/// A float matrix of a file as f32. Error: by name.
[[nodiscard]] Result<Matrix> floats_of(const io::ModelFile& file, const std::string& name) {
    const auto found = file.linears.find(name);
    if (found == file.linears.end())
        return fail(ErrorKind::bad_input, "the model has no matrix '", name, "'");
    return plain_floats(found->second, name, "scales are folded into float matrices");
}

[[nodiscard]] Result<void> check_all_finite(const Matrix& w, const std::string& name) {
    for (const float value : w.values())
        if (!std::isfinite(value))
            return fail(ErrorKind::bad_input, "a weight of '", name,
                        "' leaves the range of f32 when scales are folded");
    return {};
}

}  // namespace

Fold fold_of(const io::ModelShape& s, std::size_t block, FoldSite site) {
    const std::string prefix = text("model.layers.", block, ".");
    const auto names = [&](std::initializer_list<const char*> parts) {
        std::vector<std::string> all;
        for (const char* part : parts) all.push_back(prefix + part);
        return all;
    };
    Fold fold;
    fold.k = site == FoldSite::value ? s.heads * s.head_dim : site == FoldSite::up ? s.hidden : s.dim;
    fold.source.resize(fold.k);
    std::iota(fold.source.begin(), fold.source.end(), 0u);
    switch (site) {
        case FoldSite::attention:
            fold.norm = prefix + "input_layernorm";
            fold.readers = names({"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"});
            break;
        case FoldSite::value: {
            fold.writer = prefix + "self_attn.v_proj";
            fold.readers = names({"self_attn.o_proj"});
            const std::size_t share = s.heads / s.kv_heads;  // query heads of a key-value head
            for (std::size_t k = 0; k < fold.k; ++k)
                fold.source[k] =
                    static_cast<std::uint32_t>(k / s.head_dim / share * s.head_dim + k % s.head_dim);
            break;
        }
        case FoldSite::mlp:
            fold.norm = prefix + "post_attention_layernorm";
            fold.readers = names({"mlp.gate_proj", "mlp.up_proj"});
            break;
        case FoldSite::up:
            fold.writer = prefix + "mlp.up_proj";
            fold.readers = names({"mlp.down_proj"});
            break;
    }
    return fold;
}

Result<void> fold_scales(io::ModelFile& file, const Fold& fold, std::span<const float> scales) {
    const std::string& target = fold.norm.empty() ? fold.writer : fold.norm;
    if (scales.size() != fold.k)
        return fail(ErrorKind::bad_input, "'", target, "' writes ", fold.k, " channels, and there are ",
                    scales.size(), " scales");
    std::map<std::uint32_t, float> by_source;
    for (std::size_t k = 0; k < fold.k; ++k) {
        if (!(scales[k] > 0) || !std::isfinite(scales[k]))
            return fail(ErrorKind::bad_input, "the scale of channel ", k, " of '", target, "' is ", scales[k],
                        ", not a positive number");
        const auto [known, added] = by_source.try_emplace(fold.source[k], scales[k]);
        if (!added && known->second != scales[k])
            return fail(ErrorKind::bad_input, "channels that '", target, "' writes as one have scales of ",
                        known->second, " and ", scales[k]);
    }
    std::map<std::string, Matrix> changed;
    for (const std::string& reader : fold.readers) {
        auto w = floats_of(file, reader);
        if (!w) return Unexpected{std::move(w).error()};
        if (w->cols() != fold.k)
            return fail(ErrorKind::bad_input, "matrix '", reader, "' reads ", w->cols(), " channels, not ",
                        fold.k);
        for (std::size_t r = 0; r < w->rows(); ++r)
            for (std::size_t k = 0; k < fold.k; ++k) (*w)(r, k) *= scales[k];
        changed.insert_or_assign(reader, *std::move(w));
    }
    std::vector<float> gains, bias;
    if (!fold.norm.empty()) {
        const auto norm = file.vectors.find(fold.norm);
        if (norm == file.vectors.end() || norm->second.size() != fold.k)
            return fail(ErrorKind::bad_input, "the model has no vector '", fold.norm, "' of ", fold.k);
        gains = norm->second;
        for (std::size_t k = 0; k < fold.k; ++k) {
            const float gain = gains[k] / scales[k];
            if (gains[k] != 0 && !std::isnormal(gain))
                return fail(ErrorKind::bad_input, "gain ", k, " of '", fold.norm, "', ", gains[k],
                            ", leaves the normal numbers of f32 when it is divided by ", scales[k]);
            gains[k] = gain;
        }
    } else {
        // A matrix never reads what it writes, so it is not among `changed`.
        auto w = floats_of(file, fold.writer);
        if (!w) return Unexpected{std::move(w).error()};
        bias = file.linears.at(fold.writer).bias;
        for (const auto& [row, scale] : by_source) {
            if (row >= w->rows())
                return fail(ErrorKind::bad_input, "matrix '", fold.writer, "' has ", w->rows(),
                            " rows; the model's shape asks for more");
            for (float& weight : w->row(row)) weight /= scale;
            if (!bias.empty()) bias[row] /= scale;
        }
        changed.insert_or_assign(fold.writer, *std::move(w));
    }
    std::map<std::string, QuantizedMatrix> stored;
    for (const auto& [name, w] : changed) {
        if (auto finite = check_all_finite(w, name); !finite) return finite;
        auto matrix = float_matrix(w.view());
        if (!matrix) return Unexpected{std::move(matrix).error()};
        stored.emplace(name, *std::move(matrix));
    }
    for (auto& [name, matrix] : stored) file.linears.at(name).weights = std::move(matrix);
    if (!gains.empty()) file.vectors.at(fold.norm) = std::move(gains);
    if (!bias.empty()) file.linears.at(fold.writer).bias = std::move(bias);
    return {};
}

}  // namespace fewbit::inline v0::pipeline
