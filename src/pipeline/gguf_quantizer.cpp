// Quantizing into GGUF in pieces of rows.
#include "fewbit/pipeline/gguf_quantizer.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <utility>

#include "fewbit/core/scalar.hpp"
#include "fewbit/core/text.hpp"
#include "fewbit/formats/block_conversion.hpp"
#include "fewbit/io/model_gguf.hpp"

namespace fewbit::inline v0::pipeline {
namespace {

/// Of a piece as floats: 16 MiB, so that handing it to threads costs nothing.
constexpr std::size_t piece_elements = std::size_t{4} << 20;

/// Adds what was measured on `added` more weights to a report of `before` weights.
void merge(QuantizeReport& total, const QuantizeReport& part, double before, double added) {
    if (before == 0) {
        total = part;
        return;
    }
    const double all = before + added;
    const auto mean = [&](double a, double b) { return (a * before + b * added) / all; };
    total.mean_square_error = mean(total.mean_square_error, part.mean_square_error);
    total.mean_square = mean(total.mean_square, part.mean_square);
    total.relative_error =
        total.mean_square_error == 0 ? 0 : std::sqrt(total.mean_square_error / total.mean_square);
    total.sqnr_db = total.mean_square_error == 0
                        ? std::numeric_limits<double>::infinity()
                        : 10.0 * std::log10(total.mean_square / total.mean_square_error);
    total.max_abs_error = std::max(total.max_abs_error, part.max_abs_error);
    total.bits_per_weight = mean(total.bits_per_weight, part.bits_per_weight);
    total.groups += part.groups;
    total.zero_groups += part.zero_groups;
    total.constant_groups += part.constant_groups;
    total.subnormal_scales += part.subnormal_scales;
    total.flushed_groups += part.flushed_groups;
    // The notes of a piece count its groups; the counts above say the same for all.
    for (const std::string& note : part.notes)
        if (total.notes.empty()) total.notes.push_back(note);
}

[[nodiscard]] Method with_importance(Method method, std::span<const float> importance) {
    std::visit(
        [&](auto& options) {
            if constexpr (requires { options.importance = importance; }) options.importance = importance;
        },
        method);
    return method;
}

/// The weights of rows of a quantized matrix as the file holds them.
[[nodiscard]] Result<void> hand_over(const QuantizedMatrix& w,
                                     FunctionRef<Result<void>(std::span<const std::byte>)> sink) {
    if (w.format().is_float()) return sink(w.codes.bytes().bytes());
    auto blocks = to_blocks(w);
    if (!blocks) return Unexpected{std::move(blocks).error()};
    return sink(blocks->blocks.bytes());
}

struct Job {
    GgufInput input;
    Format format;
    Method method;
    std::span<const float> importance;
    ExecutionContext context;
    QuantizeReport* report;
    std::size_t experts;

    [[nodiscard]] Result<void> run(FunctionRef<Result<void>(std::span<const std::byte>)> sink) const {
        const std::size_t k = input.k(), rows = input.rows();
        if (k == 0 || rows == 0) return {};
        const std::size_t per_expert = rows / experts;
        const std::size_t most = std::max<std::size_t>(1, piece_elements / k);
        for (std::size_t first = 0; first < rows;) {
            const std::size_t expert = first / per_expert;
            const std::size_t last = std::min(first + most, (expert + 1) * per_expert);
            if (auto done = piece(first, last, expert, sink); !done) return done;
            if (input.done_with) input.done_with(first, last);
            first = last;
        }
        return {};
    }

private:
    [[nodiscard]] Result<void> piece(std::size_t first, std::size_t last, std::size_t expert,
                                     FunctionRef<Result<void>(std::span<const std::byte>)> sink) const {
        const std::size_t k = input.k();
        auto floats = Tensor::allocate(Scalar::f32, {last - first, k});
        if (!floats) return Unexpected{std::move(floats).error()};
        float* const values = floats->as_mutable<float>().data();
        std::vector<std::size_t> bad(last - first, k);  // columns; every row writes its own
        context.parallel_for(last - first, [&](std::size_t i, std::size_t) {
            const std::span<float> row(values + i * k, k);
            input.decode(first + i, row);
            for (std::size_t c = k; c-- > 0;)
                if (!std::isfinite(row[c])) bad[i] = c;
        });
        for (std::size_t i = 0; i < bad.size(); ++i)
            if (bad[i] != k)
                return fail(ErrorKind::bad_input, "tensor '", input.source.name, "': weight [", first + i,
                            ", ", bad[i], "] is ", values[i * k + bad[i]]);
        const MatrixView<const float> w(values, last - first, k);
        const auto own = importance.empty() ? importance : importance.subspan(expert * k, k);
        auto quantized =
            quantize(w, {}, format, with_importance(for_tensor(method, input.source.name), own), context);
        if (!quantized && first != 0)
            return Unexpected{quantized.error().within(text("counting rows from ", first))};
        if (!quantized) return Unexpected{std::move(quantized).error()};
        merge(*report, quantized->report, static_cast<double>(first) * static_cast<double>(k),
              static_cast<double>(last - first) * static_cast<double>(k));
        floats = Tensor();
        return hand_over(quantized->linear.weights, sink);
    }
};

}  // namespace

std::size_t GgufInput::rows() const noexcept {
    std::size_t rows = 1;
    for (std::size_t i = 1; i < source.sizes.size(); ++i) rows *= source.sizes[i];
    return rows;
}

bool GgufInput::is_float() const noexcept {
    const auto scalar = source.type->scalar;
    return scalar == Scalar::f32 || scalar == Scalar::f16 || scalar == Scalar::bf16;
}

std::vector<GgufInput> gguf_inputs(const io::GgufFile& file) {
    const auto shared = std::make_shared<const io::GgufFile>(file);
    std::vector<GgufInput> inputs;
    for (std::size_t i = 0; i < file.tensors.size(); ++i) {
        const io::GgufTensor& tensor = shared->tensors[i];
        GgufInput input;
        input.source = {tensor.name, tensor.type, tensor.sizes, [shared, &tensor](auto sink) -> Result<void> {
                            auto done = sink(tensor.bytes);
                            shared->done_with(tensor.bytes);
                            return done;
                        }};
        const std::size_t k = tensor.row_elements();
        const std::size_t row_bytes = k / tensor.type->elements * tensor.type->bytes;
        const auto row = [shared, &tensor, row_bytes](std::size_t r) {
            return tensor.bytes.data() + r * row_bytes;
        };
        if (tensor.type->blocks)
            input.decode = [row, type = *tensor.type->blocks](std::size_t r, std::span<float> out) {
                const ggml::BlockTraits& t = ggml::traits(type);
                const auto* block = reinterpret_cast<const std::uint8_t*>(row(r));
                for (std::size_t b = 0; b < out.size() / t.elements; ++b)
                    ggml::dequantize_block(type, block + b * t.bytes, out.data() + b * t.elements);
            };
        else if (input.is_float())
            input.decode = [row, type = *tensor.type->scalar](std::size_t r, std::span<float> out) {
                const std::size_t bytes = size_bytes(type);
                for (std::size_t c = 0; c < out.size(); ++c) out[c] = load_float(type, row(r) + c * bytes);
            };
        input.done_with = [shared, &tensor, row_bytes](std::size_t first, std::size_t last) {
            shared->done_with(tensor.bytes.subspan(first * row_bytes, (last - first) * row_bytes));
        };
        inputs.push_back(std::move(input));
    }
    return inputs;
}

Result<std::vector<GgufInput>> gguf_inputs(const io::ModelFile& model) {
    auto sources = io::gguf_tensors(model);
    if (!sources) return Unexpected{std::move(sources).error()};
    std::vector<GgufInput> inputs;
    for (io::GgufSource& source : *sources) {
        GgufInput input;
        input.source = std::move(source);
        std::string_view stem = input.source.name;
        if (stem.ends_with(".weight")) stem.remove_suffix(7);
        const auto layer = io::layer_of_gguf_name(stem);
        const auto found = layer ? model.linears.find(*layer) : model.linears.end();
        if (found != model.linears.end() && input.source.sizes.size() == 2)
            input.decode = [weights = found->second.weights](std::size_t r, std::span<float> out) {
                weights.dequantize(r, 0, out);
            };
        inputs.push_back(std::move(input));
    }
    return inputs;
}

Result<const io::GgufTensorType*> gguf_type_of(const Format& format) {
    if (format.is_float()) return io::gguf_tensor_type(name(element_scalar(format)));
    if (const auto same = same_grid(format)) return io::gguf_tensor_type(ggml::name(*same));
    return fail(ErrorKind::unsupported, "no type of ggml has the grid of ", name(format),
                ", and GGUF holds nothing "
                "else; the nearest is ",
                ggml::name(nearest_block_type(format)));
}

Result<io::GgufSource> quantized_source(const GgufInput& input, const GgufQuantization& how,
                                        QuantizeReport& report) {
    const io::GgufSource& from = input.source;
    const auto wrong = [&](const auto&... why) {
        return fail(ErrorKind::unsupported, "tensor '", from.name, "': ", why...);
    };
    if (!input.decode) return wrong("fewbit does not decode ", from.type->name);
    auto type = gguf_type_of(how.format);
    if (!type) return wrong(type.error().message);
    if (input.k() % (*type)->elements != 0)
        return wrong("K = ", input.k(), ": ", (*type)->name, " in a GGUF file needs a multiple of ",
                     (*type)->elements);
    const std::size_t k = input.k(), rows = input.rows();
    std::size_t experts = 1;
    if (!how.importance.empty()) {
        experts = k == 0 ? 0 : how.importance.size() / k;
        if (experts == 0 || how.importance.size() != experts * k || rows % experts != 0)
            return wrong("the importance has ", how.importance.size(), " values for ", rows, " rows of ", k);
    }
    io::GgufSource source{from.name, *type, from.sizes, {}};
    const auto job = std::make_shared<const Job>(
        Job{input, how.format, how.method, how.importance, how.context, &report, experts});
    source.produce = [job](auto sink) { return job->run(sink); };
    return source;
}

}  // namespace fewbit::inline v0::pipeline
