#include "src/io/model_parts.hpp"

#include <cstring>
#include <utility>

#include "fewbit/core/text.hpp"
#include "src/io/file_text.hpp"

namespace fewbit::inline v0::io::detail {
namespace {

bool is_plain_float(SafetensorsType type) noexcept {
    return type == SafetensorsType::f32 || type == SafetensorsType::f16 || type == SafetensorsType::bf16;
}

}  // namespace

const std::string* Parts::first_left() const {
    for (const auto& [name, entry] : file_.entries())
        if (!taken_.contains(name)) return &name;
    return nullptr;
}

Result<const SafetensorsEntry*> Parts::take(const std::string& name) {
    const SafetensorsEntry* entry = file_.find(name);
    if (entry == nullptr) return fail(ErrorKind::bad_input, "the tensor ", in_quotes(name), " is missing");
    taken_.insert(name);
    return entry;
}

/// A tensor that must have this type and shape.
Result<const SafetensorsEntry*> Parts::take(const std::string& name, SafetensorsType type,
                                            const Tensor::Shape& shape) {
    auto entry = take(name);
    if (entry && ((*entry)->type != type || (*entry)->shape != shape))
        return fail(ErrorKind::bad_input, "tensor ", in_quotes(name), " is ", io::name((*entry)->type), " ",
                    shape_text((*entry)->shape), ", but its layer asks for ", io::name(type), " ",
                    shape_text(shape));
    return entry;
}

/// The bytes of an entry of `rows` rows as a tensor of another type and shape; borrowed where order and
/// alignment allow.
Result<Tensor> Parts::bytes_as(const SafetensorsEntry& entry, Scalar type, Tensor::Shape shape,
                               std::size_t alignment, const RowOrder& order) const {
    const auto stored = file_.bytes(entry);
    if (order.empty() && reinterpret_cast<std::uintptr_t>(stored.data()) % alignment == 0)
        return Tensor::borrow(type, std::move(shape), stored, file_.owner(entry));
    auto copy = Tensor::allocate(type, std::move(shape));
    if (!copy || stored.empty()) return copy;
    const auto target = copy->mutable_bytes();
    if (order.empty()) std::memcpy(target.data(), stored.data(), stored.size());
    const std::size_t row_bytes = order.empty() ? 0 : stored.size() / order.size();
    for (std::size_t r = 0; r < order.size(); ++r)
        std::memcpy(target.data() + order[r] * row_bytes, stored.data() + r * row_bytes, row_bytes);
    return copy;
}

Result<Tensor> Parts::tensor(const std::string& name) {
    taken_.insert(name);
    return file_.tensor(name);
}

Result<Tensor> Parts::parameters(const std::string& name, Scalar type, const Tensor::Shape& shape,
                                 const RowOrder& order) {
    auto entry = take(name, safetensors_type(type), shape);
    if (!entry) return Unexpected{std::move(entry).error()};
    return bytes_as(**entry, type, shape, fewbit::size_bytes(type), order);
}

Result<BitMatrix> Parts::codes(const std::string& name, std::size_t rows, std::size_t cols, int bits,
                               const RowOrder& order) {
    const auto row_bytes = BitMatrix::row_bytes_for(cols, bits);
    if (!row_bytes)
        return fail(ErrorKind::bad_input, "tensor ", in_quotes(name), ": a row of ", cols,
                    " codes overflows");
    auto bytes = parameters(name, Scalar::u8, {rows, *row_bytes}, order);
    if (!bytes) return Unexpected{std::move(bytes).error()};
    return BitMatrix::from_bytes(rows, cols, bits, *std::move(bytes));
}

Result<QuantizedMatrix> Parts::float_matrix(const std::string& name, const RowOrder& order) {
    auto entry = take(name);
    if (!entry) return Unexpected{std::move(entry).error()};
    const SafetensorsEntry& found = **entry;
    if (!is_plain_float(found.type) || found.shape.size() != 2)
        return fail(ErrorKind::unsupported, "tensor ", in_quotes(name), " is ", io::name(found.type), " ",
                    shape_text(found.shape), ", not a matrix of F32, F16 or BF16");
    const Scalar type = *scalar(found.type);
    const std::size_t n = found.shape[0], k = found.shape[1], element = fewbit::size_bytes(type);
    const auto row_bytes = BitMatrix::row_bytes_for(k, static_cast<int>(8 * element));
    if (!row_bytes)
        return fail(ErrorKind::bad_input, "tensor ", in_quotes(name), ": a row of ", k,
                    " elements overflows");
    auto bytes = bytes_as(found, Scalar::u8, {n, *row_bytes}, element, order);
    if (!bytes) return Unexpected{std::move(bytes).error()};
    auto codes = BitMatrix::from_bytes(n, k, static_cast<int>(8 * element), *std::move(bytes));
    if (!codes) return Unexpected{std::move(codes).error()};
    return QuantizedMatrix::assemble(float_format(type), n, k, *std::move(codes), {}, {}, {});
}

Result<std::vector<float>> Parts::floats(const std::string& name, std::size_t count, const RowOrder& order) {
    auto entry = take(name);
    if (!entry) return Unexpected{std::move(entry).error()};
    const SafetensorsEntry& found = **entry;
    if (!is_plain_float(found.type) || found.shape != Tensor::Shape{count})
        return fail(ErrorKind::bad_input, "tensor ", in_quotes(name), " is ", io::name(found.type), " ",
                    shape_text(found.shape), ", not ", count, " values of F32, F16 or BF16");
    const Scalar type = *scalar(found.type);
    const auto stored = file_.bytes(found);
    std::vector<float> values(count);
    for (std::size_t i = 0; i < count; ++i) {
        float& value = values[order.empty() ? i : order[i]];
        // An F32 is copied, so that the bits of a NaN stay what they are.
        if (type == Scalar::f32)
            std::memcpy(&value, stored.data() + 4 * i, 4);
        else
            value = load_float(type, stored.data() + i * fewbit::size_bytes(type));
    }
    return values;
}

Result<std::vector<std::uint32_t>> Parts::indices(const std::string& name, std::size_t count) {
    auto entry = take(name, SafetensorsType::u32, {count});
    if (!entry) return Unexpected{std::move(entry).error()};
    std::vector<std::uint32_t> values(count);
    if (count != 0) std::memcpy(values.data(), file_.bytes(**entry).data(), 4 * count);
    return values;
}

}  // namespace fewbit::inline v0::io::detail
