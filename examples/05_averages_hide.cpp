// Averages hide what breaks: quantizes the embedded model in many ways and looks for those in which perplexity
// hardly moves while a behaviour is lost.
//
//   example_05_averages_hide [models/embedded/model.safetensors]
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <string>

#include "fewbit/core/thread_pool.hpp"
#include "fewbit/evaluate/behaviours.hpp"
#include "fewbit/evaluate/corpus_windows.hpp"
#include "fewbit/evaluate/embedded_vocabulary.hpp"
#include "fewbit/evaluate/perplexity.hpp"
#include "fewbit/io/model_safetensors.hpp"
#include "fewbit/model/transformer.hpp"
#include "fewbit/quantize/rtn.hpp"

namespace {

using namespace fewbit;

struct Measured {
    double perplexity = 0;
    std::vector<evaluate::BehaviourScore> behaviours;
};

Result<Measured> measure(const io::ModelFile& file, const model::Tokenizer& tokenizer,
                         std::span<const evaluate::Window> windows, ExecutionContext context) {
    const auto transformer = model::Transformer::create(
        file, {.activations = exact_activations(), .fallback = Fallback::allow}, context);
    if (!transformer) return Unexpected{transformer.error()};
    const evaluate::TransformerSource source(*transformer);
    const auto perplexity = evaluate::measure_perplexity(source, windows, context);
    if (!perplexity) return Unexpected{perplexity.error()};
    auto behaviours = evaluate::measure_behaviours(*transformer, tokenizer,
                                                   {.items = 300, .teacher_forced = true}, context);
    if (!behaviours) return Unexpected{behaviours.error()};
    return Measured{perplexity->perplexity, *std::move(behaviours)};
}

/// Every matrix but the embedding, which is the head too.
Result<io::ModelFile> quantized(io::ModelFile file, const Format& format) {
    for (auto& [name, linear] : file.linears) {
        if (name.find("embed_tokens") != std::string::npos) continue;
        Matrix w(linear.n(), linear.k());
        for (std::size_t row = 0; row < w.rows(); ++row) linear.weights.dequantize(row, 0, w.row(row));
        auto rounded = quantize_rtn(w, format);
        if (!rounded) return Unexpected{rounded.error()};
        linear.weights = std::move(rounded->linear.weights);
    }
    return file;
}

int fail_with(const Error& error) { return std::printf("%s\n", error.message.c_str()), 1; }

}  // namespace

int main(int argc, char** argv) {
    const std::filesystem::path path = argc > 1 ? argv[1] : "models/embedded/model.safetensors";
    if (!std::filesystem::exists(path))
        return std::printf("there is no model %s: nothing was measured\n", path.string().c_str()), 0;
    const auto file = io::read_safetensors_model(path);
    if (!file) return fail_with(file.error());
    const auto tokenizer = model::Tokenizer::create(evaluate::embedded_vocabulary());
    if (!tokenizer) return fail_with(tokenizer.error());
    const auto windows = evaluate::corpus_windows({.max_predictions = 20000}, *tokenizer);
    if (!windows) return fail_with(windows.error());
    ThreadPool pool;

    const auto original = measure(*file, *tokenizer, *windows, pool);
    if (!original) return fail_with(original.error());
    std::printf("float: perplexity %.3f\n\n%-19s %11s  %s\n", original->perplexity, "format", "perplexity",
                "points lost");
    for (const char* name : {"int8-channel", "int5-channel", "int4-g32", "int4-g128", "int4-channel",
                             "int4-channel-narrow", "int3-g16", "int3-g32", "int3-channel"}) {
        const auto small = quantized(*file, *parse_format(name));
        if (!small) return fail_with(small.error());
        const auto now = measure(*small, *tokenizer, *windows, pool);
        if (!now) return fail_with(now.error());
        const double change = 100 * (now->perplexity / original->perplexity - 1);
        double worst = 0;
        std::printf("%-19s %+9.2f %% ", name, change);
        for (std::size_t b = 0; b < now->behaviours.size(); ++b) {
            const double lost = 100 * (original->behaviours[b].share - now->behaviours[b].share);
            worst = std::max(worst, lost);
            std::printf(" %.4s %+5.1f", std::string(evaluate::name(now->behaviours[b].behaviour)).c_str(),
                        -lost);
        }
        std::printf("%s\n", change < 2 && worst > 10 ? "  <- hidden" : "");
    }
    return 0;
}
