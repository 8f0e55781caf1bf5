// Definitions of fingerprint.hpp.
#include "src/pipeline/fingerprint.hpp"

#include <bit>
#include <cstring>
#include <type_traits>
#include <variant>

#include "fewbit/core/text.hpp"
#include "fewbit/matmul/float_product.hpp"

namespace fewbit::inline v0::pipeline {
namespace {

// Each binding names every member: an option that is added to a method does not compile here until it counts,
// too. (Names of tensors are for messages; importance is empty wherever calibration chooses codes.)

void add(Fingerprint& print, const RtnOptions& options) {
    const auto& [tensor, importance] = options;
    static_cast<void>(tensor);
    print.add(std::as_bytes(importance));
}

void add(Fingerprint& print, const MseOptions& options) {
    const auto& [tensor, steps, max_shrink, exponent, importance] = options;
    static_cast<void>(tensor);
    print.add(steps), print.add(max_shrink), print.add(exponent), print.add(std::as_bytes(importance));
}

void add(Fingerprint& print, const GptqOptions& options) {
    const auto& [tensor, order, static_groups, damping, grid, asymmetry] = options;
    static_cast<void>(tensor);
    print.add(static_cast<int>(order)), print.add(static_groups), print.add(damping);
    add(print, grid);
    print.add(asymmetry);
}

void add(Fingerprint& print, const AwqOptions& options) {
    const auto& [tensor, steps, rows, grid] = options;
    static_cast<void>(tensor);
    print.add(steps), print.add(rows);
    add(print, grid);
}

void add(Fingerprint& print, const HqqOptions& options) {
    const auto& [tensor, exponent, beta, kappa, steps] = options;
    static_cast<void>(tensor);
    print.add(exponent), print.add(beta), print.add(kappa), print.add(steps);
}

void add(Fingerprint& print, const OwqOptions& options) {
    const auto& [tensor, extra_bits, gptq] = options;
    static_cast<void>(tensor);
    print.add(extra_bits);
    add(print, gptq);
}

void add(Fingerprint& print, const LlmInt8Options& options) {
    const auto& [tensor, threshold] = options;
    static_cast<void>(tensor);
    print.add(threshold);
}

void add(Fingerprint& print, const io::ModelShape& shape) {
    const auto& [dim, hidden, layers, heads, kv_heads, head_dim, vocabulary, context, base, epsilon, tied] =
        shape;
    for (const std::size_t size : {dim, hidden, layers, heads, kv_heads, head_dim, vocabulary, context})
        print.add(size);
    print.add(base), print.add(epsilon), print.add(tied);
}

}  // namespace

void Fingerprint::mix(std::uint64_t word) noexcept {
    state_ = (state_ ^ word) * 0x9E3779B97F4A7C15u;
    state_ = std::rotl(state_, 29) + 0x632BE59BD9B4E019u;
}

void Fingerprint::add(std::span<const std::byte> bytes) noexcept {
    mix(bytes.size());
    while (!bytes.empty()) {
        std::uint64_t word = 0;
        const std::size_t some = bytes.size() < sizeof word ? bytes.size() : sizeof word;
        std::memcpy(&word, bytes.data(), some);
        mix(word);
        bytes = bytes.subspan(some);
    }
}

void Fingerprint::add(const Linear& linear) {
    const auto& [weights, transform, columns, bias] = linear;
    for (const QuantizedMatrix* matrix : {&weights, &columns.values}) {
        add(name(matrix->format())), add(matrix->n()), add(matrix->k());
        for (const Tensor* part : {&matrix->codes.bytes(), &matrix->scales, &matrix->zeros.bytes(),
                                   &matrix->offsets, &matrix->row_scales, &matrix->blocks})
            add(part->bytes());
    }
    const auto& [hadamard, scales, permutation] = transform;
    add(hadamard);
    add(std::as_bytes(std::span(scales)));
    add(std::as_bytes(std::span(permutation)));
    add(std::as_bytes(std::span(columns.channels)));
    add(std::as_bytes(std::span(bias)));
}

std::string Fingerprint::text() const {
    std::uint64_t x = state_;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;  // the finish of splitmix64
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    x ^= x >> 31;
    std::string digits;
    for (int shift = 60; shift >= 0; shift -= 4) digits += "0123456789abcdef"[x >> shift & 15];
    return digits;
}

std::string fingerprint(const std::map<std::string, Linear>& layers,
                        const std::map<std::string, std::vector<float>>& vectors) {
    Fingerprint print;
    for (const auto& [name, linear] : layers) print.add(name), print.add(linear);
    for (const auto& [name, values] : vectors) print.add(name), print.add(std::as_bytes(std::span(values)));
    return print.text();
}

Result<std::string> fingerprint(const Statistics& statistics) {
    auto tensors = to_tensors(statistics);
    if (!tensors) return Unexpected{std::move(tensors).error()};
    Fingerprint print;
    for (const auto& [name, tensor] : *tensors) print.add(name), print.add(tensor.bytes());
    return print.text();
}

Result<RunFingerprints> fingerprints_of(const io::ModelFile& file,
                                        const std::map<std::string, LayerChoice>& plan,
                                        std::span<const std::vector<int>> windows,
                                        const CalibratedOptions& options) {
    const auto product = FloatProduct::create(Fallback::allow);
    if (!product) return Unexpected{product.error()};
    Fingerprint model, choices, scales, calibration;
    add(model, file.shape);
    model.add(fingerprint(file.linears, file.vectors));
    for (const auto& [layer, choice] : plan) {
        choices.add(layer), choices.add(name(choice.format)), choices.add(choice.method.index());
        std::visit([&](const auto& method) { add(choices, method); }, choice.method);
    }
    scales.add(options.smoothquant.has_value());
    if (options.smoothquant) scales.add(options.smoothquant->alpha);
    calibration.add(options.statistics != nullptr);
    for (const auto& window : windows) calibration.add(std::as_bytes(std::span(window)));
    if (options.statistics != nullptr) {
        auto saved = fingerprint(*options.statistics);
        if (!saved) return Unexpected{std::move(saved).error()};
        calibration.add(*saved);
    }
    return RunFingerprints{{fewbit::text(FEWBIT_VERSION_STRING, " ", product->kernel().name()), model.text(),
                            choices.text(), scales.text(), calibration.text()}};
}

}  // namespace fewbit::inline v0::pipeline
