// `fewbit bench model`: a whole model of random weights: how many tokens of a prompt, and how many of an answer (alone,
// and after the prompt), per second; beside the limits of the machine, measured in turn.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <optional>

#include "src/cli/bench.hpp"
#include "src/cli/load.hpp"
#include "src/cli/measure.hpp"
#include "src/cli/options.hpp"
#include "src/cli/synthetic_model.hpp"

namespace fewbit::cli {
namespace {

struct ModelBenchOptions {
    bool quick = false;
    std::vector<Format> formats;
    std::vector<ActivationFormat> activations;  // empty: what suits the weights
    Fallback fallback = Fallback::refuse;
    std::size_t prompt = 0, generate = 0;  // 0: as --quick says
    io::ModelShape shape{2048, 5632, 22, 32, 4, 64, 32000, 0, 10000.0f, 1e-5f, false};
};

/// Any tokens do: the time depends on none of them.
std::vector<int> some_tokens(std::size_t count, std::size_t vocabulary) {
    std::vector<int> tokens(count);
    for (std::size_t i = 0; i < count; ++i) tokens[i] = static_cast<int>((i * 7919 + 13) % vocabulary);
    return tokens;
}

class ModelBench {
public:
    ModelBench(const ModelBenchOptions& options, std::size_t most_threads)
        : options_(options),
          elements_(linear_elements(options.shape)),
          threads_(metered_threads(most_threads, (options.quick ? 2 : 8) * last_level_cache().bytes)) {}

    void run(const Format& format, const ActivationFormat& activations) {
        const auto query = [&](std::size_t n, std::size_t k) {
            return MatmulQuery{format, activations, 1, n, k, options_.fallback};
        };
        if (const auto kernel = select_kernel(query(options_.shape.dim, options_.shape.dim)); !kernel) {
            refused_.push_back(fmt::format("{} with {} activations: {}", name(format), name(activations),
                                           kernel.error().message));
            say("\n{}\n(--fallback allow times it all the same)\n", refused_.back());
            return;
        }
        ExecutionContext context(*threads_.back().pool);
        std::optional<io::ModelFile> file = synthetic_model(options_.shape, format, activations, context);
        const model::Transformer transformer =
            make_transformer(*file, {activations, options_.fallback}, context);
        file.reset();
        print_title(transformer, format, activations);
        for (std::size_t t = 0; t < threads_.size(); ++t) run(transformer, format, activations, t);
    }

    [[nodiscard]] bool empty() const noexcept { return results_.empty(); }
    [[nodiscard]] Json json() const {
        const io::ModelShape& s = options_.shape;
        return {{"shape",
                 {{"dim", s.dim},
                  {"hidden", s.hidden},
                  {"layers", s.layers},
                  {"heads", s.heads},
                  {"kv_heads", s.kv_heads},
                  {"head_dim", s.head_dim},
                  {"vocabulary", s.vocabulary}}},
                {"layer_elements", elements_.layers},
                {"head_elements", elements_.head},
                {"quick", options_.quick},
                {"refused", refused_},
                {"results", results_}};
    }

private:
    void print_title(const model::Transformer& transformer, const Format& format,
                     const ActivationFormat& activations) {
        say("\n{} weights, {} activations: {} read per token\n{}\n{:>3}  {:<10} {:>6} {:>9} {:>5} {:>9} "
            "{:>8} {:>9}\n",
            name(format), name(activations), bytes_text(static_cast<double>(transformer.bytes_per_token())),
            kernels_text(kernel_rows(transformer)), "thr", "what", "tokens", "tokens/s", "±", "GOPS", "GB/s",
            "of limit");
        flush_out();
    }

    /// What was timed, and beside each repetition what the machine gave in that moment.
    struct Timed {
        const char* what;
        std::size_t after;  ///< positions in the cache before
        std::size_t tokens;
        double operations,
            bytes;  ///< bytes of weights that are read at least, when all tokens of a call share one pass
        Samples samples{};  ///< of all tokens
        std::vector<double> operations_per_second{}, bytes_per_second{};
    };

    void run(const model::Transformer& transformer, const Format& format, const ActivationFormat& activations,
             std::size_t t) {
        ExecutionContext context(*threads_[t].pool);
        LimitMeter& meter = *threads_[t].meter;
        const io::ModelShape& s = transformer.shape();
        const auto prompt = some_tokens(options_.prompt, s.vocabulary),
                   answer = some_tokens(options_.generate, s.vocabulary);
        auto cache = expect(model::KvCache::create(s, prompt.size() + answer.size()));
        Matrix logits(1, s.vocabulary);
        const std::string peak = arithmetic_limit(format, activations, meter);
        const auto forward = [&](std::span<const int> tokens) {
            return seconds_of([&] { expect(transformer.forward(tokens, cache, logits, context)); });
        };
        const auto read = [&](Timed& timed) {
            timed.samples.seconds.push_back(forward(prompt));
            timed.operations_per_second.push_back(meter.once(peak));
            timed.bytes_per_second.push_back(meter.once("read"));
        };
        // What memory gives changes within a second, so it is measured every few tokens.
        const auto write = [&](Timed& timed) {
            constexpr std::size_t few = 4;
            double seconds = 0, limit = 0, limit_seconds = 0;
            for (std::size_t i = 0; i < answer.size(); ++i) {
                seconds += forward(std::span(answer).subspan(i, 1));
                if (i % few == 0) limit = 1 / meter.once("read");
                limit_seconds += limit;
            }
            timed.samples.seconds.push_back(seconds);
            timed.operations_per_second.push_back(meter.once(peak));
            timed.bytes_per_second.push_back(static_cast<double>(answer.size()) / limit_seconds);
        };
        const auto positions = static_cast<double>(prompt.size()), steps = static_cast<double>(answer.size());
        const auto bytes = static_cast<double>(transformer.bytes_per_token());
        // The head is multiplied with one position of the prompt, and with every one of the answer.
        const double prompt_operations = 2 * (elements_.layers * positions + elements_.head),
                     answer_operations = 2 * (elements_.layers + elements_.head) * steps;
        Timed timed[] = {{"generation", 0, answer.size(), answer_operations, bytes * steps},
                         {"prompt", 0, prompt.size(), prompt_operations, bytes},
                         {"generation", prompt.size(), answer.size(), answer_operations, bytes * steps}};
        const std::size_t repetitions = options_.quick ? 3 : 5;
        Progress progress(fmt::format("{}, {} threads", name(format), threads_[t].pool->workers()));
        for (std::size_t repetition = 0; repetition <= repetitions; ++repetition) {
            cache.truncate(0);
            write(timed[0]);
            cache.truncate(0);
            read(timed[1]);
            write(timed[2]);
            progress.update(repetition + 1, repetitions + 1);
            if (repetition == 0)  // pages are touched and clocks rise
                for (Timed& each : timed)
                    each = {each.what, each.after, each.tokens, each.operations, each.bytes};
        }
        progress.clear();
        Json row{{"format", name(format)},
                 {"activations", name(activations)},
                 {"threads", threads_[t].pool->workers()},
                 {"kernels", Json::array()}};
        for (const model::KernelUse& use : transformer.kernels())
            row["kernels"].push_back({{"kernel", use.kernel}, {"layers", use.layers.size()}});
        for (const Timed& each : timed) report(row, each, peak);
        flush_out();
    }

    void report(Json row, const Timed& timed, const std::string& peak) {
        const double seconds = timed.samples.median();
        Samples shares;
        std::vector<double> memory_seconds, compute_seconds;
        for (std::size_t i = 0; i < timed.samples.seconds.size(); ++i) {
            memory_seconds.push_back(timed.bytes / timed.bytes_per_second[i]);
            compute_seconds.push_back(timed.operations / timed.operations_per_second[i]);
            shares.seconds.push_back(std::max(memory_seconds[i], compute_seconds[i]) /
                                     timed.samples.seconds[i]);
        }
        const double memory = Samples{memory_seconds}.median(), compute = Samples{compute_seconds}.median();
        const bool memory_bound = memory >= compute;
        const double rate = static_cast<double>(timed.tokens) / seconds;
        const std::string what = timed.after == 0 ? timed.what : fmt::format("after {}", timed.after);
        say("{:>3}  {:<10} {:>6} {:>9.2f} {:>4.1f}% {:>9.1f} {:>8.2f} {:>6.1f} % {}\n",
            row["threads"].get<std::size_t>(), what, timed.tokens, rate, 100 * timed.samples.spread(),
            timed.operations / seconds / 1e9, timed.bytes / seconds / 1e9, 100 * shares.median(),
            memory_bound ? "r" : "c");
        row.update(
            Json{{"what", timed.what},
                 {"after", timed.after},
                 {"tokens", timed.tokens},
                 {"median_seconds", seconds},
                 {"spread", timed.samples.spread()},
                 {"tokens_per_second", rate},
                 {"operations", timed.operations},
                 {"bytes", timed.bytes},
                 {"limit", memory_bound ? "read" : peak},
                 {"limit_per_second", memory_bound ? timed.bytes / memory : timed.operations / compute},
                 {"limit_share", shares.median()}});
        results_.push_back(std::move(row));
    }

    const ModelBenchOptions& options_;
    LinearElements elements_;
    std::vector<MeteredThreads> threads_;
    std::vector<std::string> refused_;
    Json results_ = Json::array();
};

Status run(ModelBenchOptions options, Program& program) {
    if (options.formats.empty())
        for (const char* text : {"int4-g32", "int4-g128", "int8-channel"})
            options.formats.push_back(*parse_format(text));
    if (options.prompt == 0) options.prompt = options.quick ? 64 : 512;
    if (options.generate == 0) options.generate = options.quick ? 8 : 128;
    io::ModelShape& s = options.shape;
    if (s.dim % s.heads != 0 || s.dim / s.heads % 2 != 0 || s.heads % s.kv_heads != 0)
        throw Failure(fmt::format(
            "{} heads cannot share dim {} in equal parts of even length, or {} key-value heads do "
            "not divide them",
            s.heads, s.dim, s.kv_heads));
    s.head_dim = s.dim / s.heads;
    s.context = options.prompt + options.generate;

    ModelBench bench(options, program.executor().workers());
    for (const Format& format : options.formats)
        for (const ActivationFormat& activations : timed_activations(format, options.activations))
            bench.run(format, activations);
    if (!bench.empty())
        say("\nMedians of repetitions, ± between the quartiles. GOPS: two operations for every weight of "
            "the\n"
            "layers and token, and of the head where logits are wanted; attention is not counted. of limit:\n"
            "r reading the weights once per call, c computing; both measured in turn with the model.\n"
            "generation: from an empty context; after {}: behind the prompt.\n",
            options.prompt);
    program.write_json("bench-model/1", bench.json());
    return bench.empty() ? Status::no : Status::done;
}

}  // namespace

void add_bench_model(CLI::App& bench, Program& program) {
    auto options = std::make_shared<ModelBenchOptions>();
    CLI::App* command = program.add(bench, "model", "Time a whole model of random weights: prompt and answer",
                                    [=, &program] { return run(*options, program); });
    command->add_flag("--quick", options->quick, "64 and 8 tokens instead of 512 and 128, fewer repetitions");
    add_formats(*command, "--formats", options->formats,
                "Weight formats; default int4-g32,int4-g128,int8-channel");
    add_activation_list(*command, options->activations);
    add_fallback(*command, options->fallback);
    constexpr std::size_t most = 1 << 20;
    add_count(*command, "--prompt", options->prompt, "Tokens of the prompt; default 512", 1, most);
    add_count(*command, "--generate", options->generate, "Tokens of the answer; default 128", 1, most);
    io::ModelShape& s = options->shape;
    add_count(*command, "--dim", s.dim, "Length of the embedding; default 2048", 1, most);
    add_count(*command, "--hidden", s.hidden, "Length between gate and down; default 5632", 1, most);
    add_count(*command, "--layers", s.layers, "Blocks; default 22", 1, most);
    add_count(*command, "--heads", s.heads, "Query heads; default 32", 1, most);
    add_count(*command, "--kv-heads", s.kv_heads, "Key-value heads; default 4", 1, most);
    add_count(*command, "--vocabulary", s.vocabulary, "Tokens that there are; default 32000", 1, most);
}

}  // namespace fewbit::cli
