// The builds of the operators, and which of them runs.
#pragma once

#include <span>

#include "fewbit/model/operator_code.hpp"

namespace fewbit::inline v0::model {

/// The strongest build that this CPU runs and FEWBIT_FORCE_ISA, if it names an instruction set, reaches: a forced
/// set without a build of its own takes the next weaker one.
[[nodiscard]] const OperatorCode& chosen_operators() noexcept;

}  // namespace fewbit::inline v0::model
