#include "src/io/model_rules.hpp"

#include <cmath>
#include <optional>
#include <tuple>

#include "fewbit/core/checked.hpp"
#include "fewbit/core/text.hpp"
#include "src/io/file_text.hpp"

namespace fewbit::inline v0::io::detail {
namespace {

constexpr std::size_t max_extent = 0x7FFFFFFF;
constexpr std::size_t max_layers_or_heads = 65'536;

/// What a layer of the architecture looks like; a vector has cols = 0.
struct Expected {
    bool known = false;
    bool matrix = false;
    std::size_t rows = 0;
    std::size_t cols = 0;
    std::optional<std::size_t> layer;
};

Expected expected(const ModelShape& s, std::string_view name) {
    const auto matrix = [](std::size_t rows, std::size_t cols) {
        return Expected{true, true, rows, cols, {}};
    };
    const auto vector = [](std::size_t rows) { return Expected{true, false, rows, 0, {}}; };
    if (name == "model.embed_tokens" || name == "lm_head") return matrix(s.vocabulary, s.dim);
    if (name == "model.norm") return vector(s.dim);

    constexpr std::string_view prefix = "model.layers.";
    if (!name.starts_with(prefix)) return {};
    const std::string_view rest = name.substr(prefix.size());
    const std::size_t dot = rest.find('.');
    std::size_t layer = 0;
    if (dot == std::string_view::npos || !fewbit::detail::parse_number(rest.substr(0, dot), layer)) return {};
    if (text(layer) != rest.substr(0, dot)) return {};  // "007"
    const std::string_view part = rest.substr(dot + 1);
    const std::size_t query = s.heads * s.head_dim, key = s.kv_heads * s.head_dim;
    Expected out;
    if (part == "input_layernorm" || part == "post_attention_layernorm") out = vector(s.dim);
    if (part == "self_attn.q_proj") out = matrix(query, s.dim);
    if (part == "self_attn.k_proj" || part == "self_attn.v_proj") out = matrix(key, s.dim);
    if (part == "self_attn.o_proj") out = matrix(s.dim, query);
    if (part == "mlp.gate_proj" || part == "mlp.up_proj") out = matrix(s.hidden, s.dim);
    if (part == "mlp.down_proj") out = matrix(s.dim, s.hidden);
    out.layer = layer;
    return out;
}

Result<void> check_against(const ModelShape& shape, std::string_view name, bool matrix, std::size_t rows,
                           std::size_t cols) {
    const Expected want = expected(shape, name);
    if (!want.known) return {};
    if (want.layer && *want.layer >= shape.layers)
        return fail(ErrorKind::bad_input, in_quotes(name), " belongs to a layer that a model of ",
                    shape.layers, " layers does not have");
    const auto extent = [](bool is_matrix, std::size_t r, std::size_t c) {
        return is_matrix ? text(r, " x ", c) : text("a vector of ", r);
    };
    if (want.matrix != matrix || want.rows != rows || (matrix && want.cols != cols))
        return fail(ErrorKind::bad_input, in_quotes(name), " is ", extent(matrix, rows, cols),
                    ", but the model's shape asks for ", extent(want.matrix, want.rows, want.cols));
    return {};
}

/// The bits behind the last code of each row are zero, as kernels expect.
bool padding_is_zero(const BitMatrix& codes) noexcept {
    const std::size_t used = codes.cols() * static_cast<unsigned>(codes.bits()) % 8;
    if (used == 0) return true;
    for (std::size_t r = 0; r < codes.rows(); ++r)
        if (codes.row(r)[codes.row_bytes() - 1] >> used != 0) return false;
    return true;
}

}  // namespace

bool no_architecture(const ModelShape& s) noexcept {
    return (s.dim | s.hidden | s.layers | s.heads | s.kv_heads | s.head_dim | s.vocabulary | s.context) == 0;
}

Result<void> check_shape(const ModelShape& s) {
    if (!std::isfinite(s.rope_base) || s.rope_base <= 0.0f)
        return fail(ErrorKind::bad_input, "the model's rotary base is ", s.rope_base,
                    ", not a positive number");
    if (!std::isfinite(s.norm_epsilon) || s.norm_epsilon < 0.0f)
        return fail(ErrorKind::bad_input, "the model's norm epsilon is ", s.norm_epsilon,
                    ", not a number of 0 or more");
    if (no_architecture(s)) return {};
    const auto in_range = [](std::string_view what, std::size_t value, std::size_t most) -> Result<void> {
        if (value >= 1 && value <= most) return {};
        return fail(ErrorKind::bad_input, "the model's ", what, " is ", value, "; it must lie between 1 and ",
                    most);
    };
    for (const auto& [what, value, most] :
         {std::tuple<const char*, std::size_t, std::size_t>{"embedding length", s.dim, max_extent},
          {"feed-forward length", s.hidden, max_extent},
          {"number of layers", s.layers, max_layers_or_heads},
          {"number of heads", s.heads, max_layers_or_heads},
          {"number of key and value heads", s.kv_heads, max_layers_or_heads},
          {"head length", s.head_dim, max_layers_or_heads},
          {"vocabulary", s.vocabulary, max_extent},
          {"context", s.context, max_extent}})
        if (auto fine = in_range(what, value, most); !fine) return fine;
    if (s.heads % s.kv_heads != 0)
        return fail(ErrorKind::bad_input, "the model has ", s.heads, " heads, which ", s.kv_heads,
                    " key and value heads do not divide");
    if (s.head_dim % 2 != 0)
        return fail(ErrorKind::bad_input, "the model's head length is ", s.head_dim,
                    "; rotary pairs need an even one");
    if (!checked_product({s.heads, s.head_dim}) || s.heads * s.head_dim > max_extent)
        return fail(ErrorKind::bad_input, "the model has ", s.heads, " heads of ", s.head_dim, ": too large");
    return {};
}

Result<void> check_module_name(std::string_view name) {
    bool fine = !name.empty() && name.front() != '.' && name.back() != '.' &&
                name.find("..") == std::string_view::npos;
    for (const char c : name) {
        const auto byte = static_cast<unsigned char>(c);
        fine = fine && byte > 0x20 && byte != 0x7F && c != '/' && c != '\\';
    }
    if (fine) return {};
    return fail(ErrorKind::bad_input, in_quotes(name),
                " is not the name of a layer: words between single dots, without slashes or blanks");
}

Result<void> check_linear(std::string_view name, const Linear& linear) {
    const auto wrong = [name](const auto&... why) {
        return fail(ErrorKind::bad_input, "layer ", in_quotes(name), ": ", why...);
    };
    const QuantizedMatrix& w = linear.weights;
    const std::size_t n = w.n(), k = w.k();
    for (const Tensor* part :
         {&w.codes.bytes(), &w.scales, &w.zeros.bytes(), &w.offsets, &w.row_scales, &w.blocks})
        if (part->space() != MemorySpace::host) return wrong("its weights are not in host memory");
    const auto whole = w.format().is_block() ? QuantizedMatrix::from_blocks(w.format(), n, k, w.blocks)
                                             : QuantizedMatrix::assemble(w.format(), n, k, w.codes, w.scales,
                                                                         w.zeros, w.offsets, w.row_scales);
    if (!whole) return wrong(whole.error().message);
    if (!padding_is_zero(w.codes) || !padding_is_zero(w.zeros))
        return wrong("bits behind the last code of a row are not zero");
    if (!linear.bias.empty() && linear.bias.size() != n)
        return wrong("its bias has ", linear.bias.size(), " values, not ", n);

    if (auto fits = validate_input(linear.transform, linear.columns, k); !fits)
        return wrong(fits.error().message);
    if (linear.columns.empty()) return {};
    const QuantizedMatrix& values = linear.columns.values;
    const auto& channels = linear.columns.channels;
    if (!values.format().is_float() || values.n() != n || values.k() != channels.size() ||
        values.codes.rows() != n || values.codes.cols() != channels.size() ||
        values.codes.bits() != values.format().bits)
        return wrong("its float columns are ", values.n(), " x ", values.k(), " of ",
                     fewbit::name(values.format()), ", not ", n, " x ", channels.size(),
                     " of a float format");
    if (values.codes.bytes().space() != MemorySpace::host)
        return wrong("its float columns are not in host memory");
    return {};
}

Result<void> check_model(const ModelFile& model) {
    if (auto fine = check_shape(model.shape); !fine) return fine;
    const bool bag = no_architecture(model.shape);
    for (const auto& [name, linear] : model.linears) {
        if (auto fine = check_module_name(name); !fine) return fine;
        if (auto fine = check_linear(name, linear); !fine) return fine;
        if (bag) continue;
        if (auto fine = check_against(model.shape, name, true, linear.n(), linear.k()); !fine) return fine;
    }
    for (const auto& [name, values] : model.vectors) {
        if (auto fine = check_module_name(name); !fine) return fine;
        if (model.linears.contains(name))
            return fail(ErrorKind::bad_input, in_quotes(name), " is both a matrix and a vector");
        if (bag) continue;
        if (auto fine = check_against(model.shape, name, false, values.size(), 0); !fine) return fine;
    }
    if (!bag && model.shape.tied_head && model.linears.contains("lm_head"))
        return fail(
            ErrorKind::bad_input,
            "the model has an 'lm_head' of its own, but its shape says that the embedding is the head");
    return {};
}

Result<void> check_matrix(const ModelShape& shape, std::string_view name, std::size_t rows,
                          std::size_t cols) {
    return check_against(shape, name, true, rows, cols);
}

bool known_name(std::string_view name) { return expected(ModelShape{}, name).known; }

Result<std::vector<std::size_t>> rotary_row_order(const ModelShape& shape, std::string_view name,
                                                  std::size_t n) {
    const bool query = name.ends_with(".self_attn.q_proj"), key = name.ends_with(".self_attn.k_proj");
    std::vector<std::size_t> order;
    if (no_architecture(shape) || !(query || key)) return order;
    const std::size_t heads = query ? shape.heads : shape.kv_heads, length = shape.head_dim;
    if (n != heads * length)
        return fail(ErrorKind::bad_input, "layer ", in_quotes(name), ": it has ", n,
                    " rows, but the model has ", heads, " such heads of ", length);
    order.reserve(n);
    for (std::size_t head = 0; head < heads; ++head)
        for (std::size_t r = 0; r < length; ++r)
            order.push_back(head * length + (r < length / 2 ? 2 * r : 2 * (r - length / 2) + 1));
    return order;
}

}  // namespace fewbit::inline v0::io::detail
