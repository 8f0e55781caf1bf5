// Definitions of model/parameters.hpp.
#include "fewbit/model/parameters.hpp"

#include <cmath>
#include <cstring>
#include <numbers>
#include <utility>

#include "fewbit/core/random.hpp"
#include "fewbit/core/scalar.hpp"
#include "fewbit/core/text.hpp"

namespace fewbit::inline v0::model {
namespace {

/// Box and Muller.
float normal(std::uint64_t& state) noexcept {
    const auto uniform = [&] { return positive_unit_interval(splitmix_next(state)); };
    const double radius = std::sqrt(-2 * std::log(uniform()));
    return static_cast<float>(radius * std::cos(2 * std::numbers::pi * uniform()));
}

}  // namespace

ParameterTable::ParameterTable(const io::ModelShape& shape) : shape_(shape) {
    const std::size_t q_dim = shape.heads * shape.head_dim, kv_dim = shape.kv_heads * shape.head_dim;
    add("model.embed_tokens", shape.vocabulary, shape.dim);
    for (std::size_t i = 0; i < shape.layers; ++i) {
        const std::string prefix = text("model.layers.", i, ".");
        Block block{};
        block.input_norm = add(prefix + "input_layernorm", 1, shape.dim, true);
        block.q = add(prefix + "self_attn.q_proj", q_dim, shape.dim);
        block.k = add(prefix + "self_attn.k_proj", kv_dim, shape.dim);
        block.v = add(prefix + "self_attn.v_proj", kv_dim, shape.dim);
        block.o = add(prefix + "self_attn.o_proj", shape.dim, q_dim);
        block.mlp_norm = add(prefix + "post_attention_layernorm", 1, shape.dim, true);
        block.gate = add(prefix + "mlp.gate_proj", shape.hidden, shape.dim);
        block.up = add(prefix + "mlp.up_proj", shape.hidden, shape.dim);
        block.down = add(prefix + "mlp.down_proj", shape.dim, shape.hidden);
        blocks_.push_back(block);
    }
    norm_ = add("model.norm", 1, shape.dim, true);
    head_ = shape.tied_head ? embedding() : add("lm_head", shape.vocabulary, shape.dim);
}

std::size_t ParameterTable::add(std::string name, std::size_t rows, std::size_t cols, bool is_vector) {
    slots_.push_back({std::move(name), size_, rows, cols, is_vector});
    size_ += rows * cols;
    return slots_.size() - 1;
}

void initialize(const ParameterTable& table, std::uint64_t seed, std::span<float> values,
                double gain_spread) {
    const auto layers = static_cast<double>(table.shape().layers);
    for (std::size_t i = 0; i < table.slots().size(); ++i) {
        const ParameterSlot& slot = table.slots()[i];
        const auto part = values.subspan(slot.first, slot.size());
        std::uint64_t state = (seed + 1) * 0xD1342543DE82EF95u ^ i * 0x2545F4914F6CDD1Du;
        double deviation = 1.0 / std::sqrt(static_cast<double>(slot.cols));
        if (slot.name.ends_with("o_proj") || slot.name.ends_with("down_proj"))
            deviation /= std::sqrt(2 * layers);
        if (i == table.embedding()) deviation = 0.05;
        for (float& value : part)
            value = slot.is_vector ? 1.0f : static_cast<float>(deviation) * normal(state);
    }
    if (gain_spread == 0) return;
    std::uint64_t state = (seed + 1) * 0xD1342543DE82EF95u ^ 0x6761696E73u;
    const auto spread = [&](std::size_t norm, std::size_t first, std::size_t last) {
        const auto gains = table.vector(values, norm);
        double squares = 0;
        for (float& gain : gains) {
            gain = static_cast<float>(std::exp(gain_spread * static_cast<double>(normal(state))));
            squares += static_cast<double>(gain) * static_cast<double>(gain);
        }
        const auto unit = static_cast<float>(std::sqrt(static_cast<double>(gains.size()) / squares));
        const MatrixView<float> weights = table.stacked(values, first, last);
        for (std::size_t c = 0; c < gains.size(); ++c) {
            gains[c] *= unit;
            for (std::size_t r = 0; r < weights.rows; ++r) weights(r, c) /= gains[c];
        }
    };
    for (std::size_t layer = 0; layer < table.shape().layers; ++layer) {
        const ParameterTable::Block& block = table.block(layer);
        spread(block.input_norm, block.q, block.v);
        spread(block.mlp_norm, block.gate, block.up);
    }
}

Result<void> read_parameters(const io::ModelFile& file, const ParameterTable& table,
                             std::span<float> values) {
    for (const ParameterSlot& slot : table.slots()) {
        const auto part = values.subspan(slot.first, slot.size());
        if (slot.is_vector) {
            const auto found = file.vectors.find(slot.name);
            if (found == file.vectors.end() || found->second.size() != slot.cols)
                return fail(ErrorKind::bad_input, "the ", file.type, " model has no vector '", slot.name,
                            "' of ", slot.cols, " elements");
            std::copy(found->second.begin(), found->second.end(), part.begin());
            continue;
        }
        const auto found = file.linears.find(slot.name);
        if (found == file.linears.end() || found->second.n() != slot.rows || found->second.k() != slot.cols)
            return fail(ErrorKind::bad_input, "the ", file.type, " model has no matrix '", slot.name, "' of ",
                        slot.rows, " x ", slot.cols);
        const Linear& linear = found->second;
        constexpr std::string_view why = "training starts from a plain float model";
        if (auto plain = expect_plain_floats(linear, slot.name, why); !plain) return plain;
        if (!linear.bias.empty())
            return fail(ErrorKind::bad_input, "matrix '", slot.name, "' has a bias; ", why);
        for (std::size_t r = 0; r < slot.rows; ++r)
            linear.weights.dequantize(r, 0, part.subspan(r * slot.cols, slot.cols));
    }
    return {};
}

Result<io::ModelFile> to_model_file(const ParameterTable& table, std::span<const float> values, Scalar type) {
    io::ModelFile file;
    file.shape = table.shape();
    file.type = "trained";
    for (const ParameterSlot& slot : table.slots()) {
        const auto part = values.subspan(slot.first, slot.size());
        if (slot.is_vector) {
            file.vectors[slot.name] = {part.begin(), part.end()};
            continue;
        }
        auto matrix = QuantizedMatrix::allocate(float_format(type), slot.rows, slot.cols);
        if (!matrix) return Unexpected{std::move(matrix).error().within(slot.name)};
        for (std::size_t r = 0; r < slot.rows; ++r) {
            auto* row = reinterpret_cast<std::byte*>(matrix->codes.mutable_row(r));
            for (std::size_t c = 0; c < slot.cols; ++c)
                store_float(type, part[r * slot.cols + c], row + c * size_bytes(type));
        }
        file.linears[slot.name].weights = *std::move(matrix);
    }
    return file;
}

}  // namespace fewbit::inline v0::model
