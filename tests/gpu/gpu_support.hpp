// What the files of fewbit_gpu_test share: counting checks, numbers to and from tensors.
#pragma once

#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

#include "fewbit/core/result.hpp"
#include "fewbit/core/scalar.hpp"
#include "fewbit/core/tensor.hpp"

namespace fewbit::testing {

inline int checks = 0, failures = 0;

inline void expect(bool fine, const std::string& what) {
    ++checks;
    if (fine) return;
    ++failures;
    if (failures <= 30) std::printf("FAILED: %s\n", what.c_str());
}

template <class T>
T must(Result<T> result, const std::string& what) {
    if (!result) {
        std::printf("FAILED: %s: %s\n", what.c_str(), result.error().message.c_str());
        std::exit(1);
    }
    return *std::move(result);
}

inline std::vector<float> floats_of(const Tensor& tensor) {
    std::vector<float> out(tensor.elements());
    const std::size_t element = size_bytes(tensor.type());
    for (std::size_t i = 0; i < out.size(); ++i)
        out[i] = load_float(tensor.type(), tensor.bytes().data() + i * element);
    return out;
}

inline Tensor tensor_of(const std::vector<float>& values, Scalar type, Tensor::Shape shape) {
    Tensor out = must(Tensor::allocate(type, std::move(shape)), "memory");
    const std::size_t element = size_bytes(type);
    for (std::size_t i = 0; i < values.size(); ++i)
        store_float(type, values[i], out.mutable_bytes().data() + i * element);
    return out;
}

/// Weights that become codes (gpu_quantize.cpp).
void check_quantize(bool small);
/// Everything between products (gpu_operators.cpp). `small`: shapes for compute-sanitizer.
void check_operators(bool small);
/// Whole models (gpu_transformer.cpp).
void check_transformer(bool small);

}  // namespace fewbit::testing
