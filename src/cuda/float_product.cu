// Definitions of cuda/float_product.hpp.
#include "fewbit/cuda/float_product.hpp"

#include <cublas_v2.h>

#include <algorithm>
#include <limits>
#include <utility>

#include "src/cuda/status.hpp"

namespace fewbit::inline v0::cuda {
namespace {

Result<void> checked(cublasStatus_t status, std::string_view doing) {
    if (status == CUBLAS_STATUS_SUCCESS) return {};
    return fail(status == CUBLAS_STATUS_ALLOC_FAILED ? ErrorKind::out_of_memory : ErrorKind::unsupported,
                doing, ": cuBLAS said ", cublasGetStatusString(status));
}

/// What NVIDIA recommends for Hopper; older devices need less.
constexpr std::size_t memory_bytes = std::size_t{32} << 20;

cudaDataType_t type_of(Scalar type) {
    return type == Scalar::f16 ? CUDA_R_16F : type == Scalar::bf16 ? CUDA_R_16BF : CUDA_R_32F;
}

}  // namespace

Result<FloatProducts> FloatProducts::create(ExecutionContext context) {
    auto memory = allocate(Scalar::u8, {memory_bytes});
    if (!memory) return Unexpected{std::move(memory).error()};
    cublasHandle_t handle = nullptr;
    if (auto done = checked(cublasCreate(&handle), "starting cuBLAS"); !done)
        return Unexpected{std::move(done).error()};
    FloatProducts out;
    out.handle_ = std::shared_ptr<void>(
        handle, [](void* h) { static_cast<void>(cublasDestroy(static_cast<cublasHandle_t>(h))); });
    out.memory_ = *std::move(memory);
    // In this order: a new stream takes the memory away again.
    if (auto done = checked(cublasSetStream(handle, stream_of(context)), "giving cuBLAS a stream"); !done)
        return Unexpected{std::move(done).error()};
    if (auto done = checked(cublasSetWorkspace(handle, out.memory_.mutable_bytes().data(), memory_bytes),
                            "giving cuBLAS memory");
        !done)
        return Unexpected{std::move(done).error()};
    return out;
}

Result<RunReport> FloatProducts::run(const Tensor& weights, const View& x, const View& y, bool onto) const {
    const Scalar type = weights.type();
    if (weights.space() != MemorySpace::cuda || weights.shape().size() != 2 ||
        (type != Scalar::f16 && type != Scalar::bf16))
        return fail(ErrorKind::bad_input, "float weights have to be a matrix of f16 or bf16 on the device");
    const std::size_t n = weights.shape()[0], k = weights.shape()[1];
    if (x.type != type || x.cols != k || x.stride < k)
        return fail(ErrorKind::bad_input, "x is (", x.rows, ", ", x.cols, ") of ", name(x.type),
                    " with a stride of ", x.stride, "; these weights take rows of ", k, " in ", name(type));
    if (y.rows != x.rows || y.cols != n || y.stride < n || (y.type != type && y.type != Scalar::f32))
        return fail(ErrorKind::bad_input, "y is (", y.rows, ", ", y.cols, ") of ", name(y.type),
                    " with a stride of ", y.stride, "; these weights give (", x.rows, ", ", n, ") in ",
                    name(type), " or f32");
    constexpr std::size_t most = std::numeric_limits<int>::max();
    if (n > most || k > most || x.rows > most || x.stride > most || y.stride > most)
        return fail(ErrorKind::unsupported, x.rows, " rows times a matrix of ", n, " x ", k,
                    " are too large for cuBLAS");
    RunReport report;
    report.kernel = kernel(type);
    report.weight_bytes = weights.size_bytes();
    if (x.rows == 0 || n == 0) return report;
    const float one = 1, beta = onto ? 1 : 0;
    // Columns first, as cuBLAS counts: y^T (N, M) = W x^T.
    const auto as_int = [](std::size_t value) { return static_cast<int>(value); };
    if (auto done =
            checked(cublasGemmEx(static_cast<cublasHandle_t>(handle_.get()), CUBLAS_OP_T, CUBLAS_OP_N,
                                 as_int(n), as_int(x.rows), as_int(k), &one, weights.bytes().data(),
                                 type_of(type), as_int(std::max<std::size_t>(k, 1)), x.data, type_of(type),
                                 as_int(std::max<std::size_t>(x.stride, 1)), &beta, y.data, type_of(y.type),
                                 as_int(y.stride), CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT),
                    "starting cuBLAS");
        !done)
        return Unexpected{std::move(done).error()};
    return report;
}

}  // namespace fewbit::inline v0::cuda
