// The tensors of a model file, taken out one by one and turned into parts of layers; what nobody has taken in
// the end does not belong there.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <set>
#include <string>
#include <vector>

#include "fewbit/core/result.hpp"
#include "fewbit/formats/quantized_matrix.hpp"
#include "fewbit/io/safetensors.hpp"

namespace fewbit::inline v0::io::detail {

using RowOrder = std::vector<std::size_t>;  ///< row r of the file becomes row order[r]; empty: the same

class Parts {
public:
    explicit Parts(const SafetensorsFile& file) : file_(file) {}

    [[nodiscard]] bool has(const std::string& name) const { return file_.find(name) != nullptr; }
    [[nodiscard]] bool taken(const std::string& name) const { return taken_.contains(name); }
    void ignore(const std::string& name) { taken_.insert(name); }
    /// Null when all have been taken.
    [[nodiscard]] const std::string* first_left() const;

    /// Error: there is no such tensor.
    [[nodiscard]] Result<const SafetensorsEntry*> take(const std::string& name);
    /// A tensor as it is, aligned for its type.
    [[nodiscard]] Result<Tensor> tensor(const std::string& name);
    /// Scales and offsets: a tensor that must have this type and shape.
    [[nodiscard]] Result<Tensor> parameters(const std::string& name, Scalar type, const Tensor::Shape& shape,
                                            const RowOrder& order);
    /// Packed codes, U8 (rows, row bytes).
    [[nodiscard]] Result<BitMatrix> codes(const std::string& name, std::size_t rows, std::size_t cols,
                                          int bits, const RowOrder& order);
    /// A matrix of F32, F16 or BF16 in its own shape.
    [[nodiscard]] Result<QuantizedMatrix> float_matrix(const std::string& name, const RowOrder& order);
    /// A vector of F32, F16 or BF16, widened.
    [[nodiscard]] Result<std::vector<float>> floats(const std::string& name, std::size_t count,
                                                    const RowOrder& order);
    /// A vector of U32.
    [[nodiscard]] Result<std::vector<std::uint32_t>> indices(const std::string& name, std::size_t count);

private:
    Result<const SafetensorsEntry*> take(const std::string& name, SafetensorsType type,
                                         const Tensor::Shape& shape);
    /// The bytes of an entry under another type and shape; borrowed where order and alignment allow.
    Result<Tensor> bytes_as(const SafetensorsEntry& entry, Scalar type, Tensor::Shape shape,
                            std::size_t alignment, const RowOrder& order) const;

    const SafetensorsFile& file_;
    std::set<std::string, std::less<>> taken_;
};

}  // namespace fewbit::inline v0::io::detail
