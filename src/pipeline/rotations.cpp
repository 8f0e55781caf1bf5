// Definitions of pipeline/rotations.hpp: read rotate() from its middle, where every matrix of a block has its line.
#include "fewbit/pipeline/rotations.hpp"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <map>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "fewbit/core/checked.hpp"
#include "fewbit/core/random.hpp"
#include "fewbit/core/text.hpp"
#include "fewbit/formats/hadamard.hpp"

namespace fewbit::inline v0::pipeline {
namespace {

/// x <- x diag(signs) Q, in runs of signs.size() elements.
class Rotation {
public:
    [[nodiscard]] static Result<Rotation> create(std::size_t width, std::optional<std::uint64_t> seed) {
        auto q = Hadamard::create(hadamard_order(width));
        if (!q) return Unexpected{std::move(q).error()};
        Rotation rotation(*std::move(q));
        rotation.signs_.assign(width, 1.0);
        if (seed)
            for (double& sign : rotation.signs_) sign = (splitmix_next(*seed) >> 63) != 0 ? -1.0 : 1.0;
        return rotation;
    }

    [[nodiscard]] std::size_t order() const noexcept { return q_.order(); }
    /// Precondition: x is a whole number of runs.
    void apply(std::span<double> x) const {
        for (std::size_t i = 0; i < x.size(); ++i) x[i] *= signs_[i % signs_.size()];
        q_.apply(x);
    }

private:
    explicit Rotation(Hadamard q) : q_(std::move(q)) {}

    Hadamard q_;
    std::vector<double> signs_;
};

/// What happens to a matrix: each column times its gain, rows turned by `in`, columns and the bias by `out`.
struct Turn {
    const std::vector<float>* gains = nullptr;
    const Rotation* in = nullptr;
    const Rotation* out = nullptr;
    std::uint32_t while_running = 0;  ///< order of what turns the input of the matrix from now on
};

class Rotating {
public:
    Rotating(const io::ModelFile& file, ExecutionContext context) : file_(file), context_(context) {}

    [[nodiscard]] Result<const std::vector<float>*> gains(const std::string& name) const {
        const auto found = file_.vectors.find(name);
        if (found == file_.vectors.end() || found->second.size() != file_.shape.dim)
            return fail(ErrorKind::bad_input, "the ", file_.type, " model has no norm '", name, "' of ",
                        file_.shape.dim, " gains");
        return &found->second;
    }
    /// The gains of that norm are somewhere else now.
    void forget(const std::string& name) { ones_.push_back(name); }

    /// Matrix `source` (n, k) of the file, turned, under the name `name`.
    [[nodiscard]] Result<void> turn(const std::string& name, const std::string& source, std::size_t n,
                                    std::size_t k, const Turn& how) {
        const auto found = file_.linears.find(source);
        if (found == file_.linears.end() || found->second.n() != n || found->second.k() != k)
            return fail(ErrorKind::bad_input, "the ", file_.type, " model has no matrix '", source, "' of ",
                        n, " x ", k);
        const Linear& given = found->second;
        if (auto plain = expect_plain_floats(given, source,
                                             "rotations are of float models, before anything is quantized");
            !plain)
            return plain;
        std::vector<double> w(n * k);
        for_pieces(n, [&](std::size_t first, std::size_t last) {
            std::vector<float> row(k);
            for (std::size_t r = first; r < last; ++r) {
                given.weights.dequantize(r, 0, row);
                double* const out = w.data() + r * k;
                for (std::size_t c = 0; c < k; ++c)
                    out[c] = static_cast<double>(row[c]) *
                             (how.gains == nullptr ? 1.0 : static_cast<double>((*how.gains)[c]));
                if (how.in != nullptr) how.in->apply({out, k});
            }
        });
        if (how.out != nullptr)
            for_pieces(k, [&](std::size_t first, std::size_t last) {
                std::vector<double> column(n);
                for (std::size_t c = first; c < last; ++c) {
                    for (std::size_t r = 0; r < n; ++r) column[r] = w[r * k + c];
                    how.out->apply(column);
                    for (std::size_t r = 0; r < n; ++r) w[r * k + c] = column[r];
                }
            });
        Linear turned;
        auto weights = rounded(w, n, k, name);
        if (!weights) return Unexpected{std::move(weights).error()};
        turned.weights = *std::move(weights);
        turned.bias = given.bias;
        if (how.out != nullptr && !turned.bias.empty()) {
            std::vector<double> bias(turned.bias.begin(), turned.bias.end());
            how.out->apply(bias);
            std::transform(bias.begin(), bias.end(), turned.bias.begin(),
                           [](double value) { return static_cast<float>(value); });
        }
        turned.transform.hadamard = how.while_running;
        turned_.insert_or_assign(name, std::move(turned));
        return {};
    }

    void commit(io::ModelFile& file) && {
        for (auto& [name, linear] : turned_) file.linears[name] = std::move(linear);
        for (const std::string& norm : ones_) std::ranges::fill(file.vectors[norm], 1.0f);
    }

private:
    /// body(first, last) for runs of rows, or columns.
    void for_pieces(std::size_t count, FunctionRef<void(std::size_t, std::size_t)> body) const {
        constexpr std::size_t piece = 64;
        context_.parallel_for(ceil_div(count, piece), [&](std::size_t task, std::size_t) {
            body(task * piece, std::min(count, (task + 1) * piece));
        });
    }
    [[nodiscard]] static Result<QuantizedMatrix> rounded(const std::vector<double>& w, std::size_t n,
                                                         std::size_t k, const std::string& name) {
        Matrix out(n, k);
        for (std::size_t r = 0; r < n; ++r)
            for (std::size_t c = 0; c < k; ++c) {
                out(r, c) = static_cast<float>(w[r * k + c]);
                if (!std::isfinite(out(r, c)))
                    return fail(ErrorKind::bad_input, "matrix '", name, "': weight [", r, ", ", c,
                                "] leaves the range of f32 when it is rotated");
            }
        return float_matrix(std::as_const(out).view());
    }

    const io::ModelFile& file_;
    ExecutionContext context_;
    std::map<std::string, Linear> turned_;
    std::vector<std::string> ones_;
};

}  // namespace

std::string RotationReport::text() const {
    std::string out;
    const auto say = [&](const char* where, std::size_t order, const char* remark) {
        if (order != 0) out += fewbit::text(out.empty() ? "" : ", ", where, " ", order, remark);
    };
    say("residual", residual, "");
    say("heads", heads, "");
    say("down", down, " (while running)");
    if (untied) out += "; the head is a matrix of its own now";
    return out;
}

Result<RotationReport> rotate(io::ModelFile& file, const RotationOptions& options, ExecutionContext context) {
    const io::ModelShape& s = file.shape;
    if (s.dim == 0 || s.layers == 0 || s.kv_heads == 0 || s.head_dim == 0 || s.hidden == 0)
        return fail(ErrorKind::bad_input, "rotations are of decoders; the ", file.type, " model has ",
                    s.layers, " layers of ", s.dim, " channels");
    std::uint64_t seed = options.seed;
    auto residual = Rotation::create(s.dim, splitmix_next(seed));
    auto heads = Rotation::create(s.head_dim, splitmix_next(seed));
    auto down = Rotation::create(s.hidden, std::nullopt);  // at run time signs would cost a pass more
    for (auto* rotation : {&residual, &heads, &down})
        if (!*rotation) return Unexpected{std::move(*rotation).error()};
    const Rotation* const r1 = options.residual ? &*residual : nullptr;
    const Rotation* const r2 = options.heads ? &*heads : nullptr;
    const Rotation* const r4 = options.down ? &*down : nullptr;
    const std::size_t q_dim = s.heads * s.head_dim, kv_dim = s.kv_heads * s.head_dim;

    Rotating rotating(file, context);
    RotationReport report{r1 ? r1->order() : 0, r2 ? r2->order() : 0, r4 ? r4->order() : 0, false};
    const std::string embedding = "model.embed_tokens", head = s.tied_head ? embedding : "lm_head";
    for (std::size_t i = 0; i < s.layers; ++i) {
        const std::string block = text("model.layers.", i, "."), attention = block + "self_attn.",
                          mlp = block + "mlp.";
        const std::string norms[] = {block + "input_layernorm", block + "post_attention_layernorm"};
        const std::vector<float>* gains[2] = {};
        for (std::size_t n = 0; n < 2 && r1 != nullptr; ++n) {
            auto found = rotating.gains(norms[n]);
            if (!found) return Unexpected{std::move(found).error()};
            gains[n] = *found;
            rotating.forget(norms[n]);
        }
        const struct {
            std::string name;
            std::size_t n, k;
            Turn how;
        } turns[] = {
            {attention + "q_proj", q_dim, s.dim, {gains[0], r1, nullptr}},
            {attention + "k_proj", kv_dim, s.dim, {gains[0], r1, nullptr}},
            {attention + "v_proj", kv_dim, s.dim, {gains[0], r1, r2}},
            {attention + "o_proj", s.dim, q_dim, {nullptr, r2, r1}},
            {mlp + "gate_proj", s.hidden, s.dim, {gains[1], r1, nullptr}},
            {mlp + "up_proj", s.hidden, s.dim, {gains[1], r1, nullptr}},
            {mlp + "down_proj", s.dim, s.hidden, {nullptr, r4, r1, static_cast<std::uint32_t>(report.down)}},
        };
        for (const auto& [name, n, k, how] : turns) {
            if (how.gains == nullptr && how.in == nullptr && how.out == nullptr) continue;
            if (auto done = rotating.turn(name, name, n, k, how); !done)
                return Unexpected{std::move(done).error()};
        }
    }
    if (r1 != nullptr) {
        auto gains = rotating.gains("model.norm");
        if (!gains) return Unexpected{std::move(gains).error()};
        rotating.forget("model.norm");
        report.untied = s.tied_head;
        if (auto done = rotating.turn("lm_head", head, s.vocabulary, s.dim, {*gains, r1, nullptr}); !done)
            return Unexpected{std::move(done).error()};
        if (auto done = rotating.turn(embedding, embedding, s.vocabulary, s.dim, {nullptr, r1, nullptr});
            !done)
            return Unexpected{std::move(done).error()};
    }
    std::move(rotating).commit(file);
    if (report.untied) file.shape.tied_head = false;
    if (const std::string said = report.text(); !said.empty()) file.metadata["rotations"] = said;
    return report;
}

}  // namespace fewbit::inline v0::pipeline
