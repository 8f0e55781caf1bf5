// fewbit::cuda in builds without CUDA: every function says so.
#if !defined(FEWBIT_BUILT_CUDA)

#include "fewbit/cuda/float_product.hpp"
#include "fewbit/cuda/matmul.hpp"
#include "fewbit/cuda/operators.hpp"
#include "fewbit/cuda/quantize.hpp"
#include "fewbit/cuda/stream.hpp"
#include "fewbit/cuda/w8a8.hpp"

namespace fewbit::inline v0::cuda {
namespace {

Unexpected<Error> absent() {
    return unexpected(
        ErrorKind::no_kernel,
        "this build of fewbit has no CUDA kernels; configure it with -DFEWBIT_CUDA=ON, which needs nvcc");
}

}  // namespace

bool is_built() noexcept { return false; }
Result<Device> current_device() { return absent(); }
Result<Tensor> allocate(Scalar, Tensor::Shape) { return absent(); }
Result<Tensor> to_device(const Tensor&) { return absent(); }
Result<Tensor> to_host(const Tensor&) { return absent(); }
Result<OwnStream> OwnStream::create() { return absent(); }
Result<void> synchronize(ExecutionContext) { return absent(); }
Result<void> copy_to_device(std::span<const std::byte>, Tensor&, std::size_t, ExecutionContext) {
    return absent();
}
Result<void> copy_to_host(const Tensor&, std::size_t, std::span<std::byte>, ExecutionContext) {
    return absent();
}
Result<Graph> Graph::capture(ExecutionContext, const std::function<Result<void>()>&) { return absent(); }
Result<void> Graph::launch(ExecutionContext) const { return absent(); }
Result<FloatProducts> FloatProducts::create(ExecutionContext) { return absent(); }
Result<RunReport> FloatProducts::run(const Tensor&, const View&, const View&, bool) const { return absent(); }
Result<Mma16Matrix> to_device(const Mma16Matrix&) { return absent(); }
Result<Product> Product::create(const Mma16Matrix&, Scalar, std::size_t) { return absent(); }
std::string_view Product::kernel(std::size_t) const noexcept { return {}; }
WorkspaceSize Product::workspace_size() const noexcept { return {}; }
Result<RunReport> Product::run(const View&, const View&, const float*, Workspace&, ExecutionContext) const {
    return absent();
}
Result<Workspace> Workspace::create(const WorkspaceSize&) { return absent(); }
Result<RoundedRows> RoundedRows::create(std::size_t, std::size_t, Scalar) { return absent(); }
Result<void> RoundedRows::quantize(const View&, ExecutionContext) { return absent(); }
Result<W8A8Product> W8A8Product::create(const Mma16Matrix&, std::size_t) { return absent(); }
std::string_view W8A8Product::kernel() const noexcept { return {}; }
Result<RunReport> W8A8Product::run(const RoundedRows&, const View&, const float*, Workspace&,
                                   ExecutionContext) const {
    return absent();
}
Result<Mma16Matrix> quantize(const View&, const Format&, ExecutionContext) { return absent(); }
Result<Mma16Matrix> pack(const QuantizedMatrix&, ExecutionContext) { return absent(); }
Result<void> embed(const Mma16Matrix&, const std::int32_t*, const View&, ExecutionContext) {
    return absent();
}
Result<void> embed(const Tensor&, const std::int32_t*, const View&, ExecutionContext) { return absent(); }
Result<void> rms_norm(const View&, const View*, const float*, float, const View&, ExecutionContext) {
    return absent();
}
Result<void> silu_multiply(const View&, const View&, const View&, ExecutionContext) { return absent(); }
Result<Tensor> rope_turns(std::size_t, std::size_t, float) { return absent(); }
Result<KvCache> KvCache::create(const CacheShape&, Scalar) { return absent(); }
Result<void> KvCache::advance(std::size_t, ExecutionContext) { return absent(); }
Result<void> KvCache::rewind(std::size_t, ExecutionContext) { return absent(); }
Result<void> rotate_and_store(const View&, const View&, const View&, const Tensor&, const View&, KvCache&,
                              std::size_t, ExecutionContext) {
    return absent();
}
Result<Attention> Attention::create(const KvCache&, std::size_t, std::size_t) { return absent(); }
Result<void> Attention::run(const View&, const KvCache&, std::size_t, std::size_t, const View&,
                            ExecutionContext) {
    return absent();
}

}  // namespace fewbit::inline v0::cuda

#endif
