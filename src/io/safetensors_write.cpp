#include <algorithm>
#include <utility>
#include <vector>

#include "fewbit/core/text.hpp"
#include "fewbit/io/atomic_file.hpp"
#include "fewbit/io/mapped_file.hpp"
#include "fewbit/io/safetensors.hpp"
#include "src/io/file_text.hpp"
#include "src/io/safetensors_layout.hpp"

namespace fewbit::inline v0::io {
namespace {

using detail::in_quotes;

struct Item {
    const std::string* name;
    const SafetensorsSource* source;
    std::size_t size_bytes;
};

Result<std::vector<Item>> in_file_order(const std::map<std::string, SafetensorsSource>& tensors) {
    std::vector<Item> items;
    items.reserve(tensors.size());
    for (const auto& [name, source] : tensors) {
        if (!detail::is_utf8(name) || name.find('\0') != std::string::npos ||
            name.size() > max_tensor_name_bytes || name == detail::metadata_key)
            return fail(ErrorKind::bad_input, "a tensor cannot be called ", in_quotes(name),
                        ": names are UTF-8 without NUL, at most ", max_tensor_name_bytes,
                        " bytes, and not '__metadata__'");
        if (source.shape.size() > max_safetensors_dimensions)
            return fail(ErrorKind::unsupported, "tensor ", in_quotes(name), " has ", source.shape.size(),
                        " dimensions; at most ", max_safetensors_dimensions, " can be written");
        const auto total_bits = detail::tensor_bits(source.type, source.shape);
        if (!total_bits || *total_bits % 8 != 0)
            return fail(ErrorKind::bad_input, "tensor ", in_quotes(name), ": shape ",
                        shape_text(source.shape), " of ", io::name(source.type),
                        total_bits ? " does not fill whole bytes" : " overflows");
        items.push_back({&name, &source, *total_bits / 8});
    }
    std::stable_sort(items.begin(), items.end(),
                     [](const Item& a, const Item& b) { return a.source->type > b.source->type; });
    return items;
}

Result<std::string> header_of(const std::vector<Item>& items, const Metadata& metadata) {
    std::string out = "{";
    const auto separate = [&out] {
        if (out.size() > 1) out += ',';
    };
    if (!metadata.empty()) {
        detail::append_json_string(out, detail::metadata_key);
        out += ":{";
        bool first = true;
        for (const auto& [key, value] : metadata) {
            if (!detail::is_utf8(key) || !detail::is_utf8(value))
                return fail(ErrorKind::bad_input, "the metadata ", in_quotes(key), " = ", in_quotes(value),
                            " is not UTF-8");
            if (!std::exchange(first, false)) out += ',';
            detail::append_json_string(out, key);
            out += ':';
            detail::append_json_string(out, value);
        }
        out += '}';
    }
    std::size_t offset = 0;
    for (const Item& item : items) {
        const auto end = checked_add(offset, item.size_bytes);
        if (!end) return fail(ErrorKind::bad_input, "the tensors together are larger than a file can be");
        separate();
        detail::append_json_string(out, *item.name);
        out += text(":{\"dtype\":\"", name(item.source->type), "\",\"shape\":[");
        for (std::size_t i = 0; i < item.source->shape.size(); ++i)
            out += text(i == 0 ? "" : ",", item.source->shape[i]);
        out += text("],\"data_offsets\":[", offset, ",", *end, "]}");
        offset = *end;
    }
    out += '}';
    out.resize(round_up(out.size(), detail::safetensors_prefix_bytes), ' ');
    if (out.size() > max_safetensors_header_bytes)
        return fail(ErrorKind::unsupported, "the header takes ", out.size(), " bytes; at most ",
                    max_safetensors_header_bytes, " are allowed");
    return out;
}

Result<void> write_item(AtomicFile& file, const Item& item) {
    const std::uint64_t start = file.size_bytes();
    const auto other_size = [&](std::uint64_t bytes) {
        return fail(ErrorKind::bad_input, "tensor ", in_quotes(*item.name), " of shape ",
                    shape_text(item.source->shape), " produced ", bytes, " bytes, not the ", item.size_bytes,
                    " of its shape");
    };
    auto done = item.source->produce([&](std::span<const std::byte> bytes) -> Result<void> {
        const std::uint64_t total = file.size_bytes() - start + bytes.size();
        if (total > item.size_bytes) return other_size(total);
        return file.write(bytes);
    });
    if (!done) return done;
    if (file.size_bytes() - start != item.size_bytes) return other_size(file.size_bytes() - start);
    return {};
}

Result<void> write_file(const std::filesystem::path& path,
                        const std::map<std::string, SafetensorsSource>& tensors, const Metadata& metadata) {
    auto items = in_file_order(tensors);
    if (!items) return Unexpected{std::move(items).error()};
    auto header = header_of(*items, metadata);
    if (!header) return Unexpected{std::move(header).error()};
    auto file = AtomicFile::create(path);
    if (!file) return Unexpected{std::move(file).error()};

    std::byte length[detail::safetensors_prefix_bytes];
    for (unsigned i = 0; i < sizeof length; ++i)
        length[i] = static_cast<std::byte>(static_cast<std::uint64_t>(header->size()) >> (8 * i));
    if (auto done = file->write(length); !done) return done;
    if (auto done = file->write(*header); !done) return done;
    for (const Item& item : *items)
        if (auto done = write_item(*file, item); !done) return done;
    return file->commit();
}

}  // namespace

Result<void> write_safetensors(const std::filesystem::path& path,
                               const std::map<std::string, SafetensorsSource>& tensors,
                               const Metadata& metadata) {
    return detail::without_exceptions([&]() -> Result<void> {
        auto done = write_file(path, tensors, metadata);
        // The file's own errors name it already.
        if (!done && done.error().kind != ErrorKind::io)
            return Unexpected{done.error().within(text("writing '", path_text(path), "'"))};
        return done;
    });
}

Result<void> save_tensors(const std::filesystem::path& path, const std::map<std::string, Tensor>& tensors,
                          const Metadata& metadata) {
    return detail::without_exceptions([&]() -> Result<void> {
        std::map<std::string, SafetensorsSource> sources;
        for (const auto& [name, tensor] : tensors) {
            if (tensor.space() != MemorySpace::host || tensor.bytes().data() == nullptr)
                return fail(
                    ErrorKind::bad_input, "writing '", path_text(path), "': tensor ", in_quotes(name),
                    tensor.space() == MemorySpace::host ? " has no memory" : " is not in host memory");
            sources[name] = {safetensors_type(tensor.type()), tensor.shape(),
                             [bytes = tensor.bytes()](ByteSink sink) { return sink(bytes); }};
        }
        return write_safetensors(path, sources, metadata);
    });
}

}  // namespace fewbit::inline v0::io
