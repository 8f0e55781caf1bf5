// `fewbit inspect` of GGUF files: any architecture, every type whose blocks can be decoded is searched for NaN.
#include <algorithm>
#include <numeric>

#include "fewbit/formats/ggml/blocks.hpp"
#include "fewbit/io/gguf.hpp"
#include "src/cli/evaluate_text.hpp"
#include "src/cli/inspect.hpp"

namespace fewbit::cli {
namespace {

constexpr std::size_t shown_columns = 60;

/// Names come from a stranger: as they are where they are plain, else in quotes with escapes.
std::string shown(std::string_view name) {
    const bool plain = std::ranges::all_of(name, [](char c) { return c > 0x20 && c < 0x7F; });
    return plain ? std::string(name) : quoted_head(name, shown_columns);
}

/// A value as text; arrays by their length.
std::string text_of(const io::GgufValue& value) {
    if (value.kind() == io::GgufKind::array)
        return fmt::format("{} x {}", value.count(), name(value.element()));
    if (const auto text = value.as_text()) return std::string(*text);
    if (const auto flag = value.as_boolean()) return *flag ? "true" : "false";
    if (const auto number = value.as_unsigned()) return fmt::format("{}", *number);
    if (const auto number = value.as_signed()) return fmt::format("{}", *number);
    return fmt::format("{}", value.as_real().value_or(0));
}

BadNumbers scan(const io::GgufTensor& tensor) {
    BadNumbers bad{shown(tensor.name), {}, {}, 0};
    const io::GgufTensorType& type = *tensor.type;
    const bool is_float =
        type.scalar == Scalar::f32 || type.scalar == Scalar::f16 || type.scalar == Scalar::bf16;
    const std::size_t row = tensor.row_elements();
    float values[ggml::max_block_elements];
    for (std::size_t b = 0; b < tensor.bytes.size() / type.bytes; ++b) {
        const std::byte* const block = tensor.bytes.data() + b * type.bytes;
        if (type.blocks)
            ggml::dequantize_block(*type.blocks, reinterpret_cast<const std::uint8_t*>(block), values);
        else if (is_float)
            values[0] = load_float(*type.scalar, block);
        else
            break;
        for (std::size_t i = 0; i < type.elements; ++i) {
            const std::size_t at = b * type.elements + i;
            note_bad(bad, static_cast<double>(values[i]), {at / row, at % row});
        }
    }
    return bad;
}

}  // namespace

Findings inspect_gguf(const std::string& path, ExecutionContext context) {
    const io::GgufFile file = expect(io::open_gguf(path_of(path)));
    Findings found;
    found.type = file.owners.size() == 1 ? "GGUF" : fmt::format("GGUF in {} parts", file.owners.size());
    found.readers = {"llama.cpp and other programs that are built on ggml"};
    for (const auto& [key, value] : file.metadata) found.metadata[key] = text_of(value);
    const auto line = [&](std::string_view label, std::string_view key) {
        if (const io::GgufValue* value = find(file.metadata, key))
            found.lines.push_back(fmt::format("{} {}", label, quoted_head(text_of(*value), shown_columns)));
    };
    line("architecture", "general.architecture");
    line("name", "general.name");
    std::map<std::string_view, std::size_t> types;
    for (const io::GgufTensor& tensor : file.tensors) {
        // Rows first, as everywhere here; the file has the row's length first.
        std::vector<std::size_t> shape(tensor.sizes.rbegin(), tensor.sizes.rend());
        found.tensors.push_back({shown(tensor.name), std::move(shape), std::string(tensor.type->name),
                                 8.0 * static_cast<double>(tensor.bytes.size())});
        found.size.parameters += static_cast<std::size_t>(found.tensors.back().elements());
        found.size.bits += found.tensors.back().bits;
        ++types[tensor.type->name];
    }
    std::string list;
    for (const auto& [type, count] : types)
        list += fmt::format("{}{} {}", list.empty() ? "" : ", ", count, type);
    if (!list.empty()) found.lines.push_back(wrapped("types " + list, 80, 2));
    std::vector<BadNumbers> bad(file.tensors.size());
    Progress progress("looking for NaN");
    context.parallel_for(bad.size(), [&](std::size_t i, std::size_t) { bad[i] = scan(file.tensors[i]); });
    for (BadNumbers& one : bad)
        if (one.count != 0) found.bad.push_back(std::move(one));
    return found;
}

}  // namespace fewbit::cli
