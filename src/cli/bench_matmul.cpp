// `fewbit bench matmul`: every kernel that fits beside the generic one, in one run, alternating, after their
// answers were verified; with the limits of the machine measured in between.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>

#include "src/cli/bench.hpp"
#include "src/cli/matmul_case.hpp"
#include "src/cli/options.hpp"

namespace fewbit::cli {
namespace {

struct Shape {
    std::size_t n, k;
};

struct MatmulOptions {
    bool quick = false;
    std::vector<Format> formats;
    std::vector<std::size_t> m;
    std::vector<Shape> shapes;
    std::vector<ActivationFormat> activations;  // empty: what suits the weights
    Fallback fallback = Fallback::refuse;
};

/// Weights are read from memory at each product when M is at most this.
constexpr std::size_t largest_rotated_m = 32;

struct Subject {
    Kernel kernel;
    std::string_view stands_for;  ///< the kernel that hands these products to this one
    std::string verified;
    RunReport report;
    std::size_t next_copy = 0;
    Samples samples;
};

class MatmulBench {
public:
    MatmulBench(const MatmulOptions& options, std::size_t most_threads)
        : options_(options),
          cache_(last_level_cache()),
          rotated_bytes_((options.quick ? 2 : 8) * cache_.bytes),
          threads_(metered_threads(most_threads, rotated_bytes_)) {}

    void run(const Shape& shape, const Format& format) {
        ExecutionContext context(*threads_.back().pool);
        MatmulCase matmul(format, shape.n, shape.k, rotated_bytes_, context);
        bool titled = false;
        for (const ActivationFormat& activations : timed_activations(format, options_.activations)) {
            if (activations.element == ActivationElement::int8 &&
                activations.granularity == Granularity::tensor) {
                // The verifier multiplies a few rows of x, and one grid for all rows is not theirs.
                refused_.push_back(
                    fmt::format("{} activations share one grid among the rows that are timed "
                                "together; a few of those rows cannot be verified alone",
                                name(activations)));
                say("\n{}\n", refused_.back());
                continue;
            }
            const MatmulQuery query{format, activations, 1, shape.n, shape.k, options_.fallback};
            if (const auto kernel = select_kernel(query); !kernel) {
                const std::string why =
                    fmt::format("{} with {} activations, {} x {}: {}", name(format), name(activations),
                                shape.n, shape.k, kernel.error().message);
                refused_.push_back(why);
                say("\n{}\n(--fallback allow times it all the same)\n", why);
                continue;
            }
            if (!titled) print_title(matmul);
            titled = true;
            const std::size_t rows = *std::max_element(options_.m.begin(), options_.m.end());
            const Matrix x = random_matrix(rows, shape.k, 2);
            Verifier verifier(matmul, x.view(), activations);
            for (const std::size_t m : options_.m)
                for (std::size_t t = 0; t < threads_.size(); ++t)
                    run(matmul, activations, x.view().rows_from(0, m), verifier, t);
        }
    }

    [[nodiscard]] bool wrong() const noexcept { return wrong_; }
    [[nodiscard]] Json json() const {
        return {
            {"cache_bytes", cache_.bytes}, {"cache_known", cache_.known}, {"rotated_bytes", rotated_bytes_},
            {"quick", options_.quick},     {"refused", refused_},         {"results", results_}};
    }
    [[nodiscard]] bool empty() const noexcept { return results_.empty(); }

private:
    void print_title(const MatmulCase& matmul) {
        say("\n{}, {} x {}: {:.2f} bits per weight, {}, {} {} in turn\n\n", name(matmul.format()), matmul.n(),
            matmul.k(), bits_per_weight(matmul.format(), matmul.n(), matmul.k()),
            bytes_text(static_cast<double>(matmul.weights().size_bytes())), matmul.copies(),
            matmul.copies() == 1 ? "copy" : "copies");
        say("{:>4} {:>3}  {:<11} {:<8} {:>8} {:>5} {:>6} {:>6}  {:>9} {:>9}\n", "M", "thr", "activations",
            "kernel", "time", "±", "GB/s", "GOPS", "of limit", "x generic");
        flush_out();
    }

    void run(MatmulCase& matmul, const ActivationFormat& activations, MatrixView<const float> x,
             Verifier& verifier, std::size_t t) {
        const std::size_t m = x.rows;
        const bool rotate = m <= largest_rotated_m;
        ExecutionContext context(*threads_[t].pool);
        const KeepAwake awake(context);  // as a model's products find the threads
        LimitMeter& meter = *threads_[t].meter;
        Matrix y(m, matmul.n());
        Progress progress(fmt::format("{}, M = {}", name(matmul.format()), m));

        std::vector<Subject> subjects;
        for (const Kernel& kernel : matmul.kernels(activations, m)) {
            Subject subject{kernel, {}, {}, {}, 0, {}};
            std::ranges::fill(y.values(), std::numeric_limits<float>::quiet_NaN());
            subject.report =
                expect(fewbit::matmul(kernel, x, matmul.packed(kernel.layout(), 0, context), y, {}, context));
            std::string complaint;
            const auto verified = verifier.verify(kernel, y, complaint);
            if (!verified) {
                note("fewbit: {}; it is not timed\n", complaint);
                wrong_ = true;
                continue;
            }
            const auto same = std::ranges::find_if(
                subjects, [&](const Subject& other) { return other.kernel.name() == subject.report.kernel; });
            if (same != subjects.end()) {  // it would be timed twice
                same->stands_for = kernel.name();
                continue;
            }
            subject.verified = *verified;
            if (rotate)  // made before the clock runs
                for (std::size_t copy = 0; copy < matmul.copies(); ++copy)
                    static_cast<void>(matmul.packed(kernel.layout(), copy, context));
            subjects.push_back(std::move(subject));
        }

        const std::string peak = arithmetic_limit(matmul.format(), activations, meter);
        Samples bandwidth, arithmetic;
        const std::size_t repetitions = options_.quick ? 3 : 7;
        const double slice = options_.quick ? 0.01 : 0.03;
        for (std::size_t repetition = 0; repetition < repetitions; ++repetition) {
            for (Subject& subject : subjects) {
                std::size_t products = 0;
                double seconds = 0;
                while (seconds < slice) {
                    const std::size_t copy = rotate ? subject.next_copy++ : 0;
                    const PackedMatrix& w = matmul.packed(subject.kernel.layout(), copy, context);
                    seconds +=
                        seconds_of([&] { expect(fewbit::matmul(subject.kernel, x, w, y, {}, context)); });
                    ++products;
                }
                subject.samples.seconds.push_back(seconds / static_cast<double>(products));
            }
            bandwidth.seconds.push_back(meter.once("read"));
            arithmetic.seconds.push_back(meter.once(peak));
            progress.update(repetition + 1, repetitions);
        }
        progress.clear();
        for (const Subject& subject : subjects)
            report(matmul, activations, m, t, subject, subjects, bandwidth.median(), peak,
                   arithmetic.median());
        flush_out();
    }

    void report(const MatmulCase& matmul, const ActivationFormat& activations, std::size_t m, std::size_t t,
                const Subject& subject, const std::vector<Subject>& subjects, double bytes_per_second,
                const std::string& peak, double operations_per_second) {
        const double seconds = subject.samples.median();
        const double operations =
            2.0 * static_cast<double>(m) * static_cast<double>(matmul.n()) * static_cast<double>(matmul.k());
        const auto bytes = static_cast<double>(subject.report.weight_bytes + subject.report.activation_bytes);
        const double memory_seconds = bytes / bytes_per_second,
                     compute_seconds = operations / operations_per_second;
        const double limit_seconds = std::max(memory_seconds, compute_seconds);
        const bool memory_bound = memory_seconds >= compute_seconds;
        const auto generic = std::find_if(subjects.begin(), subjects.end(),
                                          [](const Subject& s) { return s.kernel.isa() == Isa::generic; });
        const double ratio = generic == subjects.end() ? 0 : generic->samples.median() / seconds;
        const auto chosen =
            select_kernel({matmul.format(), activations, m, matmul.n(), matmul.k(), Fallback::allow});
        const bool is_chosen =
            chosen && (chosen->name() == subject.kernel.name() || chosen->name() == subject.stands_for);
        const std::size_t threads = threads_[t].pool->workers();

        say("{:>4} {:>3}  {:<11} {:<8} {:>8} {:>4.0f}% {:>6.1f} {:>6.1f}  {:>4.0f} % {}  {:>9}\n", m, threads,
            name(activations), name(subject.kernel.isa()), seconds_text(seconds),
            100 * subject.samples.spread(), bytes / seconds / 1e9, operations / seconds / 1e9,
            100 * limit_seconds / seconds, memory_bound ? "r" : "c",
            ratio == 0 ? "-" : fmt::format("{:.1f} x", ratio));
        results_.push_back({{"format", name(matmul.format())},
                            {"m", m},
                            {"n", matmul.n()},
                            {"k", matmul.k()},
                            {"activations", name(activations)},
                            {"isa", name(subject.kernel.isa())},
                            {"kernel", subject.kernel.name()},
                            {"chosen", is_chosen},
                            {"threads", threads},
                            {"median_seconds", seconds},
                            {"spread", subject.samples.spread()},
                            {"bytes", bytes},
                            {"operations", operations},
                            {"limit", memory_bound ? "read" : peak},
                            {"limit_per_second", memory_bound ? bytes_per_second : operations_per_second},
                            {"limit_share", limit_seconds / seconds},
                            {"ratio_to_generic", ratio == 0 ? Json() : Json(ratio)},
                            {"verified_against", subject.verified}});
    }

    const MatmulOptions& options_;
    CacheSize cache_;
    std::size_t rotated_bytes_;
    std::vector<MeteredThreads> threads_;
    std::vector<std::string> refused_;
    Json results_ = Json::array();
    bool wrong_ = false;
};

Shape parse_shape(const std::string& text) {
    const std::size_t cross = text.find('x');
    Shape shape{};
    const char* end = text.data() + text.size();
    if (cross != std::string::npos) {
        const auto n = std::from_chars(text.data(), text.data() + cross, shape.n);
        const auto k = std::from_chars(text.data() + cross + 1, end, shape.k);
        if (n.ptr == text.data() + cross && k.ptr == end && n.ec == std::errc() && k.ec == std::errc() &&
            shape.n > 0 && shape.k > 0) {
            const auto bytes = checked_product({shape.n, shape.k, sizeof(float)});
            if (bytes && *bytes <= std::size_t{1} << 36) return shape;
            throw CLI::ValidationError(
                "--shapes",
                fmt::format("a matrix of {} x {} is too large to be timed; 64 GiB as f32 are the most",
                            shape.n, shape.k));
        }
    }
    throw CLI::ValidationError(
        "--shapes", fmt::format("'{}' is not a shape; write output x input channels, as in 4096x4096", text));
}

Status run(MatmulOptions options, Program& program) {
    const auto or_default = [](auto& values, auto defaults) {
        if (values.empty()) values = std::move(defaults);
    };
    std::vector<Format> formats;
    for (const char* text : options.quick
                                ? std::vector{"int4-g32", "int4-g128", "int8-channel"}
                                : std::vector{"int4-g32", "int4-g128", "int8-g32", "int8-channel", "bf16"})
        formats.push_back(*parse_format(text));
    or_default(options.formats, std::move(formats));
    or_default(options.m,
               options.quick ? std::vector<std::size_t>{1, 64} : std::vector<std::size_t>{1, 8, 32, 512});
    or_default(options.shapes,
               options.quick ? std::vector<Shape>{{2048, 2048}} : std::vector<Shape>{{4096, 4096}});

    MatmulBench bench(options, program.executor().workers());
    for (const Shape& shape : options.shapes)
        for (const Format& format : options.formats) bench.run(shape, format);
    if (!bench.empty())
        say("\nMedians of alternating repetitions, ± between the quartiles, activations quantized\n"
            "within the time. Answers were verified first, against the double-precision\n"
            "reference (M > 4: four rows of each; the others against the generic kernel).\n"
            "of limit: r reading memory, c computing; both measured in turn with the kernels.\n");
    if (options.quick)
        say("--quick: weights fill 2 x the last-level cache, not 8 x; its hits flatter M = 1.\n");
    program.write_json("bench-matmul/1", bench.json());
    if (bench.wrong()) {
        note("fewbit: some kernels gave wrong answers; they were not timed\n");
        return Status::no;
    }
    return bench.empty() ? Status::no : Status::done;
}

}  // namespace

void add_bench_matmul(CLI::App& bench, Program& program) {
    auto options = std::make_shared<MatmulOptions>();
    CLI::App* command = program.add(bench, "matmul", "Time the kernels, fast ones against fallbacks",
                                    [=, &program] { return run(*options, program); });
    command->add_flag("--quick", options->quick, "Smaller matrices and fewer repetitions: half a minute");
    add_formats(*command, "--formats", options->formats, "Weight formats; the default is the common ones");
    command
        ->add_option_function<std::vector<std::string>>(
            "--m",
            [options](const std::vector<std::string>& texts) {
                options->m.clear();
                for (const std::string& text : texts)
                    options->m.push_back(parse_count("--m", text, 1, 1 << 20));
            },
            "Rows of activations; default 1,8,32,512")
        ->delimiter(',')
        ->allow_extra_args(false)
        ->type_name("M,...");
    command
        ->add_option_function<std::vector<std::string>>(
            "--shapes",
            [options](const std::vector<std::string>& texts) {
                options->shapes.clear();
                for (const std::string& text : texts) options->shapes.push_back(parse_shape(text));
            },
            "Weight shapes, output x input channels; default 4096x4096")
        ->delimiter(',')
        ->allow_extra_args(false)
        ->type_name("NxK,...");
    add_activation_list(*command, options->activations);
    add_fallback(*command, options->fallback);
}

}  // namespace fewbit::cli
