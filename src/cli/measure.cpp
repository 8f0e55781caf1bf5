// Measuring time, and the limits of the machine.
#include "src/cli/measure.hpp"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <fstream>
#include <map>

#include "fewbit/core/tensor.hpp"
#include "fewbit/matmul/isa.hpp"
#include "src/cli/command.hpp"

#if defined(__unix__) || defined(__APPLE__)
#include <sys/mman.h>
#include <unistd.h>
#endif

namespace fewbit::cli {
namespace {

double quantile(std::vector<double> values, double q) {
    if (values.empty()) return 0;
    std::sort(values.begin(), values.end());
    const double at = q * static_cast<double>(values.size() - 1);
    const auto low = static_cast<std::size_t>(at);
    const std::size_t high = std::min(low + 1, values.size() - 1);
    return values[low] + (at - static_cast<double>(low)) * (values[high] - values[low]);
}

constexpr std::size_t huge_page_bytes = std::size_t{2} << 20;

/// What the loops return goes here, so that nobody may skip them.
std::atomic<std::uint64_t> sink{0};

}  // namespace

double Samples::median() const { return quantile(seconds, 0.5); }

double Samples::spread() const {
    const double middle = median();
    return middle == 0 ? 0 : (quantile(seconds, 0.75) - quantile(seconds, 0.25)) / middle;
}

CacheSize last_level_cache() {
    // sysfs knows on every Linux; the highest index is the last level.
    std::size_t largest = 0;
    for (int index = 0; index < 8; ++index) {
        std::ifstream file(fmt::format("/sys/devices/system/cpu/cpu0/cache/index{}/size", index));
        std::size_t value = 0;
        char unit = 'B';
        if (!(file >> value)) continue;
        file >> unit;
        largest = std::max(largest, value * (unit == 'K' ? 1024 : unit == 'M' ? 1024 * 1024 : 1));
    }
    if (largest > 0) return {largest, true};
    return {std::size_t{32} << 20, false};
}

ReadBuffer::ReadBuffer(std::size_t bytes, bool huge_pages) : bytes_(round_up(bytes, huge_page_bytes)) {
    memory_ = allocate_host(bytes_, huge_page_bytes);
    if (!memory_)
        throw Failure(fmt::format("no memory for a buffer of {}", bytes_text(static_cast<double>(bytes_))));
#if defined(MADV_HUGEPAGE)
    madvise(memory_.get(), bytes_, huge_pages ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
#else
    static_cast<void>(huge_pages);
#endif
    std::memset(memory_.get(), 1, bytes_);
}

struct LimitMeter::Way {
    std::string name;
    const ComputeLimit* compute = nullptr;
    const ReadLimit* read = nullptr;
    const ReadBuffer* buffer = nullptr;
    std::string pages;
    std::size_t iterations = 0;  // of arithmetic, for about 5 ms
};

struct LimitMeter::Ways {
    Ways(std::size_t bytes) : small(bytes, false), huge(bytes, true) {}
    ReadBuffer small;
    ReadBuffer huge;
    std::vector<Way> all;
    std::map<std::string, const Way*> chosen;
};

LimitMeter::LimitMeter(std::size_t buffer_bytes, Executor& executor)
    : executor_(&executor), ways_(std::make_shared<Ways>(buffer_bytes)) {
    for (const ReadLimit& read : read_limits()) {
        ways_->all.push_back({"read", nullptr, &read, &ways_->small, "4k", 0});
        ways_->all.push_back({"read", nullptr, &read, &ways_->huge, "huge", 0});
    }
    for (const ComputeLimit& compute : compute_limits()) {
        std::size_t iterations = 1024;
        while (seconds_of([&] { sink += compute.run(iterations); }) < 5e-3) iterations *= 2;
        ways_->all.push_back({std::string(compute.name), &compute, nullptr, nullptr, "", iterations});
    }
}

double LimitMeter::run(const Way& way) {
    const std::size_t lanes = executor_->workers();
    return seconds_of([&] {
        executor_->parallel_for(lanes, [&](std::size_t lane, std::size_t) {
            if (way.compute != nullptr) {
                sink += way.compute->run(way.iterations);
                return;
            }
            const std::size_t pages = way.buffer->size_bytes() / 4096;
            const std::size_t begin = lane * pages / lanes, end = (lane + 1) * pages / lanes;
            sink += way.read->run(way.buffer->data() + begin * 4096, (end - begin) * 4096);
        });
    });
}

std::vector<Limit> LimitMeter::measure(std::size_t repetitions,
                                       const std::function<void(std::size_t, std::size_t)>& progress) {
    std::vector<Limit> limits;
    const auto lanes = static_cast<double>(executor_->workers());
    for (const Way& way : ways_->all) {
        Limit limit;
        limit.name = way.name;
        limit.pages = way.pages;
        limit.isa = name(way.compute ? way.compute->isa : way.read->isa);
        limit.variant = way.compute ? way.compute->instructions : way.read->name;
        limit.units = way.compute ? way.compute->operations * static_cast<double>(way.iterations) * lanes
                                  : static_cast<double>(way.buffer->size_bytes());
        limits.push_back(std::move(limit));
    }
    for (std::size_t repetition = 0; repetition < repetitions; ++repetition)
        for (std::size_t i = 0; i < limits.size(); ++i) {
            limits[i].samples.seconds.push_back(run(ways_->all[i]));
            if (progress) progress(repetition * limits.size() + i + 1, repetitions * limits.size());
        }
    return limits;
}

void LimitMeter::choose(const std::vector<Limit>& limits) {
    std::map<std::string, double> best;
    for (std::size_t i = 0; i < limits.size(); ++i)
        if (double& value = best[limits[i].name]; limits[i].per_second() > value) {
            value = limits[i].per_second();
            ways_->chosen[limits[i].name] = &ways_->all[i];
        }
}

double LimitMeter::once(const std::string& name) {
    const auto found = ways_->chosen.find(name);
    if (found == ways_->chosen.end()) return 0;
    const Way& way = *found->second;
    const double units =
        way.compute ? way.compute->operations * static_cast<double>(way.iterations * executor_->workers())
                    : static_cast<double>(way.buffer->size_bytes());
    return units / run(way);
}

}  // namespace fewbit::cli
