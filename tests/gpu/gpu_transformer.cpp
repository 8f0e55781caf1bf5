// Whole models on a GPU: logits against a decoder in double precision (support/naive_transformer.hpp), prompts cut anywhere, tokens one by
// one by a captured graph, the same bits on every run, what is refused.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "fewbit/core/text.hpp"
#include "fewbit/core/thread_pool.hpp"
#include "fewbit/cuda/operators.hpp"
#include "fewbit/cuda/stream.hpp"
#include "fewbit/evaluate/cuda_source.hpp"
#include "fewbit/evaluate/perplexity.hpp"
#include "fewbit/formats/format_name.hpp"
#include "fewbit/model/cuda_transformer.hpp"
#include "fewbit/quantize/rtn.hpp"
#include "gpu/gpu_support.hpp"
#include "support/naive_transformer.hpp"
#include "support/toy_model.hpp"

namespace fewbit::testing {
namespace {

using model::CudaModelOptions;
using model::CudaSequence;
using model::CudaTransformer;

/// What a model is made of. Formats: of the projections, of embedding and head.
struct Made {
    const char* weights;
    const char* head;
    bool tied, biased;
    CudaModelOptions options{};
};

io::ModelFile make(const io::ModelShape& shape, const Made& made) {
    io::ModelFile file = toy_model(shape, 3);
    for (auto& [name, linear] : file.linears) {
        const bool is_head = name == "lm_head" || name == "model.embed_tokens";
        const Format format = *parse_format(is_head ? made.head : made.weights);
        Matrix values(linear.n(), linear.k());
        for (std::size_t r = 0; r < linear.n(); ++r) linear.weights.dequantize(r, 0, values.row(r));
        if (format.is_float())
            linear.weights = must(float_matrix(values.view(), element_scalar(format)), name);
        else
            linear.weights = must(quantize_rtn(values.view(), format), name).linear.weights;
        if (made.biased && !is_head)
            for (std::size_t i = 0; i < linear.n(); ++i)
                linear.bias.push_back(0.03f * static_cast<float>(i % 7));
    }
    return file;
}

std::string text_of(const Made& made) {
    return text("a model of ", made.weights, " with a head of ", made.head, made.tied ? " (tied)" : "",
                made.biased ? ", biased" : "", ", activations of ", name(made.options.activations),
                ", cache of ", name(made.options.cache));
}

/// The share of the logits' energy that roundings may cost: each block, and the head, rounds 8 times to the activations' type, keys and
/// values once more; uniformly within half a last place (of i8: of 1 / 127 of four standard deviations).
double allowed(const io::ModelShape& shape, const CudaModelOptions& options) {
    const auto share = [](Scalar type) {  // of a number's square
        return type == Scalar::f16    ? 0x1p-22 / 3
               : type == Scalar::bf16 ? 0x1p-16 / 3
                                      : std::pow(4.0 / 127, 2) / 12;
    };
    return static_cast<double>(shape.layers + 1) *
           (8 * share(options.activations) + 2 * share(options.cache));
}

double nmse(const Matrix& y, const std::vector<Doubles>& exact) {
    double lost = 0, all = 0;
    for (std::size_t r = 0; r < exact.size(); ++r)
        for (std::size_t i = 0; i < exact[r].size(); ++i) {
            const double e = static_cast<double>(y(r, i)) - exact[r][i];
            lost += std::isfinite(e) ? e * e : std::numeric_limits<double>::infinity();
            all += exact[r][i] * exact[r][i];
        }
    return lost / all;
}

std::vector<int> some_tokens(std::size_t count, std::size_t vocabulary) {
    std::vector<int> tokens(count);
    for (std::size_t i = 0; i < count; ++i) tokens[i] = static_cast<int>((i * 13 + 5) % vocabulary);
    return tokens;
}

void expect_done(const Result<void>& result, const std::string& what) {
    expect(result.has_value(), what + (result ? "" : ": " + result.error().message));
}

/// All logits of `tokens`: `prompt` of them together, then one by one.
Matrix logits_of(const CudaTransformer& model, const std::vector<int>& tokens, std::size_t prompt,
                 const std::string& what) {
    auto sequence = must(CudaSequence::create(model, tokens.size()), what);
    const std::size_t v = model.shape().vocabulary;
    Matrix out(tokens.size(), v);
    if (prompt > 0)
        expect_done(sequence.forward(std::span(tokens).first(prompt), out.view().rows_from(0, prompt), {}),
                    what);
    for (std::size_t i = prompt; i < tokens.size(); ++i)
        expect_done(sequence.forward({&tokens[i], 1}, out.view().rows_from(i, 1), {}), what);
    expect(sequence.length() == tokens.size(), what + ": the length");
    return out;
}

bool same_bits(const Matrix& a, const Matrix& b) {
    return std::memcmp(a.values().data(), b.values().data(), a.values().size_bytes()) == 0;
}

void check(const io::ModelShape& shape, const Made& made, std::size_t count) {
    const std::string what = text_of(made);
    const io::ModelFile file = make(shape, made);
    const auto model = must(CudaTransformer::create(file, made.options), what);
    const std::vector<int> tokens = some_tokens(count, shape.vocabulary);
    const std::vector<Doubles> exact = naive_logits(file, tokens);
    const double most = allowed(shape, made.options);

    const Matrix together = logits_of(model, tokens, count, what), single = logits_of(model, tokens, 0, what),
                 mixed = logits_of(model, tokens, count / 2, what);
    for (const auto& [logits, how] :
         {std::pair{&together, "together"}, {&single, "one by one"}, {&mixed, "in part"}}) {
        const double lost = nmse(*logits, exact);
        expect(lost <= most, text(what, ", ", how, ": NMSE ", lost, ", allowed ", most));
    }
    expect(same_bits(single, logits_of(model, tokens, 0, what)), what + ": other bits on another run");
    expect(same_bits(together, logits_of(model, tokens, count, what)), what + ": other bits on another run");

    // The last logits alone, of tokens that came together.
    auto only_last = must(CudaSequence::create(model, count), what);
    Matrix of_last(1, shape.vocabulary);
    expect_done(only_last.forward(tokens, of_last, {}), what);
    expect(nmse(of_last, {exact.back()}) <= most, what + ": the last logits alone");

    // Another continuation, then back again, by the same graph; only the last logits are wanted.
    auto sequence = must(CudaSequence::create(model, count), what);
    Matrix wide(1, shape.vocabulary);
    for (const int round : {0, 1, 2}) {
        const std::size_t kept = sequence.length() == 0 ? 0 : count / 2;
        expect_done(sequence.truncate(kept), what);
        if (kept < count / 2)
            expect_done(sequence.forward(std::span(tokens).subspan(kept, count / 2 - kept), {}, {}), what);
        for (std::size_t i = count / 2; i < count; ++i) {
            const int token = round == 1 ? tokens[count - 1 - i] : tokens[i];
            expect_done(sequence.forward({&token, 1}, wide.view(), {}), what);
        }
        Matrix last(1, shape.vocabulary);
        std::ranges::copy(mixed.row(count - 1), last.row(0).begin());
        if (round != 1) expect(same_bits(last, wide), text(what, ": round ", round, " after a cut"));
    }
    expect(!sequence.forward({tokens.data(), 1}, wide.view(), {}), what + ": more positions than there are");
    expect(sequence.length() == count, what + ": a refused token counts");
    std::size_t layers = 0;
    for (const auto& use : model.kernels()) layers += use.layers.size();
    expect(layers == 7 * shape.layers + 1, what + ": every layer has a kernel");
}

/// Rows of a table of floats: what is there, NaN for what is not, nothing behind a row.
void check_rows() {
    const std::vector<float> numbers{1, 2, 3, 4, 5, 6, 7, 8, 9, 10};
    for (const Scalar type : {Scalar::f32, Scalar::f16, Scalar::bf16}) {
        const Tensor table = must(cuda::to_device(tensor_of(numbers, type, {2, 5})), "a table");
        Tensor ids = must(Tensor::allocate(Scalar::i32, {4}), "ids");
        std::ranges::copy(std::vector<std::int32_t>{1, -1, 2, 0}, ids.as_mutable<std::int32_t>().begin());
        const Tensor on_device = must(cuda::to_device(ids), "ids");
        for (const bool given : {true, false}) {
            Tensor y =
                must(cuda::to_device(tensor_of(std::vector<float>(28, -7.0f), Scalar::f32, {4, 7})), "y");
            expect_done(cuda::embed(table, given ? on_device.as<std::int32_t>().data() : nullptr,
                                    {y.mutable_bytes().data(), Scalar::f32, 4, 5, 7}, {}),
                        "rows of a table");
            const std::vector<float> got = floats_of(must(cuda::to_host(y), "y"));
            const int rows[] = {given ? 1 : 0, given ? -1 : 1, -1, given ? 0 : -1};
            for (std::size_t r = 0; r < 4; ++r)
                for (std::size_t i = 0; i < 7; ++i) {
                    const float value = got[r * 7 + i];
                    const bool fine = i >= 5 ? value == -7.0f
                                      : rows[r] < 0
                                          ? std::isnan(value)
                                          : value == numbers[static_cast<std::size_t>(rows[r]) * 5 + i];
                    expect(fine, text("row ", r, ", column ", i, " of a table of ", name(type), ": ", value));
                }
        }
    }
}

/// Graphs look at so many positions: behind them another one has to come.
void check_many_positions() {
    const io::ModelShape shape = toy_shape(2, 1, 16, 32, 1, 20, 1100, true);
    const auto model =
        must(CudaTransformer::create(make(shape, {"int8-channel", "f32", true, false}), {}), "long");
    const std::vector<int> tokens = some_tokens(1030, shape.vocabulary);
    const Matrix together = logits_of(model, tokens, 1030, "long"),
                 mixed = logits_of(model, tokens, 1019, "long");
    std::vector<Doubles> exact;
    for (std::size_t r = 0; r < together.rows(); ++r)
        exact.emplace_back(together.row(r).begin(), together.row(r).end());
    for (std::size_t r = 0; r < exact.size(); ++r) {
        Matrix row(1, shape.vocabulary);
        std::ranges::copy(mixed.row(r), row.row(0).begin());
        const double lost = nmse(row, {exact[r]});
        expect(lost <= allowed(shape, {}), text("position ", r, " of a long sequence: NMSE ", lost));
    }
}

void check_model_refusals() {
    const io::ModelShape shape = toy_shape(4, 2, 16, 96, 2, 40, 32, true);
    const auto message = [&](const Made& made, auto&& change) {
        io::ModelFile file = make(shape, made);
        change(file);
        const auto model = CudaTransformer::create(file, made.options);
        return model ? std::string("none") : model.error().message;
    };
    const auto refuses = [&](const std::string& said, const std::string& part) {
        expect(said.find(part) != std::string::npos, "a refusal says '" + said + "', not '" + part + "'");
    };
    const auto nothing = [](io::ModelFile&) {};
    const std::string down = "model.layers.1.mlp.down_proj";
    refuses(message({"int4-g16", "f32", true, false}, nothing),
            "order mma16 needs groups of a multiple of 32, not of 16");
    refuses(message({"int4-g32", "f32", true, false},
                    [&](auto& f) { f.linears.at(down).transform.hadamard = 32; }),
            down);
    refuses(message({"int4-g32", "f32", true, false},
                    [&](auto& f) { f.linears.at(down).transform.channel_scales.assign(96, 2.0f); }),
            "permuted or scaled");
    refuses(message({"f32", "f32", true, false}, [&](auto& f) { f.linears.erase(down); }),
            "has no matrix '" + down + "'");
    refuses(message({"f32", "f32", true, false}, [&](auto& f) { f.linears.at(down).bias.assign(3, 0.0f); }),
            "its bias has 3");
    refuses(message({"f32", "f32", true, false, {.activations = Scalar::f32}}, nothing),
            "there are f16 and bf16");
    refuses(message({"f32", "f32", true, false},
                    [&](auto& f) {
                        Matrix big(64, 96);
                        big(1, 2) = 1e6f;
                        f.linears.at(down).weights = *float_matrix(big.view());
                    }),
            "row 1 has a weight of 1e+06");
    CudaModelOptions allow;
    allow.fallback = Fallback::allow;
    check(shape, {"int4-g16", "f32", true, true, allow}, 9);
    const auto model =
        must(CudaTransformer::create(make(shape, {"int4-g16", "f32", true, false}), allow), "fallback");
    expect(!model.kernels().front().fallback_reason.empty(), "a fallback says so");
    for (const auto& [format, held] : {std::pair{"int3-g32", "int4-g32-asym"}, {"int4-g32", ""}}) {
        const auto model_of =
            must(CudaTransformer::create(make(shape, {format, "f16", true, false}), {}), format);
        const std::string note = model_of.kernels().front().note;
        expect(std::string(held).empty() ? note.empty() : note.find(held) != std::string::npos,
               text(format, " is held in silence: '", note, "'"));
    }
    // What is said of weights that f16 holds, and of those that it rounds.
    for (const auto& [head, noted] : {std::pair{"f32", true}, {"f16", false}}) {
        const auto kept =
            must(CudaTransformer::create(make(shape, {"int4-g32", head, true, false}), {}), "notes");
        for (const auto& use : kept.kernels())
            expect(use.note.empty() != (noted && use.layers.front() == "lm_head"),
                   text("a head of ", head, ", ", use.layers.front(), ": '", use.note, "'"));
    }
    expect(!CudaSequence::create(model, 33), "more positions than the context");
}

void check_copies() {
    auto device = must(cuda::allocate(Scalar::u8, {8}), "memory");
    const std::byte five[5]{};
    expect(!cuda::copy_to_device(five, device, 4, {}), "a copy behind the end");
    expect(!cuda::copy_to_device(five, device, 9, {}), "a copy from behind the end");
    Tensor host = must(Tensor::allocate(Scalar::u8, {8}), "memory");
    expect(!cuda::copy_to_device(five, host, 0, {}), "a copy to the host's memory");
    const auto stream = must(cuda::OwnStream::create(), "stream");
    const auto failed =
        cuda::Graph::capture(stream.get(), []() -> Result<void> { return fail(ErrorKind::bad_input, "no"); });
    expect(!failed && failed.error().message == "no", "what a capture refuses");
    const auto empty = cuda::Graph::capture(stream.get(), []() -> Result<void> { return {}; });
    expect(empty.has_value(), "a capture after one that failed");
}

}  // namespace

namespace {

/// Perplexity on the device is that on the CPU within what activations of f16 cost, the same for any number of threads, and sequences
/// serve window after window.
void check_evaluation(const io::ModelShape& shape) {
    const Made made{"int4-g32", "f16", true, false};
    const std::string what = "evaluating " + text_of(made);
    const io::ModelFile file = make(shape, made);
    const auto on_device = must(CudaTransformer::create(file, made.options), what);
    const auto on_cpu = must(model::Transformer::create(file, {exact_activations(), Fallback::allow}), what);
    std::vector<evaluate::Window> windows;
    for (const std::size_t length : {2, 9, 5, 30, 17, 30})
        windows.push_back({0, 1, some_tokens(length, shape.vocabulary)});
    const auto wanted =
        must(evaluate::measure_perplexity(evaluate::TransformerSource(on_cpu), windows), what);
    const evaluate::CudaSource source(on_device);
    const auto got = must(evaluate::measure_perplexity(source, windows), what);
    expect(got.tokens == wanted.tokens, what + ": predictions");
    // Logits of a few units with errors of 1e-3 of them.
    expect(std::fabs(got.nll - wanted.nll) <= 4e-3, text(what, ": nll ", got.nll, ", not ", wanted.nll));
    ThreadPool pool(3);
    const auto again = must(evaluate::measure_perplexity(source, windows, pool), what);
    expect(again.nll == got.nll, what + ": other threads, another answer");
}

}  // namespace

void check_transformer(bool small) {
    check_copies();
    check_rows();
    check_many_positions();
    check_model_refusals();
    const io::ModelShape shape =
        small ? toy_shape(4, 2, 16, 96, 2, 40, 64, false) : toy_shape(8, 2, 64, 1376, 4, 1000, 3000, false);
    io::ModelShape tied = shape;
    tied.tied_head = true;
    CudaModelOptions bf16, int8;
    bf16.activations = bf16.cache = Scalar::bf16;
    bf16.chunk_positions = 5;
    int8.cache = Scalar::i8;
    const std::size_t count = small ? 13 : 300;
    check(shape, {"int4-g32", "f16", false, true}, count);
    check(tied, {"int4-g32-asym", "int8-channel", true, false, bf16}, count);
    check(shape, {"nf4-g32", "int4-g32", false, true, int8}, count);
    check(tied, {"q4_0", "f32", true, false}, count);
    check(shape, {"int3-g32", "int6-channel", false, false}, count);
    check(shape, {"mxfp8", "fp8-e4m3-channel", false, true}, count);
    check_evaluation(tied);
    if (!small) check(shape, {"int4-g32", "int8-channel", false, false}, 2100);  // several graphs
}

}  // namespace fewbit::testing
