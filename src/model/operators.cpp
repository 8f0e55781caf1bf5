// The operators of a decoder, row by row over the lanes; the arithmetic of a row lies in kernels/operators, that of
// attention in attention.cpp.
#include "fewbit/model/operators.hpp"

#include <cmath>

#include "src/model/chosen_operators.hpp"
#include "src/model/for_rows.hpp"

namespace fewbit::inline v0::model {
void rms_norm(MatrixView<const float> x, std::span<const float> gain, float epsilon, MatrixView<float> y,
              ExecutionContext context) {
    const OperatorCode& code = chosen_operators();
    for_rows(context, x.rows, x.cols, [&](std::size_t m) {
        code.rms_norm(x.row(m).data(), gain.data(), epsilon, y.row(m).data(), x.cols);
    });
}

void rope_table(std::size_t first_position, float base, MatrixView<float> table, ExecutionContext context) {
    const auto head_dim = static_cast<double>(table.cols);
    for_rows(context, table.rows, 32 * table.cols, [&](std::size_t m) {
        for (std::size_t i = 0; i + 1 < table.cols; i += 2) {
            const double frequency = std::pow(static_cast<double>(base), -static_cast<double>(i) / head_dim);
            const double angle = static_cast<double>(first_position + m) * frequency;
            table(m, i) = static_cast<float>(std::cos(angle));
            table(m, i + 1) = static_cast<float>(std::sin(angle));
        }
    });
}

void rope(MatrixView<float> x, std::size_t heads, MatrixView<const float> table, ExecutionContext context) {
    const OperatorCode& code = chosen_operators();
    for_rows(context, x.rows, x.cols,
             [&](std::size_t m) { code.rope(x.row(m).data(), table.row(m).data(), heads, table.cols); });
}

void silu_multiply(MatrixView<float> gate, MatrixView<const float> up, ExecutionContext context) {
    const OperatorCode& code = chosen_operators();
    for_rows(context, gate.rows, 2 * gate.cols,
             [&](std::size_t m) { code.silu_multiply(gate.row(m).data(), up.row(m).data(), gate.cols); });
}

void add(MatrixView<float> x, MatrixView<const float> y, ExecutionContext context) {
    const OperatorCode& code = chosen_operators();
    for_rows(context, x.rows, x.cols,
             [&](std::size_t m) { code.add(x.row(m).data(), y.row(m).data(), x.cols); });
}

}  // namespace fewbit::inline v0::model
