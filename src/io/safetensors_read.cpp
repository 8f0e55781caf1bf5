#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "fewbit/core/text.hpp"
#include "fewbit/io/mapped_file.hpp"
#include "fewbit/io/safetensors.hpp"
#include "src/io/file_text.hpp"
#include "src/io/safetensors_header.hpp"
#include "src/io/safetensors_layout.hpp"

namespace fewbit::inline v0::io {
namespace {

using detail::in_quotes;

std::uint64_t little_endian_u64(const std::byte* data) noexcept {
    std::uint64_t value = 0;
    for (unsigned i = 0; i < 8; ++i) value |= static_cast<std::uint64_t>(data[i]) << (8 * i);
    return value;
}

Result<std::string_view> header_text(std::span<const std::byte> file) {
    constexpr std::size_t prefix = detail::safetensors_prefix_bytes;
    if (file.size() < prefix)
        return fail(ErrorKind::bad_input, "a safetensors file has at least ", prefix, " bytes, this one has ",
                    file.size());
    const std::uint64_t length = little_endian_u64(file.data());
    if (length > max_safetensors_header_bytes)
        return fail(ErrorKind::bad_input, "the header's length is given as ", length, " bytes; at most ",
                    max_safetensors_header_bytes, " are allowed (is this a safetensors file?)");
    if (length > file.size() - prefix)
        return fail(ErrorKind::bad_input, "the header's length is given as ", length, " bytes, but only ",
                    file.size() - prefix, " bytes follow");
    const std::string_view header{reinterpret_cast<const char*>(file.data()) + prefix,
                                  static_cast<std::size_t>(length)};
    if (!header.starts_with('{')) return fail(ErrorKind::bad_input, "the header does not start with '{'");
    return header;
}

/// Each tensor as large as its shape says, all of them together the data area.
Result<void> check_tiling(const SafetensorsFile::Entries& entries, std::size_t data_bytes) {
    std::vector<const SafetensorsFile::Entries::value_type*> order;
    order.reserve(entries.size());
    for (const auto& entry : entries) order.push_back(&entry);
    std::sort(order.begin(), order.end(), [](const auto* a, const auto* b) {
        const auto place = [](const SafetensorsEntry& e) { return std::pair(e.offset_bytes, e.size_bytes); };
        return place(a->second) < place(b->second);
    });
    std::size_t end = 0;
    for (const auto* item : order) {
        const auto& [name, entry] = *item;
        const auto total_bits = detail::tensor_bits(entry.type, entry.shape);
        if (!total_bits)
            return fail(ErrorKind::bad_input, "tensor ", in_quotes(name), ": the size of shape ",
                        shape_text(entry.shape), " overflows");
        if (*total_bits % 8 != 0)
            return fail(ErrorKind::bad_input, "tensor ", in_quotes(name), ": shape ", shape_text(entry.shape),
                        " of ", io::name(entry.type), " does not fill whole bytes");
        if (*total_bits / 8 != entry.size_bytes)
            return fail(ErrorKind::bad_input, "tensor ", in_quotes(name), ": shape ", shape_text(entry.shape),
                        " of ", io::name(entry.type), " takes ", *total_bits / 8,
                        " bytes, but 'data_offsets' span ", entry.size_bytes);
        if (entry.offset_bytes != end)
            return fail(ErrorKind::bad_input, "tensor ", in_quotes(name), " begins at byte ",
                        entry.offset_bytes, " of the data, ",
                        entry.offset_bytes < end ? "inside another tensor" : "after a hole", " (expected ",
                        end, ")");
        if (entry.size_bytes > data_bytes - end)
            return fail(ErrorKind::bad_input, "tensor ", in_quotes(name), " takes ", entry.size_bytes,
                        " bytes from byte ", end, " of the data, but the file holds only ", data_bytes,
                        " bytes of data");
        end += entry.size_bytes;
    }
    if (end != data_bytes)
        return fail(ErrorKind::bad_input, "the tensors end at byte ", end,
                    " of the data, but the file holds ", data_bytes, " bytes of data");
    return {};
}

Result<SafetensorsFile::Entries> read_header(std::span<const std::byte> file, Metadata& metadata,
                                             std::span<const std::byte>& data) {
    auto header = header_text(file);
    if (!header) return Unexpected{std::move(header).error()};
    detail::SafetensorsHeader events;
    if (auto parsed = detail::parse_json(*header, detail::safetensors_depth, events); !parsed)
        return Unexpected{parsed.error().within("the header")};
    data = file.subspan(detail::safetensors_prefix_bytes + header->size());
    if (auto tiled = check_tiling(events.entries, data.size()); !tiled)
        return Unexpected{std::move(tiled).error()};
    metadata = std::move(events.metadata);
    return std::move(events.entries);
}

}  // namespace

Result<SafetensorsFile> parse_safetensors(std::span<const std::byte> file, std::shared_ptr<const void> owner,
                                          std::string_view source) {
    return detail::without_exceptions([&]() -> Result<SafetensorsFile> {
        SafetensorsFile out;
        std::span<const std::byte> data;
        auto entries = read_header(file, out.metadata_, data);
        if (!entries) return Unexpected{entries.error().within(text("'", source, "'"))};
        out.entries_ = *std::move(entries);
        out.source_ = source;
        out.parts_.push_back({data, std::move(owner)});
        return out;
    });
}

Result<SafetensorsFile> open_safetensors(const std::filesystem::path& path) {
    auto file = MappedFile::open(path);
    if (!file) return Unexpected{std::move(file).error()};
    return parse_safetensors((*file)->bytes(), *file, (*file)->name());
}

Result<Tensor> SafetensorsFile::tensor(std::string_view name) const {
    return detail::without_exceptions([&] { return find_tensor(name); });
}

Result<Tensor> SafetensorsFile::find_tensor(std::string_view name) const {
    const SafetensorsEntry* entry = find(name);
    if (entry == nullptr)
        return fail(ErrorKind::bad_input, "'", source_, "' holds no tensor ", in_quotes(name));
    const auto type = scalar(entry->type);
    if (!type)
        return fail(ErrorKind::unsupported, "'", source_, "': tensor ", in_quotes(name), " is of type ",
                    io::name(entry->type), ", which fewbit does not read");
    const auto stored = bytes(*entry);
    if (reinterpret_cast<std::uintptr_t>(stored.data()) % fewbit::size_bytes(*type) == 0)
        return Tensor::borrow(*type, entry->shape, stored, owner(*entry));
    auto copy = Tensor::allocate(*type, entry->shape);
    if (copy && !stored.empty()) std::memcpy(copy->mutable_bytes().data(), stored.data(), stored.size());
    return copy;
}

Result<NamedTensors> load_tensors(const std::filesystem::path& path) {
    auto file = open_safetensors(path);
    if (!file) return Unexpected{std::move(file).error()};
    return detail::without_exceptions([&]() -> Result<NamedTensors> {
        NamedTensors out;
        out.metadata = file->metadata();
        for (const auto& [name, entry] : file->entries()) {
            auto tensor = file->tensor(name);
            if (!tensor) return Unexpected{std::move(tensor).error()};
            out.tensors.emplace(name, *std::move(tensor));
        }
        return out;
    });
}

}  // namespace fewbit::inline v0::io
