// Reading GGUF files. Counts and lengths are compared with what is left of the file before anything is made
// of them.
#include <algorithm>
#include <functional>
#include <set>
#include <utility>

#include "fewbit/core/text.hpp"
#include "src/io/byte_cursor.hpp"
#include "src/io/file_text.hpp"
#include "src/io/gguf_layout.hpp"

namespace fewbit::inline v0::io {
namespace {

using detail::ByteCursor;
using detail::in_quotes;

constexpr std::size_t least_pair_bytes = 14;    // key of one byte, kind, value of one byte
constexpr std::size_t least_tensor_bytes = 24;  // name and sizes may be empty

/// A u64 length and so many characters.
std::string_view read_string(ByteCursor& cursor, std::string_view what) {
    return cursor.characters(cursor.number(8, what), what);
}

GgufKind read_kind(ByteCursor& cursor, std::string_view key) {
    const std::uint64_t id = cursor.number(4, "a kind of value");
    if (id > static_cast<std::uint64_t>(GgufKind::f64)) {
        cursor.fail_with("the value of ", in_quotes(key), " is of kind ", id, ", which does not exist");
        return GgufKind::u8;
    }
    return static_cast<GgufKind>(id);
}

GgufValue read_value(ByteCursor& cursor, std::string_view key) {
    const GgufKind kind = read_kind(cursor, key);
    GgufKind element = kind;
    std::uint64_t given = 1;
    if (kind == GgufKind::array) {
        element = read_kind(cursor, key);
        given = cursor.number(8, "the length of an array");
        if (element == GgufKind::array) cursor.fail_with(in_quotes(key), " is an array of arrays");
    }
    const std::size_t each =
        element == GgufKind::text ? 8 : std::max<std::size_t>(1, detail::size_bytes(element));
    const std::size_t count = cursor.count(given, each, text("elements of ", in_quotes(key)));
    if (element != GgufKind::text)
        return GgufValue::of_bytes(kind, element, count, cursor.take(count * each, "a value"));
    std::span<const std::byte> bytes;
    ByteCursor start = cursor;
    for (std::size_t i = 0; i < count && !cursor.failed(); ++i)
        read_string(cursor, text("string ", i, " of ", in_quotes(key)));
    if (!cursor.failed()) bytes = start.take(cursor.place() - start.place(), "a string");
    return GgufValue::of_bytes(kind, element, count, bytes);
}

/// Names and keys: no NUL, which readers in C take for the end.
bool has_nul(std::string_view text) noexcept { return text.find('\0') != std::string_view::npos; }

GgufMetadata read_metadata(ByteCursor& cursor, std::size_t count) {
    GgufMetadata metadata;
    std::set<std::string, std::less<>> keys;
    for (std::size_t i = 0; i < count && !cursor.failed(); ++i) {
        const std::string_view key = read_string(cursor, "a key");
        if (cursor.failed()) break;
        if (key.empty() || has_nul(key))
            cursor.fail_with("key ", i, key.empty() ? " is empty" : " holds a NUL");
        else if (!keys.emplace(key).second)
            cursor.fail_with("key ", in_quotes(key), " is there twice");
        else
            metadata.emplace_back(key, read_value(cursor, key));
    }
    return metadata;
}

struct Entry {
    GgufTensor tensor;
    std::uint64_t offset = 0;
    std::size_t bytes = 0;
};

Entry read_entry(ByteCursor& cursor) {
    Entry entry;
    const std::string_view name = read_string(cursor, "a tensor's name");
    const auto dimensions = cursor.number(4, "a number of dimensions");
    if (cursor.failed()) return entry;
    if (name.empty() || name.size() > max_gguf_name_bytes || has_nul(name))
        cursor.fail_with("a tensor cannot be called ", in_quotes(name), ": names have 1 to ",
                         max_gguf_name_bytes, " bytes and no NUL");
    if (dimensions > 4)
        cursor.fail_with("tensor ", in_quotes(name), " has ", dimensions,
                         " dimensions; at most 4 are allowed");
    for (std::uint64_t d = 0; d < dimensions && !cursor.failed(); ++d)
        entry.tensor.sizes.push_back(static_cast<std::size_t>(cursor.number(8, "a dimension")));
    const auto id = static_cast<std::uint32_t>(cursor.number(4, "a type"));
    entry.offset = cursor.number(8, "an offset");
    if (cursor.failed()) return entry;
    entry.tensor.name = name;
    entry.tensor.type = gguf_tensor_type(id);
    if (entry.tensor.type == nullptr) {
        cursor.fail_with("tensor ", in_quotes(name), " is of type ", id, ", which does not exist (any more)");
        return entry;
    }
    const auto bytes = detail::gguf_tensor_bytes(*entry.tensor.type, entry.tensor.sizes);
    if (!bytes)
        cursor.fail_with("tensor ", in_quotes(name), ": ", bytes.error().message);
    else
        entry.bytes = *bytes;
    return entry;
}

/// Every tensor aligned, inside the data and beside the others.
Result<void> place(std::vector<Entry>& entries, std::span<const std::byte> data, std::size_t alignment) {
    std::vector<Entry*> order;
    for (Entry& entry : entries) order.push_back(&entry);
    std::stable_sort(order.begin(), order.end(),
                     [](const Entry* a, const Entry* b) { return a->offset < b->offset; });
    std::size_t end = 0;
    for (Entry* entry : order) {
        const std::string called = in_quotes(entry->tensor.name);
        if (entry->offset % alignment != 0)
            return fail(ErrorKind::bad_input, "tensor ", called, " begins at byte ", entry->offset,
                        " of the data, which is no multiple of the alignment ", alignment);
        if (entry->offset > data.size() || entry->bytes > data.size() - entry->offset)
            return fail(ErrorKind::bad_input, "tensor ", called, " takes ", entry->bytes, " bytes from byte ",
                        entry->offset, " of the data, but the file holds only ", data.size(),
                        " bytes of data");
        if (entry->offset < end && entry->bytes != 0)
            return fail(ErrorKind::bad_input, "tensor ", called, " begins at byte ", entry->offset,
                        " of the data, inside another tensor");
        entry->tensor.bytes = data.subspan(static_cast<std::size_t>(entry->offset), entry->bytes);
        end = std::max(end, static_cast<std::size_t>(entry->offset) + entry->bytes);
    }
    return {};
}

Result<GgufFile> read(std::span<const std::byte> file) {
    if (file.size() < detail::gguf_header_bytes)
        return fail(ErrorKind::bad_input, "a GGUF file has at least ", detail::gguf_header_bytes,
                    " bytes, this one has ", file.size());
    ByteCursor cursor(file);
    if (cursor.number(4, "the magic") != detail::gguf_magic)
        return fail(ErrorKind::bad_input, "the file does not begin with 'GGUF'");
    const auto version = static_cast<std::uint32_t>(cursor.number(4, "the version"));
    if ((version & 0xFFFF) == 0 && version != 0)
        return fail(ErrorKind::unsupported, "the file is big-endian; only little-endian files are read");
    if (version != 2 && version != detail::gguf_version)
        return fail(ErrorKind::unsupported, "the file is of version ", version,
                    "; versions 2 and 3 are read");
    const std::uint64_t tensors = cursor.number(8, "the number of tensors");
    const std::uint64_t pairs = cursor.number(8, "the number of metadata pairs");

    GgufFile out;
    out.metadata = read_metadata(cursor, cursor.count(pairs, least_pair_bytes, "pairs of metadata"));
    if (cursor.failed()) return cursor.failure();
    const std::size_t count = cursor.count(tensors, least_tensor_bytes, "tensors");
    std::vector<Entry> entries;
    for (std::size_t i = 0; i < count && !cursor.failed(); ++i) entries.push_back(read_entry(cursor));
    if (cursor.failed()) return cursor.failure();

    auto alignment = detail::gguf_alignment(out.metadata);
    if (!alignment) return Unexpected{std::move(alignment).error()};
    out.alignment = *alignment;
    const std::size_t start = round_up(cursor.place(), out.alignment);
    if (start > file.size() && !entries.empty())
        return fail(ErrorKind::bad_input, "the data should begin at byte ", start, ", but the file has only ",
                    file.size());
    if (auto placed = place(entries, file.subspan(std::min(start, file.size())), out.alignment); !placed)
        return Unexpected{std::move(placed).error()};
    std::set<std::string_view> names;
    for (const Entry& entry : entries)
        if (!names.insert(entry.tensor.name).second)
            return fail(ErrorKind::bad_input, "two tensors are called ", in_quotes(entry.tensor.name));
    for (Entry& entry : entries) out.tensors.push_back(std::move(entry.tensor));
    return out;
}

}  // namespace

const GgufTensor* GgufFile::find(std::string_view name) const noexcept {
    for (const GgufTensor& tensor : tensors)
        if (tensor.name == name) return &tensor;
    return nullptr;
}

void GgufFile::done_with(std::span<const std::byte> bytes) const noexcept {
    for (const auto& map : maps) {
        const std::span<const std::byte> whole = map->bytes();
        const std::less<const std::byte*> before;
        if (before(bytes.data(), whole.data()) || !before(bytes.data(), whole.data() + whole.size()))
            continue;
        map->done_with(static_cast<std::size_t>(bytes.data() - whole.data()), bytes.size());
    }
}

Result<GgufFile> parse_gguf(std::span<const std::byte> file, std::shared_ptr<const void> owner,
                            std::string_view source) {
    return detail::without_exceptions([&]() -> Result<GgufFile> {
        auto out = read(file);
        if (!out) return Unexpected{out.error().within(text("'", source, "'"))};
        out->owners.push_back(std::move(owner));
        out->source = source;
        return out;
    });
}

}  // namespace fewbit::inline v0::io
