// Writing GGUF files: version 3, every tensor padded to the alignment, the last one too.
#include <set>
#include <utility>

#include "fewbit/core/text.hpp"
#include "fewbit/io/atomic_file.hpp"
#include "fewbit/io/mapped_file.hpp"
#include "src/io/file_text.hpp"
#include "src/io/gguf_layout.hpp"

namespace fewbit::inline v0::io {
namespace {

using detail::in_quotes;

/// Other readers keep names in 64 bytes with a NUL at the end.
constexpr std::size_t max_written_name_bytes = max_gguf_name_bytes - 1;
constexpr std::size_t max_key_bytes = 65'535;

void append(std::string& out, std::uint64_t value, std::size_t bytes) {
    for (std::size_t i = 0; i < bytes; ++i) out += static_cast<char>(value >> (8 * i));
}
void append(std::string& out, std::string_view text) {
    append(out, text.size(), 8);
    out += text;
}

Result<std::string> header_of(const GgufMetadata& metadata, std::span<const GgufSource> tensors,
                              std::span<const std::size_t> sizes, std::size_t alignment) {
    std::string out;
    append(out, detail::gguf_magic, 4);
    append(out, detail::gguf_version, 4);
    append(out, tensors.size(), 8);
    append(out, metadata.size(), 8);
    std::set<std::string_view> seen;
    for (const auto& [key, value] : metadata) {
        if (key.empty() || key.size() > max_key_bytes || key.find('\0') != std::string::npos)
            return fail(ErrorKind::bad_input, "a key cannot be ", in_quotes(key), ": keys have 1 to ",
                        max_key_bytes, " bytes and no NUL");
        if (!seen.insert(key).second)
            return fail(ErrorKind::bad_input, "key ", in_quotes(key), " is there twice");
        append(out, key);
        append(out, static_cast<std::uint64_t>(value.kind()), 4);
        if (value.kind() == GgufKind::array) {
            append(out, static_cast<std::uint64_t>(value.element()), 4);
            append(out, value.count(), 8);
        }
        out.append(reinterpret_cast<const char*>(value.bytes().data()), value.bytes().size());
    }
    seen.clear();
    std::size_t offset = 0;
    for (std::size_t i = 0; i < tensors.size(); ++i) {
        const GgufSource& tensor = tensors[i];
        if (!seen.insert(tensor.name).second)
            return fail(ErrorKind::bad_input, "two tensors are called ", in_quotes(tensor.name));
        append(out, tensor.name);
        // Others want at least one dimension, and see a shape without its trailing ones.
        std::size_t dimensions = tensor.sizes.size();
        while (dimensions > 1 && tensor.sizes[dimensions - 1] == 1) --dimensions;
        append(out, std::max<std::size_t>(1, dimensions), 4);
        if (dimensions == 0) append(out, 1, 8);
        for (std::size_t d = 0; d < dimensions; ++d) append(out, tensor.sizes[d], 8);
        append(out, tensor.type->id, 4);
        append(out, offset, 8);
        const auto end = checked_add(offset, sizes[i]);
        if (!end || *end > std::size_t{1} << 62)
            return fail(ErrorKind::bad_input, "the tensors together are larger than a file can be");
        offset = round_up(*end, alignment);
    }
    if (!tensors.empty()) out.resize(round_up(out.size(), alignment));
    return out;
}

Result<std::vector<std::size_t>> sizes_of(std::span<const GgufSource> tensors) {
    std::vector<std::size_t> sizes;
    for (const GgufSource& tensor : tensors) {
        if (tensor.name.empty() || tensor.name.size() > max_written_name_bytes ||
            tensor.name.find('\0') != std::string::npos)
            return fail(ErrorKind::bad_input, "a tensor cannot be called ", in_quotes(tensor.name),
                        ": names have 1 to ", max_written_name_bytes, " bytes and no NUL");
        if (tensor.type == nullptr || tensor.sizes.size() > 4)
            return fail(ErrorKind::bad_input, "tensor ", in_quotes(tensor.name), " has ",
                        tensor.type == nullptr
                            ? text("no type")
                            : text(tensor.sizes.size(), " dimensions; at most 4 are allowed"));
        auto bytes = detail::gguf_tensor_bytes(*tensor.type, tensor.sizes);
        if (!bytes) return Unexpected{bytes.error().within(text("tensor ", in_quotes(tensor.name)))};
        sizes.push_back(*bytes);
    }
    return sizes;
}

Result<void> write_tensor(AtomicFile& file, const GgufSource& tensor, std::size_t bytes,
                          std::size_t alignment) {
    const std::uint64_t start = file.size_bytes();
    const auto other_size = [&](std::uint64_t produced) {
        return fail(ErrorKind::bad_input, "tensor ", in_quotes(tensor.name), " of shape ",
                    shape_text(tensor.sizes), " produced ", produced, " bytes, not the ", bytes,
                    " of its shape");
    };
    auto done = tensor.produce([&](std::span<const std::byte> piece) -> Result<void> {
        const std::uint64_t total = file.size_bytes() - start + piece.size();
        if (total > bytes) return other_size(total);
        return file.write(piece);
    });
    if (!done) return done;
    if (file.size_bytes() - start != bytes) return other_size(file.size_bytes() - start);
    return file.write(std::string(round_up(bytes, alignment) - bytes, '\0'));
}

/// All that is known before a tensor is produced.
struct Frame {
    std::size_t alignment = 0;
    std::vector<std::size_t> sizes;
    std::string header;
};

Result<Frame> frame_of(const GgufMetadata& metadata, std::span<const GgufSource> tensors) {
    auto alignment = detail::gguf_alignment(metadata);
    if (!alignment) return Unexpected{std::move(alignment).error()};
    auto sizes = sizes_of(tensors);
    if (!sizes) return Unexpected{std::move(sizes).error()};
    auto header = header_of(metadata, tensors, *sizes, *alignment);
    if (!header) return Unexpected{std::move(header).error()};
    return Frame{*alignment, *std::move(sizes), *std::move(header)};
}

Result<void> write_file(const std::filesystem::path& path, const GgufMetadata& metadata,
                        std::span<const GgufSource> tensors) {
    auto frame = frame_of(metadata, tensors);
    if (!frame) return Unexpected{std::move(frame).error()};
    auto file = AtomicFile::create(path);
    if (!file) return Unexpected{std::move(file).error()};
    if (auto done = file->write(frame->header); !done) return done;
    for (std::size_t i = 0; i < tensors.size(); ++i)
        if (auto done = write_tensor(*file, tensors[i], frame->sizes[i], frame->alignment); !done)
            return done;
    return file->commit();
}

}  // namespace

Result<std::uint64_t> gguf_file_bytes(const GgufMetadata& metadata, std::span<const GgufSource> tensors) {
    return detail::without_exceptions([&]() -> Result<std::uint64_t> {
        auto frame = frame_of(metadata, tensors);
        if (!frame) return Unexpected{std::move(frame).error()};
        std::uint64_t bytes = frame->header.size();
        for (const std::size_t size : frame->sizes) bytes += round_up(size, frame->alignment);
        return bytes;
    });
}

Result<void> write_gguf(const std::filesystem::path& path, const GgufMetadata& metadata,
                        std::span<const GgufSource> tensors) {
    return detail::without_exceptions([&]() -> Result<void> {
        auto done = write_file(path, metadata, tensors);
        // The file's own errors name it already.
        if (!done && done.error().kind != ErrorKind::io)
            return Unexpected{done.error().within(text("writing '", path_text(path), "'"))};
        return done;
    });
}

}  // namespace fewbit::inline v0::io
