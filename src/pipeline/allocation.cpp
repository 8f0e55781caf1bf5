// Definitions of pipeline/allocation.hpp.
#include "fewbit/pipeline/allocation.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <optional>

#include "fewbit/core/text.hpp"

namespace fewbit::inline v0::pipeline {
namespace {

[[nodiscard]] bool is_amount(double value) noexcept { return std::isfinite(value) && value >= 0; }

[[nodiscard]] Result<void> check(const AllocationItem& item) {
    if (item.options.empty()) return fail(ErrorKind::bad_input, "'", item.name, "' has no options");
    if (!is_amount(item.weights))
        return fail(ErrorKind::bad_input, "'", item.name, "' has ", item.weights, " weights");
    for (const AllocationOption& option : item.options)
        if (!is_amount(option.bits) || !is_amount(option.cost))
            return fail(ErrorKind::bad_input, "'", item.name, "' has an option of ", option.bits,
                        " bits that costs ", option.cost, "; both are finite and at least 0");
    return {};
}

/// From one option of an item to another of more bits and less cost.
struct Change {
    std::size_t item = 0;  ///< its place among the names
    std::size_t option = 0;
    double bits = 0;   ///< more
    double saved = 0;  ///< cost

    /// More cost saved per bit; of equally good ones the larger, then the one of the first name.
    [[nodiscard]] bool is_better_than(const Change& other) const noexcept {
        const double mine = saved * other.bits, others = other.saved * bits;
        if (mine != others) return mine > others;
        if (saved != other.saved) return saved > other.saved;
        return item < other.item;
    }
};

class Allocator {
public:
    Allocator(std::span<const AllocationItem> items, std::vector<std::size_t> order)
        : items_(items), order_(std::move(order)) {
        for (const std::size_t i : order_) {
            const std::vector<AllocationOption>& options = items_[i].options;
            const auto cheapest =
                std::ranges::min_element(options, [](const AllocationOption& a, const AllocationOption& b) {
                    return a.bits != b.bits ? a.bits < b.bits : a.cost < b.cost;
                });
            chosen_.push_back(static_cast<std::size_t>(cheapest - options.begin()));
        }
    }

    [[nodiscard]] double bits() const { return sum(&AllocationOption::bits); }
    [[nodiscard]] double cost() const { return sum(&AllocationOption::cost); }

    /// The best change of all, or of those that need at most `room` bits.
    [[nodiscard]] std::optional<Change> best_change(double room = HUGE_VAL) const {
        std::optional<Change> best;
        for (std::size_t i = 0; i < order_.size(); ++i) {
            const std::vector<AllocationOption>& options = items_[order_[i]].options;
            const AllocationOption& now = options[chosen_[i]];
            for (std::size_t o = 0; o < options.size(); ++o) {
                const Change change{i, o, options[o].bits - now.bits, now.cost - options[o].cost};
                if (change.bits <= 0 || change.saved <= 0 || change.bits > room) continue;
                if (!best || change.is_better_than(*best)) best = change;
            }
        }
        return best;
    }
    void make(const Change& change) { chosen_[change.item] = change.option; }

    [[nodiscard]] std::vector<std::size_t> choices() const {
        std::vector<std::size_t> out(items_.size());
        for (std::size_t i = 0; i < order_.size(); ++i) out[order_[i]] = chosen_[i];
        return out;
    }

private:
    /// In the order of names, so that the order of items does not matter.
    [[nodiscard]] double sum(double AllocationOption::*member) const {
        double total = 0;
        for (std::size_t i = 0; i < order_.size(); ++i)
            total += items_[order_[i]].options[chosen_[i]].*member;
        return total;
    }

    std::span<const AllocationItem> items_;
    std::vector<std::size_t> order_;   ///< indices of items in the order of their names
    std::vector<std::size_t> chosen_;  ///< option by place in order_
};

}  // namespace

Result<Allocation> allocate(std::span<const AllocationItem> items, double bits_per_weight) {
    if (!is_amount(bits_per_weight))
        return fail(ErrorKind::bad_input, "a budget of ", bits_per_weight, " bits per weight is none");
    std::vector<std::size_t> order(items.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::ranges::sort(order, {}, [&](std::size_t i) -> const std::string& { return items[i].name; });
    Allocation result;
    for (std::size_t i = 0; i < order.size(); ++i) {
        const AllocationItem& item = items[order[i]];
        if (auto valid = check(item); !valid) return Unexpected{std::move(valid).error()};
        if (i > 0 && items[order[i - 1]].name == item.name)
            return fail(ErrorKind::bad_input, "there are two tensors '", item.name, "'");
        result.weights += item.weights;
    }
    Allocator plan(items, std::move(order));
    const double budget = bits_per_weight * result.weights, least = plan.bits();
    if (least > budget)
        return fail(ErrorKind::bad_input, "a budget of ", bits_per_weight,
                    " bits per weight is too small: the smallest option of every tensor together has ",
                    least / result.weights);
    // Steps along the hulls until one does not fit: the bound is what a part of that one would save.
    result.lower_bound = 0;
    bool bounded = false;
    for (;;) {
        const double room = budget - plan.bits();
        if (!bounded) {
            const auto best = plan.best_change();
            if (!best || best->bits > room) {
                result.lower_bound = plan.cost() - (best ? best->saved * (room / best->bits) : 0);
                bounded = true;
            }
        }
        const auto fitting = plan.best_change(room);
        if (!fitting) break;
        plan.make(*fitting);
    }
    result.choices = plan.choices();
    result.bits = plan.bits();
    result.cost = plan.cost();
    return result;
}

}  // namespace fewbit::inline v0::pipeline
