// Definitions of hqq.hpp.
#include "fewbit/quantize/hqq.hpp"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "fewbit/quantize/grid_fit.hpp"
#include "fewbit/quantize/row_blocks.hpp"
#include "fewbit/quantize/rtn.hpp"

namespace fewbit::inline v0 {
namespace {

using namespace detail;

/// Zero points of a group in steps of its scale, fractions too: what the iteration moves. What is stored is a candidate.
class ZeroSearch {
public:
    ZeroSearch(const Format& format, const HqqOptions& options, const float* w, std::size_t count)
        : format_(format), options_(options), w_(w), count_(count) {}

    [[nodiscard]] GroupGrid best(const GroupGrid& start) const {
        if (start.scale == 0) return start;
        const auto scale = static_cast<double>(start.scale);
        GroupGrid best = start;
        double least = error(start), beta = options_.beta;
        double zero =
            format_.offset == Offset::integer ? start.zero : -static_cast<double>(start.offset) / scale;
        for (int step = 0; step < options_.steps; ++step, beta *= options_.kappa) {
            const double next = moved(zero, scale, beta);
            if (next == zero || !std::isfinite(next)) break;
            zero = next;
            const GroupGrid stored = with_zero(start, zero);
            if (!std::isfinite(stored.offset)) break;
            if (const double lost = error(stored); lost < least) least = lost, best = stored;
        }
        return best;
    }

private:
    /// One step: the errors shrunk, the zero point that explains the rest.
    [[nodiscard]] double moved(double zero, double scale, double beta) const noexcept {
        const double low = format_.min_code(), high = format_.max_code();
        double sum = 0;
        for (std::size_t i = 0; i < count_; ++i) {
            const auto w = static_cast<double>(w_[i]);
            const double code = std::clamp(round_half_even(w / scale + zero), low, high);
            const double e = w - scale * (code - zero), size = std::abs(e);
            const double kept = size > 0 ? size - power(size, options_.exponent - 1) / beta : 0;
            const double shrunk = kept > 0 ? (e < 0 ? -kept : kept) : 0;
            sum += code - (w - shrunk) / scale;
        }
        return sum / static_cast<double>(count_);
    }

    [[nodiscard]] GroupGrid with_zero(GroupGrid grid, double zero) const noexcept {
        if (format_.offset == Offset::integer)
            grid.zero = static_cast<int>(
                std::clamp(round_half_even(zero), 0.0, static_cast<double>(format_.max_code())));
        else
            grid.offset = rounded_to(format_.scale, -zero * static_cast<double>(grid.scale)) + 0.0f;
        return grid;
    }

    /// sum |e|^p of a grid as it is stored.
    [[nodiscard]] double error(const GroupGrid& grid) const {
        const StepLevels levels(format_, grid);
        double sum = 0;
        for (std::size_t i = 0; i < count_; ++i) {
            const auto product = static_cast<float>(static_cast<double>(grid.scale) * levels.level(w_[i]));
            sum += power(std::abs(static_cast<double>(w_[i]) - static_cast<double>(product + grid.offset)),
                         options_.exponent);
        }
        return sum;
    }

    const Format& format_;
    const HqqOptions& options_;
    const float* w_;
    std::size_t count_;
};

}  // namespace

Result<Quantized> quantize_hqq(MatrixView<const float> w, const Format& format, const HqqOptions& options,
                               ExecutionContext context) {
    const std::string prefix = tensor_prefix(options.tensor);
    if (!(options.exponent >= 0.1 && options.exponent <= 2) || !(options.beta > 0 && options.beta < 1e12) ||
        !(options.kappa >= 1 && options.kappa <= 10) || options.steps < 0 || options.steps > 10000)
        return fail(ErrorKind::bad_input, prefix, "hqq options are out of range: exponent ", options.exponent,
                    " (0.1 to 2), beta ", options.beta, " (above 0), kappa ", options.kappa,
                    " (1 to 10), steps ", options.steps, " (0 to 10000)");
    if (format.element != Element::integer || format.offset == Offset::none ||
        format.granularity == Granularity::tensor)
        return fail(ErrorKind::unsupported, prefix, "hqq moves zero points of groups or rows, and ",
                    name(format), " has none; formats such as int4-g64-fzero and int4-g64-asym have");
    RtnOptions plain;
    plain.tensor = options.tensor;
    auto done = quantize_rtn(w, format, plain, context);
    if (!done) return done;
    QuantizedMatrix& out = done->linear.weights;
    const RowBlocks blocks(w.rows, w.cols);
    context.parallel_for(blocks.count, [&](std::size_t block, std::size_t) {
        const std::size_t group = out.group_elements(), groups = out.groups_per_row();
        std::vector<std::uint8_t> codes(w.cols), zeros(groups);
        for (std::size_t r = blocks.first(block); r < blocks.last(block) && w.cols != 0; ++r) {
            for (std::size_t g = 0; g < groups; ++g) {
                const std::size_t first = g * group, count = std::min(group, w.cols - first);
                const float* const run = w.row(r).data() + first;
                const GroupGrid start{out.scale(r, g), out.zero(r, g), out.offset(r, g)};
                const GroupGrid grid = ZeroSearch(format, options, run, count).best(start);
                encode_run(format, grid, run, count, codes.data() + first);
                if (format.offset == Offset::real) out.set_offset(r, g, grid.offset);
                zeros[g] = static_cast<std::uint8_t>(grid.zero);
            }
            out.codes.pack_row(r, codes);
            if (format.offset == Offset::integer) out.zeros.pack_row(r, zeros);
        }
    });
    replace_errors(done->report, measure_error(w, out, context));
    done->report.method = "hqq";
    return done;
}

}  // namespace fewbit::inline v0
