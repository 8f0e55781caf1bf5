// Training through a 2-bit grid: one linear layer y = x W^T learns to do what a float layer does, with
// weights that never leave the stored grid. Rounding to nearest first, then LSQ: the weights and their scales
// are trained.
#include <cmath>
#include <cstdio>
#include <vector>

#include "fewbit/fewbit.hpp"
#include "fewbit/qat/learned_grids.hpp"
#include "fewbit/quantize/rtn.hpp"

namespace {

constexpr std::size_t rows = 512, inputs = 64, outputs = 32;

/// Mean over the batch of |x (v - teacher)^T|^2 / |x teacher^T|^2; d_v becomes half the gradient of the
/// numerator.
double loss(const fewbit::Matrix& x, const fewbit::Matrix& v, const fewbit::Matrix& teacher,
            fewbit::Matrix& d_v) {
    double error = 0, energy = 0;
    for (float& d : d_v.values()) d = 0;
    for (std::size_t m = 0; m < x.rows(); ++m)
        for (std::size_t n = 0; n < v.rows(); ++n) {
            float wrong = 0, right = 0;
            for (std::size_t k = 0; k < v.cols(); ++k) {
                wrong += x(m, k) * (v(n, k) - teacher(n, k));
                right += x(m, k) * teacher(n, k);
            }
            error += static_cast<double>(wrong * wrong);
            energy += static_cast<double>(right * right);
            for (std::size_t k = 0; k < v.cols(); ++k) d_v(n, k) += wrong * x(m, k) / rows;
        }
    return error / energy;
}

}  // namespace

int main() {
    fewbit::Matrix teacher(outputs, inputs), x(rows, inputs), v(outputs, inputs), d_v(outputs, inputs);
    for (std::size_t i = 0; i < teacher.values().size(); ++i)
        teacher.values()[i] = std::sin(0.37f * static_cast<float>(i * i % 9973));
    for (std::size_t m = 0; m < rows;
         ++m)  // neighbouring inputs resemble each other, which rounding cannot know
        for (std::size_t k = 0; k < inputs; ++k)
            x(m, k) = (k == 0 ? 0.0f : 0.8f * x(m, k - 1)) +
                      std::cos(0.11f * static_cast<float>((m * inputs + k) * (m + 7 * k) % 7919));

    const auto format = *fewbit::parse_format("int2-g32");
    const auto rtn = fewbit::quantize_rtn(teacher, format);
    if (!rtn) return std::printf("%s\n", rtn.error().message.c_str()), 1;
    for (std::size_t n = 0; n < outputs; ++n) rtn->linear.weights.dequantize(n, 0, v.row(n));
    std::printf("rounding to nearest: relative error %.4f\n", std::sqrt(loss(x, v, teacher, d_v)));

    fewbit::Matrix w = teacher;  // trained from here
    auto grids = fewbit::qat::LearnedGrids::make(w, format);
    if (!grids) return std::printf("%s\n", grids.error().message.c_str()), 1;
    std::vector<fewbit::qat::Place> mask(outputs * inputs);
    const fewbit::MatrixView<fewbit::qat::Place> places(mask.data(), outputs, inputs);
    std::vector<float> d_scales(grids->scales().size());
    for (int step = 0; step <= 300; ++step) {
        const float rate = 0.02f * static_cast<float>(300 - step) / 300.0f;
        const auto forward = grids->forward(w, v, places);
        const double error = loss(x, v, teacher, d_v);
        const auto backward = grids->backward(d_v, w, places, d_v, d_scales, {});
        if (!forward || !backward) return std::printf("a step of training failed\n"), 1;
        if (step % 100 == 0) std::printf("step %3d: relative error %.4f\n", step, std::sqrt(error));
        if (step == 300) break;
        for (std::size_t i = 0; i < w.values().size(); ++i) w.values()[i] -= rate * d_v.values()[i];
        for (std::size_t i = 0; i < d_scales.size(); ++i) grids->scales()[i] -= rate * d_scales[i];
        grids->project();
    }

    const auto stored = grids->to_quantized(w);
    if (!stored) return std::printf("%s\n", stored.error().message.c_str()), 1;
    std::size_t different = 0;
    std::vector<float> row(inputs);
    for (std::size_t n = 0; n < outputs; ++n) {
        stored->dequantize(n, 0, row);
        for (std::size_t k = 0; k < inputs; ++k) different += row[k] != v(n, k);
    }
    std::printf("stored: %.2f bits per weight, %zu of %zu values differ from what training saw\n",
                fewbit::bits_per_weight(format, outputs, inputs), different, outputs * inputs);
    return different == 0 ? 0 : 1;
}
