// Allocation: which tensor gets how many bits, so that the sum of costs is small and the sum of bits within a budget (a
// multiple-choice knapsack).
//
//   start with the cheapest option of every tensor; of all changes to an option of more bits and less cost that still fit,
//   make the one that saves the most cost per bit; repeat
//
// As long as every best change fits, these are the steps along the tensors' lower convex hulls, which is what bisecting the
// multiplier of min sum cost + multiplier * sum bits finds: optimal for the bits that they use. The first best change that
// does not fit is the critical one; what follows fills the rest of the budget. No plan within the budget costs less than
// `lower_bound`, which lies less than the critical change's saving below `cost`.
// (Sinha and Zoltners 1979, The multiple-choice knapsack problem.)
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "fewbit/core/config.hpp"
#include "fewbit/core/result.hpp"

namespace fewbit::inline v0::pipeline {

struct AllocationOption {
    double bits = 0;  ///< of the whole tensor, scales and all
    double cost = 0;  ///< any unit in which costs of tensors add up
};

struct AllocationItem {
    std::string name;  ///< unique; decides between changes that are equally good
    double weights = 0;
    std::vector<AllocationOption> options;  ///< in any order
};

struct Allocation {
    std::vector<std::size_t> choices;  ///< index of its option, for every item in their order
    double weights = 0;
    double bits = 0;
    double cost = 0;
    double lower_bound = 0;  ///< of the cost of any plan within the budget

    [[nodiscard]] double bits_per_weight() const noexcept { return weights > 0 ? bits / weights : 0; }
};

/// A plan of at most `bits_per_weight` times all weights. It depends on names, not on the order of items or options (of
/// options that are equal the first is taken), and a larger budget never costs more. No items: an empty plan.
/// Errors: a budget below the cheapest plan, which names the least that can be reached; an item without options; names that
/// repeat; weights, bits or costs that are negative or not finite. By name.
[[nodiscard]] FEWBIT_API Result<Allocation> allocate(std::span<const AllocationItem> items,
                                                     double bits_per_weight);

}  // namespace fewbit::inline v0::pipeline
