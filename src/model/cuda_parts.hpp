// What a CudaTransformer has on the device.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <vector>

#include "fewbit/cuda/float_product.hpp"
#include "fewbit/cuda/matmul.hpp"
#include "fewbit/cuda/operators.hpp"
#include "fewbit/model/cuda_transformer.hpp"

namespace fewbit::inline v0::model {

/// A matrix with its kernel: packed codes, or floats.
struct CudaLayer {
    std::string name;
    Format weights;
    std::string note, fallback_reason;
    std::optional<cuda::Product> product;
    Tensor floats;  ///< (N, K) of f16 or bf16 where there is no product
    Tensor bias;    ///< f32 (1, N); or without elements

    [[nodiscard]] std::size_t size_bytes() const noexcept {
        return (product ? product->weights().size_bytes() : floats.size_bytes()) + bias.size_bytes();
    }
};

struct CudaBlock {
    Tensor attention_norm, mlp_norm;  ///< f32 (dim)
    CudaLayer q, k, v, o, gate, up, down;

    [[nodiscard]] std::array<const CudaLayer*, 7> layers() const noexcept {
        return {&q, &k, &v, &o, &gate, &up, &down};
    }
};

struct CudaTransformer::Parts {
    io::ModelShape shape;
    CudaModelOptions options;
    CudaLayer embedding;  ///< its kernel runs only where it is the head, too
    std::vector<CudaBlock> blocks;
    Tensor norm;
    CudaLayer head;

    template <class Visit>
    void for_each_layer(Visit&& visit) const {
        for (const CudaBlock& block : blocks)
            for (const CudaLayer* layer : block.layers()) visit(*layer);
        visit(head);
    }
};

}  // namespace fewbit::inline v0::model
