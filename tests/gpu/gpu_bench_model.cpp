// Definitions of gpu_bench_model.hpp.
#include "gpu/gpu_bench_model.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <map>
#include <vector>

#include "fewbit/core/text.hpp"
#include "fewbit/formats/format_name.hpp"
#include "fewbit/model/cuda_transformer.hpp"
#include "gpu/gpu_support.hpp"
#include "gpu/random_codes.hpp"

namespace fewbit::testing {
namespace {

/// Matrices of one shape share their bytes on the host; on the device each has its own.
io::ModelFile random_model(const io::ModelShape& s, const Format& format) {
    io::ModelFile file;
    file.shape = s;
    file.type = "random";
    std::map<std::pair<std::size_t, std::size_t>, QuantizedMatrix> made;
    const auto matrix = [&](const std::string& name, std::size_t n, std::size_t k) {
        auto& weights = made[{n, k}];
        if (weights.n() == 0) weights = random_codes(format, n, k, 1 / std::sqrt(static_cast<float>(k)));
        file.linears[name].weights = weights;
    };
    const auto norm = [&](const std::string& name) { file.vectors[name].assign(s.dim, 1.0f); };
    matrix("model.embed_tokens", s.vocabulary, s.dim);
    matrix("lm_head", s.vocabulary, s.dim);
    norm("model.norm");
    const std::size_t q = s.heads * s.head_dim, kv = s.kv_heads * s.head_dim;
    for (std::size_t i = 0; i < s.layers; ++i) {
        const std::string prefix = text("model.layers.", i, ".");
        norm(prefix + "input_layernorm"), norm(prefix + "post_attention_layernorm");
        matrix(prefix + "self_attn.q_proj", q, s.dim), matrix(prefix + "self_attn.k_proj", kv, s.dim);
        matrix(prefix + "self_attn.v_proj", kv, s.dim), matrix(prefix + "self_attn.o_proj", s.dim, q);
        matrix(prefix + "mlp.gate_proj", s.hidden, s.dim), matrix(prefix + "mlp.up_proj", s.hidden, s.dim);
        matrix(prefix + "mlp.down_proj", s.dim, s.hidden);
    }
    return file;
}

}  // namespace

ModelSpeed time_model(const char* format) {
    using Clock = std::chrono::steady_clock;
    constexpr std::size_t prompt = 512, answer = 128, repetitions = 5;
    ModelSpeed out;
    out.format = format;
    out.prompt_tokens = prompt, out.generated_tokens = answer;
    const io::ModelShape shape{2048, 5632, 22, 32, 4, 64, 32000, 2048, 10000.0f, 1e-5f, false};
    const io::ModelFile file = random_model(shape, *parse_format(format));
    for (const auto& [name, linear] : file.linears)
        out.parameters += static_cast<double>(linear.n()) * static_cast<double>(linear.k());
    const auto model = must(model::CudaTransformer::create(file, {}), "the model");
    out.bytes_per_token = model.bytes_per_token();
    auto sequence = must(model::CudaSequence::create(model, prompt + answer), "a sequence");
    Matrix logits(1, shape.vocabulary);
    std::vector<int> tokens(prompt + answer);
    for (std::size_t i = 0; i < tokens.size(); ++i)
        tokens[i] = static_cast<int>((i * 7919 + 13) % shape.vocabulary);
    std::vector<double> prompts, singles;
    const auto forward = [&](std::size_t first, std::size_t count) {
        const auto start = Clock::now();
        const auto done = sequence.forward(std::span(tokens).subspan(first, count), logits, {});
        const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
        expect(done.has_value(), done ? "" : done.error().message);
        return seconds;
    };
    for (std::size_t repetition = 0; repetition <= repetitions; ++repetition) {
        expect(sequence.truncate(0).has_value(), "starting again");
        const double first = forward(0, prompt);
        if (repetition > 0) prompts.push_back(first);
        for (std::size_t i = 0; i < answer; ++i) {
            const double seconds = forward(prompt + i, 1);
            if (repetition > 0)
                singles.push_back(seconds);  // before, kernels are loaded and the graph is captured
        }
        for (const float logit : logits.values()) expect(std::isfinite(logit), "a logit is no number");
    }
    std::ranges::sort(prompts), std::ranges::sort(singles);
    out.prompt_seconds = prompts[prompts.size() / 2];
    out.token_seconds = singles[singles.size() / 2];
    out.spread = (singles[singles.size() * 9 / 10] - singles[singles.size() / 10]) / out.token_seconds;
    return out;
}

}  // namespace fewbit::testing
