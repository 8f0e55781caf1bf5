// One linear layer: float weights -> 4-bit codes -> packed for a kernel -> product, and what it cost in
// accuracy.
#include <cmath>
#include <cstdio>

#include "fewbit/fewbit.hpp"
#include "fewbit/quantize/mse.hpp"

int main() {
    // W is (N, K), N output and K input channels, row-major; x is (M, K).
    fewbit::Matrix w(256, 1024), x(8, 1024), y(8, 256);
    for (std::size_t i = 0; i < w.values().size(); ++i)
        w.values()[i] = std::sin(0.37f * static_cast<float>(i * i % 9973));
    for (std::size_t i = 0; i < x.values().size(); ++i)
        x.values()[i] = std::cos(0.11f * static_cast<float>(i * i % 7919));

    // The format says what the numbers mean; it names no machine.
    const auto format = fewbit::parse_format("int4-g128");
    const auto quantized = fewbit::quantize_mse(w, *format);
    if (!quantized) return std::printf("%s\n", quantized.error().message.c_str()), 1;

    // One visible decision. The default refuses slow fallbacks; here we would rather run than not.
    const auto kernel = fewbit::select_kernel({.weights = *format,
                                               .activations = fewbit::int8_group_activations(32),
                                               .m = x.rows(),
                                               .n = w.rows(),
                                               .k = w.cols(),
                                               .fallback = fewbit::Fallback::allow});
    if (!kernel)
        return std::printf("%s\n", kernel.error().message.c_str()), 1;  // every candidate, and why not

    const auto packed = fewbit::pack(quantized->linear.weights, kernel->layout());
    if (!packed) return std::printf("%s\n", packed.error().message.c_str()), 1;
    const auto ran = fewbit::matmul(*kernel, x, *packed, y);
    if (!ran) return std::printf("%s\n", ran.error().message.c_str()), 1;

    double error = 0, energy = 0;  // against the float product
    for (std::size_t m = 0; m < x.rows(); ++m)
        for (std::size_t n = 0; n < w.rows(); ++n) {
            double exact = 0;
            for (std::size_t k = 0; k < w.cols(); ++k)
                exact += static_cast<double>(x(m, k)) * static_cast<double>(w(n, k));
            error += (static_cast<double>(y(m, n)) - exact) * (static_cast<double>(y(m, n)) - exact);
            energy += exact * exact;
        }
    std::printf("%s: %.2f bits per weight, %zu weight bytes, relative output error %.4f\n",
                std::string(ran->kernel).c_str(), quantized->linear.bits_per_weight(), ran->weight_bytes,
                std::sqrt(error / energy));
    return 0;
}
