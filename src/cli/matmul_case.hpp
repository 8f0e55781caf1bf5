// One weight matrix with all kernels that can multiply with it: packed as each wants it, in as many copies as
// the caches demand, with answers verified before anything is timed.
#pragma once

#include <map>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "fewbit/core/tensor.hpp"
#include "fewbit/formats/quantized_matrix.hpp"
#include "fewbit/matmul/kernel.hpp"
#include "fewbit/matmul/matmul.hpp"
#include "src/cli/measure.hpp"

namespace fewbit::cli {

/// Normally distributed numbers; the same for the same seed.
[[nodiscard]] Matrix random_matrix(std::size_t rows, std::size_t cols, std::uint32_t seed);

class MatmulCase {
public:
    /// Quantizes a random matrix (rtn). `rotated_bytes`: how much memory copies of the weights shall fill.
    MatmulCase(const Format& format, std::size_t n, std::size_t k, std::size_t rotated_bytes,
               ExecutionContext context);

    [[nodiscard]] const Format& format() const noexcept { return weights_.format(); }
    [[nodiscard]] std::size_t n() const noexcept { return weights_.n(); }
    [[nodiscard]] std::size_t k() const noexcept { return weights_.k(); }
    [[nodiscard]] const QuantizedMatrix& weights() const noexcept { return weights_; }
    [[nodiscard]] std::size_t copies() const noexcept { return copies_; }

    /// The kernels of the catalogue that fit, weakest first.
    [[nodiscard]] std::vector<Kernel> kernels(const ActivationFormat& activations, std::size_t m) const;

    /// Copy `index` (modulo the number of copies) in the layout of a kernel, made when first asked for.
    [[nodiscard]] const PackedMatrix& packed(Layout layout, std::size_t index, ExecutionContext context);

private:
    QuantizedMatrix weights_;
    std::size_t copies_ = 1;
    std::map<Layout, std::vector<PackedMatrix>> packed_;
};

/// Checks kernels against the double reference and, for the rows that would take too long, against each
/// other.
class Verifier {
public:
    Verifier(const MatmulCase& matmul, MatrixView<const float> x, const ActivationFormat& activations);

    /// Compares y, the answer of `kernel` for the first y.rows rows of x. Returns what it was compared with,
    /// or nothing when the answer is wrong; then `complaint` says where. The first answer that is right
    /// serves later ones.
    [[nodiscard]] std::optional<std::string> verify(const Kernel& kernel, const Matrix& y,
                                                    std::string& complaint);

private:
    std::vector<std::size_t> rows_;  // of x that the reference computed
    std::size_t n_ = 0;
    Format format_;
    double epsilon_ = 0;            // times the sum of magnitudes: what rounding of sums may cost
    double rounded_share_ = 0;      // of what rounding every weight the same way would cost
    std::vector<double> expected_;  // (rows_, n)
    std::vector<double> magnitudes_;
    std::vector<float> trusted_;  // the answer of a verified kernel
    std::string trusted_kernel_;
};

}  // namespace fewbit::cli
