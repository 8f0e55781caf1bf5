// The calls of cuBLAS that fewbit::cuda makes, on the host, with sums in double precision. Only tests see this header.
#pragma once

#include <cstddef>

#include "cuda_runtime_api.h"
#include "fewbit/core/scalar.hpp"

enum cublasStatus_t { CUBLAS_STATUS_SUCCESS, CUBLAS_STATUS_ALLOC_FAILED, CUBLAS_STATUS_NOT_SUPPORTED };
enum cublasOperation_t { CUBLAS_OP_N, CUBLAS_OP_T };
enum cublasComputeType_t { CUBLAS_COMPUTE_32F };
enum cublasGemmAlgo_t { CUBLAS_GEMM_DEFAULT };
enum cudaDataType_t { CUDA_R_16F, CUDA_R_16BF, CUDA_R_32F };

struct EmulatedBlas {
    cudaStream_t stream = nullptr;
    void* memory = nullptr;
};
using cublasHandle_t = EmulatedBlas*;

inline const char* cublasGetStatusString(cublasStatus_t) { return "an error of the emulation"; }
inline cublasStatus_t cublasCreate(cublasHandle_t* out) {
    *out = new EmulatedBlas;
    return CUBLAS_STATUS_SUCCESS;
}
inline cublasStatus_t cublasDestroy(cublasHandle_t handle) {
    delete handle;
    return CUBLAS_STATUS_SUCCESS;
}
inline cublasStatus_t cublasSetStream(cublasHandle_t handle, cudaStream_t stream) {
    *handle = {stream, nullptr};
    return CUBLAS_STATUS_SUCCESS;
}
inline cublasStatus_t cublasSetWorkspace(cublasHandle_t handle, void* memory, std::size_t) {
    handle->memory = memory;
    return CUBLAS_STATUS_SUCCESS;
}

/// c (m, n) = a^T b + beta c, columns first: a (k, m), b (k, n).
inline cublasStatus_t cublasGemmEx(cublasHandle_t handle, cublasOperation_t op_a, cublasOperation_t op_b,
                                   int m, int n, int k, const float* alpha, const void* a,
                                   cudaDataType_t a_type, int lda, const void* b, cudaDataType_t b_type,
                                   int ldb, const float* beta, void* c, cudaDataType_t c_type, int ldc,
                                   cublasComputeType_t, cublasGemmAlgo_t) {
    if (op_a != CUBLAS_OP_T || op_b != CUBLAS_OP_N || *alpha != 1 || a_type != b_type || lda < k || ldb < k ||
        ldc < m || handle->memory == nullptr)  // without memory of its own cuBLAS would allocate
        return CUBLAS_STATUS_NOT_SUPPORTED;
    const auto scalar = [](cudaDataType_t type) {
        return type == CUDA_R_16F    ? fewbit::Scalar::f16
               : type == CUDA_R_16BF ? fewbit::Scalar::bf16
                                     : fewbit::Scalar::f32;
    };
    const fewbit::Scalar type = scalar(a_type), to = scalar(c_type);
    const float keep = *beta;
    emulated_enqueue(handle->stream, [=] {
        const auto at = [](const void* base, fewbit::Scalar of, std::ptrdiff_t i) {
            return static_cast<const std::byte*>(base) + i * static_cast<std::ptrdiff_t>(size_bytes(of));
        };
        for (std::ptrdiff_t column = 0; column < n; ++column)
            for (std::ptrdiff_t row = 0; row < m; ++row) {
                auto* const out = const_cast<std::byte*>(at(c, to, column * ldc + row));
                double sum =
                    keep == 0 ? 0.0 : static_cast<double>(keep) * static_cast<double>(load_float(to, out));
                for (std::ptrdiff_t i = 0; i < k; ++i)
                    sum += static_cast<double>(load_float(type, at(a, type, row * lda + i))) *
                           static_cast<double>(load_float(type, at(b, type, column * ldb + i)));
                store_float(to, static_cast<float>(sum), out);
            }
    });
    return CUBLAS_STATUS_SUCCESS;
}
