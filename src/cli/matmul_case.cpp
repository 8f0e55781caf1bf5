// Weights, kernels and verified answers for `fewbit bench matmul`.
#include "src/cli/matmul_case.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "fewbit/matmul/reference.hpp"
#include "fewbit/quantize/rtn.hpp"
#include "src/cli/command.hpp"

namespace fewbit::cli {
namespace {

BitMatrix copy_of(const BitMatrix& source) {
    auto copy = expect(BitMatrix::allocate(source.rows(), source.cols(), source.bits()));
    if (source.bytes().size_bytes() != 0)
        std::memcpy(copy.mutable_row(0), source.row(0), source.bytes().size_bytes());
    return copy;
}

/// The same matrix at another place in memory.
QuantizedMatrix copy_of(const QuantizedMatrix& source) {
    auto copy = expect(QuantizedMatrix::allocate(source.format(), source.n(), source.k()));
    copy.codes = copy_of(source.codes);
    for (auto [from, to] :
         {std::pair{&source.scales, &copy.scales}, std::pair{&source.offsets, &copy.offsets}})
        if (from->size_bytes() != 0)
            std::memcpy(to->mutable_bytes().data(), from->bytes().data(), from->size_bytes());
    if (source.zeros.rows() != 0) copy.zeros = copy_of(source.zeros);
    return copy;
}

}  // namespace

Matrix random_matrix(std::size_t rows, std::size_t cols, std::uint32_t seed) {
    Matrix matrix(rows, cols);
    std::mt19937 generator(seed);
    std::normal_distribution<float> normal;
    // A million numbers, repeated with a shift per row: as good for time and error, and there at once.
    std::vector<float> pool(std::min<std::size_t>(rows * cols, 1 << 20));
    for (float& value : pool) value = normal(generator);
    std::size_t at = 0;
    for (std::size_t r = 0; r < rows; ++r) {
        for (float& value : matrix.row(r)) {
            value = pool[at];
            if (++at == pool.size()) at = 0;
        }
        at = (at + 7919) % pool.size();
    }
    return matrix;
}

MatmulCase::MatmulCase(const Format& format, std::size_t n, std::size_t k, std::size_t rotated_bytes,
                       ExecutionContext context) {
    const Matrix w = random_matrix(n, k, 1);
    weights_ = format.is_float() ? expect(float_matrix(w, element_scalar(format)))
                                 : expect(quantize_rtn(w, format, {}, context)).linear.weights;
    // Thousands of tiny matrices would measure the allocator.
    copies_ = std::clamp<std::size_t>(
        ceil_div(rotated_bytes, std::max<std::size_t>(weights_.size_bytes(), 1)), 1, 4096);
}

std::vector<Kernel> MatmulCase::kernels(const ActivationFormat& activations, std::size_t m) const {
    std::vector<Kernel> fitting;
    for (const KernelInfo& info : kernel_catalog())
        if (refusal(info, {format(), activations, m, n(), k(), Fallback::allow}).empty())
            fitting.emplace_back(info, activations, "");
    std::stable_sort(fitting.begin(), fitting.end(),
                     [](const Kernel& a, const Kernel& b) { return a.isa() < b.isa(); });
    return fitting;
}

const PackedMatrix& MatmulCase::packed(Layout layout, std::size_t index, ExecutionContext context) {
    std::vector<PackedMatrix>& copies = packed_[layout];
    index %= copies_;
    ActivationFormat any = int8_row_activations();  // one packing serves all activations, asymmetric ones too
    any.asymmetric = true;
    while (copies.size() <= index)
        // Layout::rows shares bytes with its source, so every copy but the first needs a source of its own.
        copies.push_back(expect(pack(layout == Layout::rows && !copies.empty() ? copy_of(weights_) : weights_,
                                     layout, context, any)));
    return copies[index];
}

Verifier::Verifier(const MatmulCase& matmul, MatrixView<const float> x, const ActivationFormat& activations)
    : n_(matmul.n()), format_(matmul.format()) {
    for (const std::size_t row : {std::size_t{0}, std::size_t{1}, x.rows / 2, x.rows - 1})
        if (row < x.rows && (rows_.empty() || row > rows_.back())) rows_.push_back(row);
    Matrix chosen(rows_.size(), x.cols);
    for (std::size_t i = 0; i < rows_.size(); ++i) std::ranges::copy(x.row(rows_[i]), chosen.row(i).begin());
    expected_ =
        reference::matmul(std::as_const(chosen).view(), matmul.weights(), activations, {}, &magnitudes_);
    // Rounding errors of K additions in float: K epsilon at worst, sqrt(K) epsilon for independent ones. Those of K
    // weights, if they are rounded: the largest of them, or as much less as sqrt(K) is less than K.
    const double root = std::sqrt(static_cast<double>(x.cols));
    epsilon_ = (8.0 + 4.0 * root) * 0x1p-24;
    rounded_share_ = std::min(1.0, 8.0 / root);
}

std::optional<std::string> Verifier::verify(const Kernel& kernel, const Matrix& y, std::string& complaint) {
    const auto check = [&](std::size_t m, std::size_t n, double expected, double allowed,
                           const std::string& whose) {
        const double got = static_cast<double>(y(m, n));
        if (std::fabs(got - expected) <= allowed) return true;  // false for NaN
        complaint = fmt::format("kernel {} says y[{}][{}] = {}, but {} says {} (allowed: +-{})",
                                kernel.name(), m, n, got, whose, expected, allowed);
        return false;
    };
    const double epsilon =
        epsilon_ + reference::weight_rounding(kernel.isa(), format_, kernel.activations()) * rounded_share_;
    bool all_rows = true;
    for (std::size_t m = 0; m < y.rows(); ++m) {
        const auto found = std::find(rows_.begin(), rows_.end(), m);
        if (found == rows_.end()) {
            all_rows = false;
            continue;
        }
        const std::size_t i = static_cast<std::size_t>(found - rows_.begin()) * n_;
        for (std::size_t n = 0; n < n_; ++n)
            if (!check(m, n, expected_[i + n], epsilon * magnitudes_[i + n], "the reference"))
                return std::nullopt;
    }
    if (all_rows) return "reference";
    std::vector<std::string> rows;
    for (const std::size_t row : rows_)
        if (row < y.rows()) rows.push_back(std::to_string(row));
    std::string verified = fmt::format("reference (rows {})", fmt::join(rows, ", "));
    if (trusted_.size() != y.values().size()) {
        trusted_.assign(y.values().begin(), y.values().end());
        trusted_kernel_ = kernel.name();
        return verified;
    }
    double largest = 0;
    for (const double magnitude : magnitudes_) largest = std::max(largest, magnitude);
    for (std::size_t m = 0; m < y.rows(); ++m)
        for (std::size_t n = 0; n < n_; ++n)
            if (!check(m, n, static_cast<double>(trusted_[m * n_ + n]), (epsilon_ + epsilon) * largest,
                       trusted_kernel_))
                return std::nullopt;
    return fmt::format("{}, {} (all rows)", verified, trusted_kernel_);
}

}  // namespace fewbit::cli
