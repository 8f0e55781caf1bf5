// `fewbit bench limits`: what this machine can read and compute at best, measured.
#include <CLI/CLI.hpp>

#include "src/cli/bench.hpp"
#include "src/cli/measure.hpp"

namespace fewbit::cli {
namespace {

struct LimitsOptions {
    bool quick = false;
};

std::string rate(const Limit& limit) {
    return limit.name == "read" ? fmt::format("{:.1f} GB/s", limit.per_second() / 1e9)
                                : fmt::format("{:.1f} GOPS", limit.per_second() / 1e9);
}

Json json_of(const Limit& limit, std::size_t threads, bool best) {
    return {{"name", limit.name},
            {"variant", limit.variant},
            {"isa", limit.isa},
            {"pages", limit.pages},
            {"threads", threads},
            {"unit", limit.name == "read" ? "bytes" : "operations"},
            {"units", limit.units},
            {"median_seconds", limit.samples.median()},
            {"spread", limit.samples.spread()},
            {"per_second", limit.per_second()},
            {"best", best}};
}

Status run(const LimitsOptions& options, Program& program) {
    const CacheSize cache = last_level_cache();
    const std::size_t times = options.quick ? 2 : 8;
    const std::size_t buffer = times * cache.bytes;
    const std::size_t repetitions = options.quick ? 5 : 15;
    say("Reading {} ({} x the last-level cache of {}{}); arithmetic stays in registers.\n",
        bytes_text(static_cast<double>(buffer)), times, bytes_text(static_cast<double>(cache.bytes)),
        cache.known ? "" : ", which is a guess");
    if (options.quick) say("--quick: a cache may hold a part of that; the real limit is lower.\n");
    Json results = Json::array();
    for (const std::size_t threads : thread_counts(program.executor().workers())) {
        ThreadPool pool(threads);
        LimitMeter meter(buffer, pool);
        std::vector<Limit> limits;
        {
            Progress progress(fmt::format("limits, {} thread{}", threads, threads == 1 ? "" : "s"));
            limits = meter.measure(
                repetitions, [&](std::size_t done, std::size_t total) { progress.update(done, total); });
        }
        Table table({{"limit"},
                     {"isa"},
                     {"how"},
                     {"rate", Table::Align::right},
                     {"spread", Table::Align::right},
                     {""}});
        for (const Limit& limit : limits) {
            bool best = true;
            for (const Limit& other : limits)
                best = best && (other.name != limit.name || other.per_second() <= limit.per_second());
            const std::string how =
                limit.pages.empty() ? limit.variant : fmt::format("{}, {} pages", limit.variant, limit.pages);
            table.add({limit.name, limit.isa, how, rate(limit),
                       fmt::format("{:.0f} %", 100 * limit.samples.spread()), best ? "best" : ""});
            results.push_back(json_of(limit, threads, best));
        }
        say("\n{} thread{}\n\n{}", threads, threads == 1 ? "" : "s", table.text());
    }
    say("\nMedians of {} alternating repetitions; spread: between the quartiles. A multiply-add\n"
        "counts as two operations.\n",
        repetitions);
    program.write_json("bench-limits/1", {{"cache_bytes", cache.bytes},
                                          {"cache_known", cache.known},
                                          {"buffer_bytes", buffer},
                                          {"repetitions", repetitions},
                                          {"quick", options.quick},
                                          {"results", results}});
    return Status::done;
}

}  // namespace

void add_bench_limits(CLI::App& bench, Program& program) {
    auto options = std::make_shared<LimitsOptions>();
    CLI::App* command = program.add(bench, "limits", "Measure how fast this machine reads and computes",
                                    [=, &program] { return run(*options, program); });
    command->add_flag("--quick", options->quick,
                      "Less memory (2 x the cache instead of 8 x) and fewer repetitions");
}

}  // namespace fewbit::cli
