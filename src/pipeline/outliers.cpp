// Definitions of pipeline/outliers.hpp.
#include "fewbit/pipeline/outliers.hpp"

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <map>
#include <utility>

#include "fewbit/core/random.hpp"
#include "fewbit/core/tensor.hpp"
#include "fewbit/core/text.hpp"

namespace fewbit::inline v0::pipeline {
namespace {

/// `count` different channels of `dim`, ascending; only integer arithmetic, so the same everywhere.
std::vector<std::size_t> choose_channels(std::size_t dim, std::size_t count, std::uint64_t seed) {
    std::vector<std::size_t> channels;
    while (channels.size() < count) {
        const auto channel = static_cast<std::size_t>(splitmix_next(seed) % dim);
        const auto place = std::lower_bound(channels.begin(), channels.end(), channel);
        if (place == channels.end() || *place != channel) channels.insert(place, channel);
    }
    return channels;
}

/// What is going to replace parts of the file, once nothing can fail any more.
class OutlierChange {
public:
    OutlierChange(const io::ModelFile& file, OutlierReport& report) : file_(file), report_(report) {}

    /// One norm and the matrices that read it.
    Result<void> apply(const std::string& prefix, const char* norm,
                       std::initializer_list<const char*> readers) {
        if (auto done = multiply(prefix + norm); !done) return done;
        for (const char* reader : readers)
            if (auto done = divide(prefix + reader); !done) return done;
        return {};
    }

    void commit(io::ModelFile& file) && {
        for (auto& [name, gains] : gains_) file.vectors[name] = std::move(gains);
        for (auto& [name, weights] : weights_) file.linears[name].weights = std::move(weights);
    }

private:
    Result<void> multiply(const std::string& name) {
        const auto found = file_.vectors.find(name);
        if (found == file_.vectors.end())
            return fail(ErrorKind::bad_input, "the ", file_.type, " model has no norm '", name, "'");
        if (found->second.size() != report_.dim)
            return fail(ErrorKind::bad_input, "norm '", name, "' has ", found->second.size(),
                        " gains; the model's shape asks for ", report_.dim);
        std::vector<float> gains = found->second;
        for (const std::size_t c : report_.channels) {
            const double product = static_cast<double>(gains[c]) * report_.factor;
            if (std::isfinite(gains[c]) && gains[c] != 0 && !fits(product))
                return fail(ErrorKind::bad_input, "outliers of factor ", report_.factor, ": gain ", c,
                            " of norm '", name, "' is ", gains[c], ", and f32 cannot hold the product");
            gains[c] = static_cast<float>(product);
        }
        gains_.emplace(name, std::move(gains));
        report_.norms.push_back(name);
        return {};
    }

    Result<void> divide(const std::string& name) {
        const auto found = file_.linears.find(name);
        if (found == file_.linears.end())
            return fail(ErrorKind::bad_input, "the ", file_.type, " model has no matrix '", name, "'");
        const Linear& linear = found->second;
        auto w =
            plain_floats(linear, name, "outliers are added to float models, before anything is quantized");
        if (!w) return Unexpected{std::move(w).error()};
        if (linear.k() != report_.dim)
            return fail(ErrorKind::bad_input, "matrix '", name, "' has ", linear.k(),
                        " columns; the model's shape asks for ", report_.dim);
        double largest = 0;
        for (std::size_t r = 0; r < w->rows(); ++r)
            for (const std::size_t c : report_.channels) {
                const double quotient = static_cast<double>((*w)(r, c)) / report_.factor;
                if (std::isfinite(quotient)) largest = std::max(largest, std::fabs(quotient));
                (*w)(r, c) = static_cast<float>(quotient);
            }
        // What goes below the normal numbers then is below 2^-24 of the largest.
        if (largest != 0 && !fits(largest, 0x1p-102))
            return fail(ErrorKind::bad_input, "outliers of factor ", report_.factor,
                        ": the largest weight of '", name, "' in their columns would become ", largest,
                        ", which f32 cannot hold in full");
        auto weights = float_matrix(std::as_const(*w).view());
        if (!weights) return Unexpected{std::move(weights).error().within(name)};
        if (element_scalar(linear.weights.format()) != Scalar::f32) report_.widened.push_back(name);
        report_.readers.push_back(name);
        weights_.emplace(name, *std::move(weights));
        return {};
    }

    static bool fits(double value, double least = 0x1p-126) {
        return std::fabs(value) >= least && std::fabs(value) <= 0x1.fffffep127;
    }

    const io::ModelFile& file_;
    OutlierReport& report_;
    std::map<std::string, std::vector<float>> gains_;
    std::map<std::string, QuantizedMatrix> weights_;
};

}  // namespace

std::string OutlierReport::text() const {
    std::string list;
    for (std::size_t i = 0; i < channels.size() && i < 8; ++i)
        list += fewbit::text(i == 0 ? "" : ", ", channels[i]);
    if (channels.size() > 8) list += ", ...";
    std::string out = fewbit::text("factor ", factor, " in channel", channels.size() == 1 ? " " : "s ", list,
                                   " of ", dim, ", made in ", norms.size(), " norms");
    if (!skipped.empty()) out += "; not in model.norm: " + skipped;
    if (!widened.empty()) out += fewbit::text("; ", widened.size(), " matrices of 16-bit weights became f32");
    return out;
}

Result<OutlierReport> add_outliers(io::ModelFile& file, double factor, std::uint64_t seed) {
    if (!std::isfinite(factor) || factor <= 0)
        return fail(ErrorKind::bad_input, "outliers of factor ", factor,
                    ": the factor must be finite and greater than 0");
    const io::ModelShape& s = file.shape;
    if (s.dim == 0 || s.layers == 0)
        return fail(ErrorKind::bad_input, "outliers are added to decoders; the ", file.type, " model has ",
                    s.layers, " layers of ", s.dim, " channels");
    OutlierReport report;
    report.factor = factor;
    report.dim = s.dim;
    report.channels =
        choose_channels(s.dim, std::max<std::size_t>(1, s.dim / 100 + (s.dim % 100 >= 50)), seed);
    OutlierChange change(file, report);
    for (std::size_t i = 0; i < s.layers; ++i) {
        const std::string prefix = text("model.layers.", i, ".");
        if (auto done = change.apply(prefix, "input_layernorm",
                                     {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"});
            !done)
            return Unexpected{std::move(done).error()};
        if (auto done = change.apply(prefix, "post_attention_layernorm", {"mlp.gate_proj", "mlp.up_proj"});
            !done)
            return Unexpected{std::move(done).error()};
    }
    if (s.tied_head) {
        report.skipped = "the head is the embedding, which the first block reads too";
    } else if (auto done = change.apply("", "model.norm", {"lm_head"}); !done) {
        return Unexpected{std::move(done).error()};
    }
    std::move(change).commit(file);
    std::string& said = file.metadata["outliers"];
    said += (said.empty() ? "" : "; then ") + report.text();
    return report;
}

}  // namespace fewbit::inline v0::pipeline
