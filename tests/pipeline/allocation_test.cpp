// Allocation of bits against an exhaustive search, and its laws: within the budget, no dearer for more budget, the same for
// any order of tensors and options.
#include "fewbit/pipeline/allocation.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>
#include <vector>

#include "support/catch.hpp"
#include "support/random.hpp"

using namespace fewbit;
using namespace fewbit::pipeline;

namespace {

/// Options of about 2 to 8 bits per weight whose costs fall, mostly, with the bits: not all lie on the hull.
std::vector<AllocationItem> random_items(testing::Random& random, std::size_t count, std::size_t options) {
    std::vector<AllocationItem> items;
    for (std::size_t i = 0; i < count; ++i) {
        AllocationItem item{text("layer ", i), 64.0 * static_cast<double>(1 + random.below(4)), {}};
        const double scale = random.uniform(0.1, 10);
        for (std::size_t o = 0; o < options; ++o) {
            const auto bits = static_cast<double>(2 + random.below(7));
            item.options.push_back(
                {bits * item.weights, scale * std::exp2(-2 * bits) * random.uniform(0.3, 3)});
        }
        items.push_back(std::move(item));
    }
    return items;
}

struct Totals {
    double bits = 0, cost = 0;
};
Totals totals(const std::vector<AllocationItem>& items, const std::vector<std::size_t>& choices) {
    Totals sum;
    for (std::size_t i = 0; i < items.size(); ++i) {
        sum.bits += items[i].options[choices[i]].bits;
        sum.cost += items[i].options[choices[i]].cost;
    }
    return sum;
}

/// The least cost within a budget of bits, by trying all plans; infinity where none fits.
double least_cost(const std::vector<AllocationItem>& items, double budget) {
    std::vector<std::size_t> choices(items.size());
    double least = std::numeric_limits<double>::infinity();
    for (;;) {
        const Totals sum = totals(items, choices);
        if (sum.bits <= budget) least = std::min(least, sum.cost);
        std::size_t i = 0;
        while (i < items.size() && ++choices[i] == items[i].options.size()) choices[i++] = 0;
        if (i == items.size()) return least;
    }
}

/// The largest saving of one change of one item from an option to another.
double largest_step(const std::vector<AllocationItem>& items) {
    double largest = 0;
    for (const AllocationItem& item : items) {
        const auto [low, high] = std::ranges::minmax_element(item.options, {}, &AllocationOption::cost);
        largest = std::max(largest, high->cost - low->cost);
    }
    return largest;
}

double weights_of(const std::vector<AllocationItem>& items) {
    double sum = 0;
    for (const AllocationItem& item : items) sum += item.weights;
    return sum;
}

}  // namespace

TEST_CASE("allocation: within a step of the best of all plans, which its bound never exceeds") {
    testing::Random random(1);
    for (int trial = 0; trial < 60; ++trial) {
        const auto items = random_items(random, 2 + random.below(4), 2 + random.below(4));
        const double weights = weights_of(items);
        for (double target = 2; target <= 8; target += 0.37) {
            const double best = least_cost(items, target * weights);
            const auto plan = allocate(items, target);
            INFO("trial " << trial << ", target " << target);
            REQUIRE(plan.has_value() == (best < std::numeric_limits<double>::infinity()));
            if (!plan) continue;
            const Totals sum = totals(items, plan->choices);
            CHECK(plan->bits == sum.bits);  // integers
            CHECK(plan->bits <= target * weights);
            const double rounding = 1e-12 * (1 + sum.cost) * static_cast<double>(items.size());
            CHECK(std::abs(plan->cost - sum.cost) <= rounding);
            CHECK(plan->lower_bound <= best + rounding);
            CHECK(plan->cost >= best - rounding);
            CHECK(plan->cost <= plan->lower_bound + largest_step(items));
        }
    }
}

TEST_CASE("allocation: optimal wherever a hull's step ends at the budget") {
    // Two layers on their hulls: 2, 3, 4 bits, each bit saves a quarter of what the one before did.
    const std::vector<AllocationItem> items{{"a", 100, {{200, 16}, {300, 4}, {400, 1}}},
                                            {"b", 100, {{200, 8}, {300, 2}, {400, 0.5}}}};
    for (const double target : {2.0, 2.5, 3.0, 3.5, 4.0}) {
        const auto plan = allocate(items, target);
        REQUIRE(plan);
        CHECK(plan->bits == target * 200);
        CHECK(plan->cost == least_cost(items, target * 200));
        CHECK(plan->lower_bound == plan->cost);
    }
}

TEST_CASE("allocation: more budget never costs more") {
    testing::Random random(2);
    for (int trial = 0; trial < 40; ++trial) {
        const auto items = random_items(random, 2 + random.below(12), 2 + random.below(6));
        double before = std::numeric_limits<double>::infinity();
        for (double target = 2; target <= 8.5; target += 0.03) {
            const auto plan = allocate(items, target);
            if (!plan) continue;
            INFO("trial " << trial << ", target " << target);
            CHECK(plan->cost <= before * (1 + 1e-12));
            before = plan->cost;
        }
    }
}

TEST_CASE("allocation: the order of tensors and options does not matter") {
    testing::Random random(3);
    for (int trial = 0; trial < 40; ++trial) {
        auto items = random_items(random, 8, 5);
        // Ties: the same options under other names.
        for (std::size_t i = 1; i < items.size(); i += 2) {
            items[i].options = items[i - 1].options;
            items[i].weights = items[i - 1].weights;
        }
        for (AllocationItem& item : items)  // no two options alike, or their order could decide
            for (std::size_t o = 0; o < item.options.size(); ++o)
                item.options[o].bits += static_cast<double>(o);
        auto shuffled = items;
        random.shuffle(std::span(shuffled));
        for (AllocationItem& item : shuffled) std::ranges::reverse(item.options);
        const auto plan = allocate(items, 4.5), other = allocate(shuffled, 4.5);
        REQUIRE((plan && other));
        CHECK(plan->cost == other->cost);
        for (std::size_t i = 0; i < shuffled.size(); ++i) {
            const auto same = std::ranges::find(items, shuffled[i].name, &AllocationItem::name);
            const std::size_t at = static_cast<std::size_t>(same - items.begin());
            CHECK(shuffled[i].options[other->choices[i]].bits == same->options[plan->choices[at]].bits);
        }
    }
}

TEST_CASE("allocation: refusals name the values") {
    const std::vector<AllocationItem> items{{"a", 100, {{225, 4}, {325, 1}}}, {"b", 300, {{675, 2}}}};
    const auto small = allocate(items, 2.2);
    REQUIRE_FALSE(small);
    CHECK(small.error().message.find("2.2") != std::string::npos);
    CHECK(small.error().message.find("2.25") != std::string::npos);
    CHECK(allocate(items, 2.25)->cost == 6);
    CHECK(allocate(items, 2.5)->cost == 3);
    CHECK_FALSE(allocate(items, std::numeric_limits<double>::quiet_NaN()));
    CHECK(allocate(std::vector<AllocationItem>{}, 3)->choices.empty());
    auto bad = items;
    bad[1].options.clear();
    CHECK(allocate(bad, 3).error().message == "'b' has no options");
    bad = items;
    bad[1].name = "a";
    CHECK(allocate(bad, 3).error().message == "there are two tensors 'a'");
    bad = items;
    bad[0].options[1].cost = std::numeric_limits<double>::infinity();
    CHECK(allocate(bad, 3).error().message.find("'a'") == 0);
}
