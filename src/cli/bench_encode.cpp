// `fewbit bench encode`: every build of ggml's encoders beside the scalar one, in one run, alternating, after their
// bytes were compared; with the bandwidth of reading measured in between.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstring>
#include <random>

#include "fewbit/formats/ggml/encode.hpp"
#include "fewbit/formats/ggml/encoders.hpp"
#include "src/cli/bench.hpp"
#include "src/cli/measure.hpp"

namespace fewbit::cli {
namespace {

using ggml::BlockType;

constexpr std::size_t columns = 4096;
constexpr std::size_t row_bytes_read = columns * sizeof(float);

struct Options {
    bool quick = false;
    std::vector<BlockType> types;
};

/// Rows of normally distributed weights, more than the caches hold; and importance, which they share.
class Weights {
public:
    explicit Weights(std::size_t bytes) : memory_(bytes, true), importance_(columns) {
        std::mt19937 random(1);
        std::normal_distribution<float> normal;
        std::vector<float> some(64 * columns);
        for (float& weight : some) weight = normal(random);
        for (float& each : importance_) each = normal(random) * normal(random);
        for (float& each : importance_) each *= each;
        std::byte* const to = memory_.data();
        for (std::size_t at = 0; at < memory_.size_bytes(); at += some.size() * sizeof(float))
            std::memcpy(to + at, some.data(),
                        std::min(some.size() * sizeof(float), memory_.size_bytes() - at));
    }
    [[nodiscard]] std::size_t rows() const noexcept { return memory_.size_bytes() / row_bytes_read; }
    [[nodiscard]] std::span<const float> row(std::size_t r) const noexcept {
        return {reinterpret_cast<const float*>(memory_.data() + r * row_bytes_read), columns};
    }
    [[nodiscard]] std::span<const float> importance() const noexcept { return importance_; }

private:
    ReadBuffer memory_;
    std::vector<float> importance_;
};

struct EncodeSubject {
    const ggml::Encoder* encoder;
    std::size_t rows = 0;  ///< of a turn
    std::size_t next_row = 0;
    Samples samples;  ///< of one row
};

class Bench {
public:
    Bench(const Options& options, std::size_t most_threads)
        : options_(options),
          cache_(last_level_cache()),
          weights_((options.quick ? 2 : 8) * cache_.bytes),
          threads_(metered_threads(most_threads, (options.quick ? 2 : 8) * cache_.bytes)) {}

    void run(BlockType type) {
        say("\n{:<8} {:>3}  {:<8} {:>8} {:>5}  {:>8} {:>9}\n", ggml::name(type), "thr", "encoder", "GB/s",
            "±", "x scalar", "of read");
        for (const bool weighted : {false, true}) {
            if (weighted && !ggml::uses_importance(type)) continue;
            if (!verify(type, weighted)) continue;
            for (std::size_t t = 0; t < threads_.size(); ++t) run(type, weighted, t);
        }
        flush_out();
    }

    [[nodiscard]] bool wrong() const noexcept { return wrong_; }
    [[nodiscard]] Json json() const {
        return {{"cache_bytes", cache_.bytes},
                {"cache_known", cache_.known},
                {"rotated_bytes", weights_.rows() * row_bytes_read},
                {"columns", columns},
                {"quick", options_.quick},
                {"results", results_}};
    }

private:
    [[nodiscard]] std::span<const float> importance(bool weighted) const noexcept {
        return weighted ? weights_.importance() : std::span<const float>{};
    }

    /// The bytes of some rows, from every build.
    bool verify(BlockType type, bool weighted) {
        std::vector<std::uint8_t> expected(ggml::row_bytes(type, columns)), bytes(expected.size());
        const std::span<const ggml::Encoder> all = ggml::encoders();
        for (std::size_t r = 0; r < std::min<std::size_t>(16, weights_.rows()); ++r)
            for (const ggml::Encoder& encoder : all) {
                encoder.encode_row(type, weights_.row(r), importance(weighted), bytes);
                if (&encoder == &all.front()) expected = bytes;
                if (bytes == expected) continue;
                note(
                    "fewbit: {}, row {}: the {} encoder's bytes are not the scalar one's; nothing is timed\n",
                    ggml::name(type), r, encoder.name);
                wrong_ = true;
                return false;
            }
        return true;
    }

    /// Seconds for the subject's next rows, divided among the threads.
    double turn(BlockType type, bool weighted, EncodeSubject& subject, ThreadPool& pool) {
        const std::size_t size = ggml::row_bytes(type, columns), workers = pool.workers();
        out_.resize(std::max(out_.size(), size * subject.rows));
        const std::size_t first = subject.next_row;
        subject.next_row = (first + subject.rows) % weights_.rows();
        return seconds_of([&] {
            pool.parallel_for(workers, [&](std::size_t lane, std::size_t) {
                const std::size_t end = (lane + 1) * subject.rows / workers;
                for (std::size_t r = lane * subject.rows / workers; r < end; ++r)
                    subject.encoder->encode_row(type, weights_.row((first + r) % weights_.rows()),
                                                importance(weighted), {out_.data() + r * size, size});
            });
        });
    }

    void run(BlockType type, bool weighted, std::size_t t) {
        const std::size_t repetitions = options_.quick ? 3 : 7;
        const double slice = options_.quick ? 0.01 : 0.03;
        ThreadPool& pool = *threads_[t].pool;
        std::vector<EncodeSubject> subjects;
        for (const ggml::Encoder& encoder : ggml::encoders()) {
            EncodeSubject subject{&encoder, pool.workers(), 0, {}};
            static_cast<void>(turn(type, weighted, subject, pool));  // touches what it uses
            const double seconds = turn(type, weighted, subject, pool);
            const auto rows = static_cast<std::size_t>(slice / seconds * static_cast<double>(subject.rows));
            subject.rows = std::clamp(rows, pool.workers(), weights_.rows());
            out_.resize(std::max(out_.size(), ggml::row_bytes(type, columns) * subject.rows));
            subjects.push_back(std::move(subject));
        }
        Samples bandwidth;
        for (std::size_t repetition = 0; repetition < repetitions; ++repetition) {
            for (EncodeSubject& subject : subjects)
                subject.samples.seconds.push_back(turn(type, weighted, subject, pool) /
                                                  static_cast<double>(subject.rows));
            bandwidth.seconds.push_back(threads_[t].meter->once("read"));
        }
        for (const EncodeSubject& subject : subjects)
            report(type, weighted, pool.workers(), subject, subjects.front().samples.median(),
                   bandwidth.median());
    }

    void report(BlockType type, bool weighted, std::size_t threads, const EncodeSubject& subject,
                double scalar_seconds, double read_per_second) {
        const double seconds = subject.samples.median();
        const double per_second = static_cast<double>(row_bytes_read) / seconds;
        say("{:<8} {:>3}  {:<8} {:>8.3f} {:>4.0f}%  {:>6.1f} x {:>7.1f} %\n", weighted ? "  weighted" : "",
            threads, subject.encoder->name, per_second / 1e9, 100 * subject.samples.spread(),
            scalar_seconds / seconds, 100 * per_second / read_per_second);
        results_.push_back({{"type", ggml::name(type)},
                            {"importance", weighted},
                            {"encoder", subject.encoder->name},
                            {"lanes", subject.encoder->lanes},
                            {"chosen", subject.encoder == &ggml::encoders().back()},
                            {"threads", threads},
                            {"median_seconds", seconds},
                            {"spread", subject.samples.spread()},
                            {"bytes", row_bytes_read},
                            {"bytes_per_second", per_second},
                            {"ratio_to_scalar", scalar_seconds / seconds},
                            {"read_per_second", read_per_second},
                            {"read_share", per_second / read_per_second}});
    }

    const Options& options_;
    CacheSize cache_;
    Weights weights_;
    std::vector<MeteredThreads> threads_;
    std::vector<std::uint8_t> out_;
    Json results_ = Json::array();
    bool wrong_ = false;
};

BlockType parse_type(const std::string& text) {
    if (const auto type = ggml::parse_block_type(text)) return *type;
    std::string known;
    for (const ggml::BlockTraits& each : ggml::block_types)
        known += fmt::format("{}{}", known.empty() ? "" : ", ", each.name);
    throw CLI::ValidationError("--types", fmt::format("'{}' is no type of ggml; there are {}", text, known));
}

Status run(Options options, Program& program) {
    if (options.types.empty())
        for (const ggml::BlockTraits& each : ggml::block_types) {
            const bool quick =
                each.type == BlockType::q4_0 || each.type == BlockType::q8_0 || each.type == BlockType::q4_k;
            // The others have one build.
            const bool searched = ggml::uses_importance(each.type) || each.type == BlockType::q8_0;
            if (options.quick ? quick : searched) options.types.push_back(each.type);
        }
    Bench bench(options, program.executor().workers());
    for (const BlockType type : options.types) bench.run(type);
    say("\nMedians of alternating turns on rows of {} weights, ± between the quartiles. GB/s: of f32\n"
        "that is read; of read: that over the bandwidth of reading, measured in turn with the\n"
        "encoders. Bytes were compared with the scalar encoder's first.\n",
        columns);
    if (options.quick) say("--quick: weights fill 2 x the last-level cache, not 8 x.\n");
    program.write_json("bench-encode/1", bench.json());
    if (!bench.wrong()) return Status::done;
    note("fewbit: some encoders gave wrong bytes; those types were not timed\n");
    return Status::no;
}

}  // namespace

void add_bench_encode(CLI::App& bench, Program& program) {
    auto options = std::make_shared<Options>();
    CLI::App* command =
        program.add(bench, "encode", "Time the encoders of ggml's types, fast ones against the scalar",
                    [=, &program] { return run(*options, program); });
    command->add_flag("--quick", options->quick, "Three types, fewer repetitions, less memory");
    command
        ->add_option_function<std::vector<std::string>>(
            "--types",
            [options](const std::vector<std::string>& texts) {
                options->types.clear();
                for (const std::string& text : texts) options->types.push_back(parse_type(text));
            },
            "ggml's types, such as q4_k; default: all that have more than one build")
        ->delimiter(',')
        ->allow_extra_args(false)
        ->type_name("TYPE,...");
}

}  // namespace fewbit::cli
