// The header of llama2.c files: which version, and seven numbers of which none is believed.
#include "src/io/llama2c_header.hpp"

#include <array>
#include <cstdint>
#include <string_view>
#include <utility>

#include "fewbit/core/text.hpp"

namespace fewbit::inline v0::io {
namespace {

constexpr std::uint32_t magic = 0x616B3432;  // "24ka"
constexpr std::size_t field_count = 7;
constexpr std::size_t v0_header_bytes = 28;
constexpr std::size_t v1_header_bytes = 256;

class HeaderReader {
public:
    HeaderReader(std::span<const std::byte> bytes, const std::string& source)
        : bytes_(bytes), source_(source) {}

    [[nodiscard]] Result<Llama2cHeader> read() {
        if (bytes_.size() < v0_header_bytes)
            return refuse("it has only ", bytes_.size(), " bytes; a header has at least ", v0_header_bytes);
        std::size_t fields_at = 0;
        header_.bytes = v0_header_bytes;
        if (load_at<std::uint32_t>(bytes_, 0) == magic) {
            header_.version = load_at<std::int32_t>(bytes_, 4);
            if (header_.version != 1 && header_.version != 2)
                return refuse("version ", header_.version, " is not known; versions 0, 1 and 2 are");
            if (bytes_.size() < v1_header_bytes)
                return refuse("it has only ", bytes_.size(), " bytes; the header of version ",
                              header_.version, " has ", v1_header_bytes);
            fields_at = 8;
            header_.bytes = v1_header_bytes;
        }
        auto done = read_fields(fields_at);
        if (done && header_.version != 0) done = read_flags();
        if (!done) return Unexpected{std::move(done).error()};
        return header_;
    }

private:
    template <class... Parts>
    [[nodiscard]] Unexpected<Error> refuse(const Parts&... parts) const {
        return fail(ErrorKind::bad_input, "llama2.c file '", source_, "': ", parts...);
    }

    /// The seven numbers that all versions share.
    [[nodiscard]] Result<void> read_fields(std::size_t at) {
        constexpr std::array<std::string_view, field_count> names{
            "dim", "hidden_dim", "n_layers", "n_heads", "n_kv_heads", "vocab_size", "seq_len"};
        std::array<std::size_t, field_count> values{};
        ModelShape& shape = header_.shape;
        shape.tied_head = true;
        for (std::size_t i = 0; i < field_count; ++i) {
            std::int64_t value = load_at<std::int32_t>(bytes_, at + 4 * i);
            // A negative vocabulary is llama2.c's sign for "the head is not the embedding".
            if (i == 5 && header_.version == 0 && value < 0) {
                if (value == INT32_MIN)
                    return refuse("vocab_size is ", value, ", whose magnitude is no 32-bit number");
                shape.tied_head = false;
                value = -value;
            }
            if (value <= 0) return refuse(names[i], " is ", value, "; it must be at least 1");
            values[i] = static_cast<std::size_t>(value);
        }
        shape.dim = values[0];
        shape.hidden = values[1];
        shape.layers = values[2];
        shape.heads = values[3];
        shape.kv_heads = values[4];
        shape.vocabulary = values[5];
        shape.context = values[6];
        if (shape.dim % shape.heads != 0)
            return refuse("n_heads = ", shape.heads, " does not divide dim = ", shape.dim);
        if (shape.heads % shape.kv_heads != 0)
            return refuse("n_kv_heads = ", shape.kv_heads, " does not divide n_heads = ", shape.heads);
        shape.head_dim = shape.dim / shape.heads;
        if (shape.head_dim % 2 != 0)
            return refuse("heads of ", shape.head_dim, " elements (dim = ", shape.dim,
                          ", n_heads = ", shape.heads, ") cannot be rotated in pairs");
        return {};
    }

    /// Versions 1 and 2: tied or not, the group, and zeros up to byte 256.
    [[nodiscard]] Result<void> read_flags() {
        std::size_t at = 36;
        const auto tied = load_at<std::uint8_t>(bytes_, at++);
        if (tied > 1) return refuse("the flag for a shared head is ", tied, "; it must be 0 or 1");
        header_.shape.tied_head = tied == 1;
        if (header_.version == 2) {
            const auto group = load_at<std::int32_t>(bytes_, at);
            at += 4;
            if (group <= 0) return refuse("group_size is ", group, "; it must be at least 1");
            header_.group = static_cast<std::size_t>(group);
        }
        for (; at < v1_header_bytes; ++at)
            if (bytes_[at] != std::byte{0})
                return refuse("header byte ", at, " is ", std::to_integer<unsigned>(bytes_[at]),
                              "; this version leaves it zero");
        return {};
    }

    std::span<const std::byte> bytes_;
    const std::string& source_;
    Llama2cHeader header_;
};

}  // namespace

Result<Llama2cHeader> read_llama2c_header(std::span<const std::byte> bytes, const std::string& source) {
    return HeaderReader(bytes, source).read();
}

}  // namespace fewbit::inline v0::io
