// What a model file will hold: tensors by name, whose bytes stay where they are until their turn comes.
#pragma once

#include <cstddef>
#include <map>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "fewbit/formats/quantized_matrix.hpp"
#include "fewbit/io/safetensors.hpp"
#include "src/io/file_text.hpp"
#include "src/io/model_parts.hpp"

namespace fewbit::inline v0::io::detail {

/// Collects what a model file will hold; the bytes stay where they are until their turn comes.
class TensorPlan {
public:
    std::map<std::string, SafetensorsSource> tensors;

    /// `data` is rows x anything; it must outlive the plan.
    Result<void> add(std::string name, SafetensorsType type, Tensor::Shape shape,
                     std::span<const std::byte> data, RowOrder order = {}) {
        const auto [place, fresh] = tensors.try_emplace(std::move(name));
        if (!fresh)
            return fail(ErrorKind::bad_input, "two layers would both store the tensor ",
                        in_quotes(place->first));
        place->second.type = type;
        place->second.shape = std::move(shape);
        place->second.produce = [data, order = std::move(order)](ByteSink sink) -> Result<void> {
            if (order.empty()) return sink(data);
            const std::size_t row_bytes = data.size() / order.size();
            for (const std::size_t row : order)
                if (auto done = sink(data.subspan(row * row_bytes, row_bytes)); !done) return done;
            return {};
        };
        return {};
    }
    Result<void> add(std::string name, const Tensor& tensor, RowOrder order) {
        return add(std::move(name), safetensors_type(tensor.type()), tensor.shape(), tensor.bytes(),
                   std::move(order));
    }
    /// The same for a tensor that nobody else keeps.
    Result<void> add_kept(std::string name, Tensor tensor) {
        kept_.push_back(std::move(tensor));
        return add(std::move(name), kept_.back(), {});
    }
    template <class T>
    Result<void> add(std::string name, SafetensorsType type, const std::vector<T>& values,
                     RowOrder order = {}) {
        return add(std::move(name), type, {values.size()}, std::as_bytes(std::span(values)),
                   std::move(order));
    }
    Result<void> add_float_matrix(std::string name, const QuantizedMatrix& matrix, RowOrder order) {
        return add(std::move(name), safetensors_type(element_scalar(matrix.format())),
                   {matrix.n(), matrix.k()}, matrix.codes.bytes().bytes(), std::move(order));
    }

private:
    std::vector<Tensor> kept_;
};

}  // namespace fewbit::inline v0::io::detail
