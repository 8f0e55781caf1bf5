// 8-bit weights times 8-bit activations on a grid that was fixed beforehand: calibrate one layer's range, run
// it, and see what the two roundings cost.
#include <cmath>
#include <cstdio>

#include "fewbit/calibrate/observers.hpp"
#include "fewbit/fewbit.hpp"
#include "fewbit/matmul/linear.hpp"
#include "fewbit/quantize/rtn.hpp"

int main() {
    fewbit::Matrix w(256, 512), x(16, 512), exact(16, 256), y(16, 256);
    for (std::size_t i = 0; i < w.values().size(); ++i)
        w.values()[i] = std::sin(0.37f * static_cast<float>(i * i % 9973));
    const auto batch = [](fewbit::Matrix& into, float seed) {  // inputs that are mostly positive
        for (std::size_t i = 0; i < into.values().size(); ++i)
            into.values()[i] = 0.8f + std::cos(seed * static_cast<float>(i * i % 7919));
    };

    fewbit::HistogramObserver observer("inputs");  // calibration: batches of the same kind
    for (const float seed : {0.13f, 0.17f, 0.19f}) {
        batch(x, seed);
        if (auto seen = observer.observe(x); !seen)
            return std::printf("%s\n", seen.error().message.c_str()), 1;
    }
    const fewbit::Range found = observer.mse(8, false);
    const fewbit::StaticRange range{found.min, found.max};

    const auto weights = fewbit::quantize_rtn(w, *fewbit::parse_format("int8-channel"));
    if (!weights) return std::printf("%s\n", weights.error().message.c_str()), 1;
    const auto layer = fewbit::PackedLinear::create(
        weights->linear, *fewbit::parse_activation_format("int8-tensor-asym-static"), fewbit::Fallback::allow,
        {}, range);
    fewbit::Linear floats;
    floats.weights = *fewbit::float_matrix(w);
    const auto original =
        fewbit::PackedLinear::create(floats, fewbit::exact_activations(), fewbit::Fallback::allow);
    if (!layer || !original) return std::printf("a layer was refused\n"), 1;

    batch(x, 0.11f);  // new inputs, old range
    const auto ran = layer->apply(x, y);
    if (!ran || !original->apply(x, exact)) return std::printf("a product failed\n"), 1;
    double error = 0, energy = 0;
    for (std::size_t i = 0; i < y.values().size(); ++i) {
        error += std::pow(static_cast<double>(y.values()[i]) - static_cast<double>(exact.values()[i]), 2);
        energy += std::pow(static_cast<double>(exact.values()[i]), 2);
    }
    std::printf("%s, range [%.3f, %.3f]: relative output error %.4f\n", std::string(ran->kernel).c_str(),
                static_cast<double>(range.min), static_cast<double>(range.max), std::sqrt(error / energy));
    return error < 1e-3 * energy ? 0 : 1;
}
