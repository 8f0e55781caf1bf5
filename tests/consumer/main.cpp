// What a project that uses fewbit does: quantize, choose a kernel, multiply, check. Built against
// fewbit::fewbit and against fewbit::headers, which has only generic kernels and must be asked for them.
#include <cmath>
#include <cstdio>
#include <string>

#include <fewbit/fewbit.hpp>
#include <fewbit/quantize/rtn.hpp>

int main() {
    std::printf("fewbit %s (%d)\n", FEWBIT_VERSION_STRING, FEWBIT_VERSION);

    fewbit::Matrix w(20, 96), x(3, 96), y(3, 20);
    for (std::size_t i = 0; i < w.values().size(); ++i) w.values()[i] = static_cast<float>(i % 13) - 6.0f;
    for (std::size_t i = 0; i < x.values().size(); ++i) x.values()[i] = static_cast<float>(i % 7) - 3.0f;

    const auto format = fewbit::parse_format("int8-channel");
    const auto quantized = fewbit::quantize_rtn(w, *format);
    if (!quantized) return std::printf("%s\n", quantized.error().message.c_str()), 1;
    fewbit::MatmulQuery query{*format, fewbit::exact_activations(), x.rows(), w.rows(), w.cols()};
#if defined(FEWBIT_HEADER_ONLY)
    if (fewbit::select_kernel(query)) return std::printf("headers alone must refuse a fallback\n"), 1;
#endif
    query.fallback = fewbit::Fallback::allow;
    const auto kernel = fewbit::select_kernel(query);
    if (!kernel) return std::printf("%s\n", kernel.error().message.c_str()), 1;
    const auto packed = fewbit::pack(quantized->linear.weights, kernel->layout());
    if (!packed) return std::printf("%s\n", packed.error().message.c_str()), 1;
    fewbit::ThreadPool pool(2);
    const auto report = fewbit::matmul(*kernel, x, *packed, y, {}, pool);
    if (!report) return std::printf("%s\n", report.error().message.c_str()), 1;

    double worst = 0;
    for (std::size_t m = 0; m < 3; ++m)
        for (std::size_t n = 0; n < 20; ++n) {
            double exact = 0;
            for (std::size_t k = 0; k < 96; ++k)
                exact += static_cast<double>(x(m, k)) * static_cast<double>(w(n, k));
            worst = std::fmax(worst, std::fabs(exact - static_cast<double>(y(m, n))));
        }
    // Each weight is off by at most half a step of 6 / 127.5, each |x| is at most 3.
    const double allowed = 96 * 3 * 0.5 * (6 / 127.5) * 1.001;
    std::printf("%s: worst error %g of %g allowed\n", std::string(report->kernel).c_str(), worst, allowed);
    return worst <= allowed ? 0 : 1;
}
