// The reader of llama2.c files. After the header two passes over the tensors in file order: the first looks
// at nothing but sizes, so that a file of the wrong length is refused before anything is allocated.
#include "fewbit/io/llama2c.hpp"

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <numeric>
#include <string_view>
#include <utility>
#include <vector>

#include "fewbit/core/checked.hpp"
#include "fewbit/core/text.hpp"
#include "fewbit/io/mapped_file.hpp"
#include "src/io/llama2c_header.hpp"

namespace fewbit::inline v0::io {
namespace {

static_assert(std::endian::native == std::endian::little,
              "llama2.c files are little-endian, and their floats are used in place");

class Reader {
public:
    Reader(std::span<const std::byte> bytes, std::shared_ptr<const void> owner, const std::string& source)
        : bytes_(bytes), owner_(std::move(owner)), source_(source) {}

    [[nodiscard]] Result<ModelFile> read() {
        auto header = read_llama2c_header(bytes_, source_);
        if (!header) return Unexpected{std::move(header).error()};
        header_ = *header;
        offset_ = header_.bytes;
        if (auto done = tensors(); !done) return Unexpected{std::move(done).error()};
        if (offset_ != bytes_.size())
            return refuse("it has ", bytes_.size(), " bytes, but its header describes ", offset_, " (",
                          description(), "): ", bytes_.size() - offset_, " trailing bytes");
        filling_ = true;
        offset_ = header_.bytes;
        if (auto done = tensors(); !done) return Unexpected{std::move(done).error()};
        file_.shape = header_.shape;
        file_.type = text("llama2.c v", header_.version);
        file_.metadata["source"] = source_;
        return std::move(file_);
    }

private:
    template <class... Parts>
    [[nodiscard]] Unexpected<Error> refuse(const Parts&... parts) const {
        return fail(ErrorKind::bad_input, "llama2.c file '", source_, "': ", parts...);
    }
    [[nodiscard]] std::string description() const {
        const ModelShape& s = header_.shape;
        return text("version ", header_.version, ", dim ", s.dim, ", hidden ", s.hidden, ", layers ",
                    s.layers, ", heads ", s.heads, ", kv_heads ", s.kv_heads, ", vocabulary ", s.vocabulary,
                    ", context ", s.context, s.tied_head ? ", tied" : ", own head");
    }

    // --- tensors, in file order
    // -----------------------------------------------------------------------------------
    [[nodiscard]] Result<void> tensors() {
        const ModelShape& s = header_.shape;
        const std::size_t kv_dim = s.kv_heads * s.head_dim;  // at most dim
        const auto layers_of = [&](auto&& one) -> Result<void> {
            for (std::size_t layer = 0; layer < s.layers; ++layer)
                if (auto done = one(text("model.layers.", layer, ".")); !done) return done;
            return {};
        };
        const auto norms = [&](std::string_view name) {
            return layers_of(
                [&](const std::string& prefix) { return vector(prefix + std::string(name), s.dim); });
        };
        const auto matrices = [&](std::string_view name, std::size_t n, std::size_t k) {
            return layers_of(
                [&](const std::string& prefix) { return matrix(prefix + std::string(name), n, k); });
        };
        struct Step {
            int versions;  // bit v: version v has it here
            std::string_view name;
            std::size_t n, k;  // k = 0: a vector
            bool per_layer;
        };
        constexpr int old = 1, recent = 6, all = 7;
        const Step steps[] = {
            {recent, "input_layernorm", s.dim, 0, true},
            {recent, "post_attention_layernorm", s.dim, 0, true},
            {recent, "model.norm", s.dim, 0, false},
            {all, "model.embed_tokens", s.vocabulary, s.dim, false},
            {old, "input_layernorm", s.dim, 0, true},
            {all, "self_attn.q_proj", s.dim, s.dim, true},
            {all, "self_attn.k_proj", kv_dim, s.dim, true},
            {all, "self_attn.v_proj", kv_dim, s.dim, true},
            {all, "self_attn.o_proj", s.dim, s.dim, true},
            {old, "post_attention_layernorm", s.dim, 0, true},
            {all, "mlp.gate_proj", s.hidden, s.dim, true},
            {all, "mlp.down_proj", s.dim, s.hidden, true},
            {all, "mlp.up_proj", s.hidden, s.dim, true},
            {old, "model.norm", s.dim, 0, false},
        };
        for (const Step& step : steps) {
            if ((step.versions & 1 << header_.version) == 0) continue;
            const std::string name(step.name);
            Result<void> done = step.per_layer ? step.k == 0 ? norms(name) : matrices(name, step.n, step.k)
                                : step.k == 0 ? vector(name, step.n)
                                               : matrix(name, step.n, step.k);
            if (!done) return done;
        }
        if (header_.version == 0)  // tables of cosines and sines, which everybody computes instead
            if (auto skipped = take("freq_cos and freq_sin", {s.context, s.head_dim, sizeof(float)});
                !skipped)
                return Unexpected{std::move(skipped).error()};
        return s.tied_head ? Result<void>{} : matrix("lm_head", s.vocabulary, s.dim);
    }

    /// The next bytes of the file, as many as the product of `factors`.
    [[nodiscard]] Result<std::span<const std::byte>> take(std::string_view name,
                                                          std::initializer_list<std::size_t> factors) {
        const auto size = checked_product(factors);
        if (!size || *size > bytes_.size() - offset_) {
            std::string wanted;
            for (const std::size_t factor : factors) wanted += text(wanted.empty() ? "" : " x ", factor);
            return refuse("it is truncated: '", name, "' needs ", wanted, " bytes at offset ", offset_,
                          ", but the file ends at ", bytes_.size(), " (", description(), ")");
        }
        const auto part = bytes_.subspan(offset_, *size);
        offset_ += *size;
        return part;
    }

    [[nodiscard]] Result<void> vector(const std::string& name, std::size_t length) {
        const auto bytes = take(name, {length, sizeof(float)});
        if (!bytes) return Unexpected{bytes.error()};
        if (!filling_) return {};
        std::vector<float> values(length);
        std::memcpy(values.data(), bytes->data(), bytes->size());
        for (std::size_t i = 0; i < length; ++i)
            if (!std::isfinite(values[i])) return refuse("'", name, "'[", i, "] is ", values[i]);
        file_.vectors[name] = std::move(values);
        return {};
    }

    [[nodiscard]] Result<void> matrix(const std::string& name, std::size_t n, std::size_t k) {
        auto weights = header_.version == 2 ? int8_matrix(name, n, k) : float_matrix(name, n, k);
        if (!weights) return Unexpected{std::move(weights).error()};
        if (filling_) file_.linears[name].weights = *std::move(weights);
        return {};
    }

    [[nodiscard]] Result<QuantizedMatrix> float_matrix(const std::string& name, std::size_t n,
                                                       std::size_t k) {
        const auto bytes = take(name, {n, k, sizeof(float)});
        if (!bytes) return Unexpected{bytes.error()};
        if (!filling_) return QuantizedMatrix{};
        auto tensor = Tensor::borrow(Scalar::u8, {n, k * sizeof(float)}, *bytes, owner_);
        if (!tensor) return Unexpected{std::move(tensor).error()};
        auto codes = BitMatrix::from_bytes(n, k, 32, *std::move(tensor));
        if (!codes) return Unexpected{std::move(codes).error()};
        return QuantizedMatrix::assemble(float_format(Scalar::f32), n, k, *std::move(codes), {}, {}, {});
    }

    /// Groups run over the flattened matrix. Where they cross the ends of rows (hidden = 172, group = 64)
    /// they are cut into runs of gcd(K, group), each with a copy of the scale: more bytes, the same weights.
    /// Where such runs are too short for a group (gcd 4 in that example) the matrix becomes f32.
    [[nodiscard]] Result<QuantizedMatrix> int8_matrix(const std::string& name, std::size_t n, std::size_t k) {
        const auto elements = checked_multiply(n, k);
        if (elements && *elements % header_.group != 0)
            return refuse("'", name, "' has ", *elements,
                          " weights, no multiple of group_size = ", header_.group);
        const std::size_t group = std::gcd(k, header_.group);
        const bool as_floats = group < min_group_elements;
        const auto codes = take(name, {n, k});
        if (!codes) return Unexpected{codes.error()};
        const auto scales = take(name + " (scales)", {*elements / header_.group, sizeof(float)});
        if (!scales) return Unexpected{scales.error()};
        if (!filling_) return QuantizedMatrix{};

        Format format = float_format(Scalar::f32);
        if (!as_floats) {
            format = Format{};
            format.bits = 8;
            format.group = group;
            format.narrow = true;
            format.scale = Scalar::f32;
        }
        auto result = QuantizedMatrix::allocate(format, n, k);
        if (!result)
            return Unexpected{
                std::move(result).error().within(text("llama2.c file '", source_, "', '", name, "'"))};
        for (std::size_t row = 0; row < n; ++row) {
            std::uint8_t* out = result->codes.mutable_row(row);
            for (std::size_t column = 0; column < k; ++column) {
                const auto code = static_cast<std::int8_t>((*codes)[row * k + column]);
                if (code == -128)
                    return refuse("'", name, "'(", row, ", ", column,
                                  ") is code -128; codes are -127 to 127");
                if (as_floats) {
                    const std::size_t index = (row * k + column) / header_.group;
                    const auto scale = load_at<float>(*scales, index * sizeof(float));
                    const float value = static_cast<float>(code) * scale;
                    if (!std::isfinite(value)) return refuse("scale ", index, " of '", name, "' is ", scale);
                    std::memcpy(out + column * sizeof value, &value, sizeof value);
                } else {
                    out[column] = static_cast<std::uint8_t>(code + 128);
                }
            }
            if (as_floats) continue;
            for (std::size_t g = 0; g < k / group; ++g) {
                const std::size_t index = (row * k + g * group) / header_.group;
                const auto scale = load_at<float>(*scales, index * sizeof(float));
                if (!std::isfinite(scale)) return refuse("scale ", index, " of '", name, "' is ", scale);
                result->set_scale(row, g, scale);
            }
        }
        return result;
    }

    std::span<const std::byte> bytes_;
    std::shared_ptr<const void> owner_;
    const std::string& source_;
    Llama2cHeader header_;
    std::size_t offset_ = 0;
    bool filling_ = false;  // the second pass
    ModelFile file_;
};

}  // namespace

Result<ModelFile> parse_llama2c(std::span<const std::byte> bytes, std::shared_ptr<const void> owner,
                                const std::string& source) {
    return Reader(bytes, std::move(owner), source).read();
}

Result<ModelFile> read_llama2c(const std::filesystem::path& path) {
    auto file = MappedFile::open(path);
    if (!file) return Unexpected{std::move(file).error()};
    const std::span<const std::byte> bytes = (*file)->bytes();
    const std::string name = (*file)->name();
    return parse_llama2c(bytes, *std::move(file), name);
}

}  // namespace fewbit::inline v0::io
