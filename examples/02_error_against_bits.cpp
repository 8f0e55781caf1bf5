// How much error does a bit less cost? A synthetic matrix, quantized in many ways: SQNR against the bits per
// weight that are really stored, beside what theory says is possible. `fewbit curves` draws the same for
// models.
#include <cmath>
#include <cstdio>

#include "fewbit/core/thread_pool.hpp"
#include "fewbit/evaluate/metrics.hpp"
#include "fewbit/evaluate/synthetic.hpp"
#include "fewbit/evaluate/theory.hpp"
#include "fewbit/fewbit.hpp"
#include "fewbit/quantize/mse.hpp"
#include "fewbit/quantize/rtn.hpp"

int main() {
    fewbit::ThreadPool pool;
    const fewbit::Matrix w = fewbit::evaluate::gaussian_matrix(128, 4096, 1, pool);

    std::printf("SQNR in dB (effective bits per weight) of a Gaussian %zu x %zu matrix\n\n", w.rows(),
                w.cols());
    std::printf("bits  channel       g128          g32           g32 clipped   Lloyd-Max  bound\n");
    for (int bits = 2; bits <= 8; ++bits) {
        std::printf("%4d", bits);
        for (const char* form : {"int%d-channel", "int%d-g128-asym", "int%d-g32-asym", "clip"}) {
            const bool clip = form[0] == 'c';
            char name[32];
            std::snprintf(name, sizeof name, clip ? "int%d-g32-asym" : form, bits);
            const auto format = fewbit::parse_format(name);
            if (!format) return std::printf("%s\n", format.error().message.c_str()), 1;

            const auto quantized = clip ? fewbit::quantize_mse(w, *format, {}, pool)   // tries smaller ranges
                                        : fewbit::quantize_rtn(w, *format, {}, pool);  // rounds to nearest
            if (!quantized) return std::printf("%s\n", quantized.error().message.c_str()), 1;

            const auto error = fewbit::evaluate::compare(w, quantized->linear.weights);
            if (!error) return std::printf("%s\n", error.error().message.c_str()), 1;
            std::printf("  %5.2f (%4.2f)", error->sqnr_db, quantized->linear.bits_per_weight());
        }
        // The best quantizer without groups, and what no quantizer of this many bits exceeds.
        std::printf("      %5.2f  %5.2f\n", fewbit::lloyd_max(bits).sqnr_db(),
                    -10 * std::log10(fewbit::rate_distortion_mse(bits)));
    }
    std::printf(
        "\nScales and zero points count: compare at equal bits in parentheses, not at equal bits of "
        "codes.\n");
    return 0;
}
