// ParameterTable: where the numbers of a model in training lie in one flat array, so that an optimizer, a
// norm of all gradients and a checkpoint are single loops.
//
//   embedding | per layer: norm, q k v, o, norm, gate up, down | norm | head (absent when tied)
//
// q, k, v and gate, up are neighbours: each group is one matrix to a product.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "fewbit/core/buffer.hpp"
#include "fewbit/core/config.hpp"
#include "fewbit/core/result.hpp"
#include "fewbit/core/tensor.hpp"
#include "fewbit/io/model_file.hpp"

namespace fewbit::inline v0::model {

/// A matrix (rows, cols), or a vector of norm gains (1, cols).
struct ParameterSlot {
    std::string name;  ///< as in io::ModelFile
    std::size_t first = 0;
    std::size_t rows = 0;
    std::size_t cols = 0;
    bool is_vector = false;

    [[nodiscard]] std::size_t size() const noexcept { return rows * cols; }
};

class ParameterTable {
public:
    struct Block {
        std::size_t input_norm, q, k, v, o, mlp_norm, gate, up, down;  ///< indices of slots
    };

    /// Precondition: a shape that Transformer::create takes.
    FEWBIT_API explicit ParameterTable(const io::ModelShape& shape);

    [[nodiscard]] const io::ModelShape& shape() const noexcept { return shape_; }
    [[nodiscard]] std::span<const ParameterSlot> slots() const noexcept { return slots_; }
    [[nodiscard]] const Block& block(std::size_t layer) const noexcept { return blocks_[layer]; }
    [[nodiscard]] std::size_t embedding() const noexcept { return 0; }
    [[nodiscard]] std::size_t norm() const noexcept { return norm_; }
    [[nodiscard]] std::size_t head() const noexcept { return head_; }  ///< the embedding's when tied
    /// Numbers in all.
    [[nodiscard]] std::size_t size() const noexcept { return size_; }

    template <class T>
    [[nodiscard]] MatrixView<T> matrix(std::span<T> values, std::size_t slot) const noexcept {
        const ParameterSlot& s = slots_[slot];
        return {values.data() + s.first, s.rows, s.cols};
    }
    /// Slots first .. last, which have the same cols, as one matrix.
    template <class T>
    [[nodiscard]] MatrixView<T> stacked(std::span<T> values, std::size_t first,
                                        std::size_t last) const noexcept {
        MatrixView<T> view = matrix(values, first);
        for (std::size_t slot = first + 1; slot <= last; ++slot) view.rows += slots_[slot].rows;
        return view;
    }
    template <class T>
    [[nodiscard]] std::span<T> vector(std::span<T> values, std::size_t slot) const noexcept {
        return values.subspan(slots_[slot].first, slots_[slot].cols);
    }

private:
    std::size_t add(std::string name, std::size_t rows, std::size_t cols, bool is_vector = false);

    io::ModelShape shape_;
    std::vector<ParameterSlot> slots_;
    std::vector<Block> blocks_;
    std::size_t norm_ = 0;
    std::size_t head_ = 0;
    std::size_t size_ = 0;
};

/// Normal numbers of deviation 1/sqrt(cols) for matrices, divided by sqrt(2 layers) for o and down, which add
/// to the residual stream; 0.05 for the embedding; gains are 1.
///
/// `gain_spread` s: the gains ahead of q, k, v and of gate, up are exp(s z), z normal, over their root mean
/// square, and the columns behind them are divided by their gain, which leaves the function as it was. An
/// optimizer whose steps are as large for every weight (Adam) then learns mostly through the channels with
/// large gains and small weights. In large models some channels matter far more than others, too; with equal
/// gains a tiny one spreads everything over all of them, and survives any rounding.
FEWBIT_API void initialize(const ParameterTable& table, std::uint64_t seed, std::span<float> values,
                           double gain_spread = 0);

/// The parameters of a float model, in the order of the table. Errors: a matrix or vector that is missing or
/// has another shape, one that is not float or carries a transform, float columns or a bias.
[[nodiscard]] FEWBIT_API Result<void> read_parameters(const io::ModelFile& file, const ParameterTable& table,
                                                      std::span<float> values);
/// A model file of these parameters: matrices of a float type, gains in f32. The file keeps copies.
[[nodiscard]] FEWBIT_API Result<io::ModelFile> to_model_file(const ParameterTable& table,
                                                             std::span<const float> values, Scalar type);

}  // namespace fewbit::inline v0::model
