// Opening GGUF files, models in several parts among them: PREFIX-00002-of-00003.gguf. Names of the other parts
// are made from the name of the one that was given, never taken from a file.
#include <cstdio>
#include <set>
#include <utility>

#include "fewbit/core/text.hpp"
#include "fewbit/io/mapped_file.hpp"
#include "src/io/file_text.hpp"
#include "src/io/gguf_layout.hpp"

namespace fewbit::inline v0::io {
namespace {

using detail::in_quotes;

constexpr std::uint64_t max_parts = 99'999;  // five digits
constexpr std::size_t suffix_bytes = 20;     // "-00001-of-00003.gguf"

std::string suffix(std::uint64_t part, std::uint64_t parts) {
    char text[suffix_bytes + 1];
    std::snprintf(text, sizeof text, "-%05u-of-%05u.gguf", static_cast<unsigned>(part),
                  static_cast<unsigned>(parts));
    return text;
}

Result<GgufFile> open_one(const std::filesystem::path& path) {
    auto file = MappedFile::open(path);
    if (!file) return Unexpected{std::move(file).error()};
    auto parsed = parse_gguf((*file)->bytes(), *file, (*file)->name());
    if (parsed) parsed->maps.push_back(*std::move(file));
    return parsed;
}

/// An unsigned number of the metadata; nothing where the key is absent or something else.
std::optional<std::uint64_t> number(const GgufFile& file, std::string_view key) {
    const GgufValue* value = find(file.metadata, key);
    return value == nullptr ? std::nullopt : value->as_unsigned();
}

/// The name of the parts before "-0000i-of-0000n.gguf"; nothing for other names.
std::optional<std::string> prefix_of(const std::string& name, std::uint64_t parts) {
    if (name.size() <= suffix_bytes) return std::nullopt;
    const std::string_view end = std::string_view(name).substr(name.size() - suffix_bytes);
    std::uint64_t part = 0;
    for (std::size_t i = 1; i <= 5; ++i) {
        if (end[i] < '0' || end[i] > '9') return std::nullopt;
        part = 10 * part + static_cast<std::uint64_t>(end[i] - '0');
    }
    if (part == 0 || part > parts || end != suffix(part, parts)) return std::nullopt;
    return name.substr(0, name.size() - suffix_bytes);
}

Result<GgufFile> open_parts(const std::filesystem::path& path, std::uint64_t parts) {
    const auto prefix = prefix_of(path_text(path.filename()), parts);
    if (!prefix || parts > max_parts)
        return fail(ErrorKind::bad_input, "'", path_text(path), "' is one of ", parts,
                    " parts of a model; to find the others, its name must end like '-00001-of-00003.gguf'");
    GgufFile all;
    std::set<std::string, std::less<>> names;
    for (std::uint64_t part = 0; part < parts; ++part) {
        const std::u8string name(reinterpret_cast<const char8_t*>(prefix->data()), prefix->size());
        std::filesystem::path sibling = path.parent_path() / std::filesystem::path(name);
        sibling += suffix(part + 1, parts);
        auto file = open_one(sibling);
        if (!file) return file;
        if (number(*file, "split.count") != parts || number(*file, "split.no") != part)
            return fail(ErrorKind::bad_input, "'", path_text(sibling), "' is not part ", part + 1, " of ",
                        parts, ", as its name says");
        for (const GgufTensor& tensor : file->tensors)
            if (!names.insert(tensor.name).second)
                return fail(ErrorKind::bad_input, "'", path_text(sibling), "': an earlier part holds ",
                            in_quotes(tensor.name), " too");
        if (part == 0) {
            all = *std::move(file);
            continue;
        }
        for (GgufTensor& tensor : file->tensors) all.tensors.push_back(std::move(tensor));
        all.owners.push_back(std::move(file->owners.front()));
        all.maps.push_back(std::move(file->maps.front()));
    }
    const auto expected = number(all, "split.tensors.count");
    if (expected && *expected != all.tensors.size())
        return fail(ErrorKind::bad_input, "'", all.source, "' promises ", *expected, " tensors in ", parts,
                    " parts, but they hold ", all.tensors.size());
    return all;
}

}  // namespace

Result<GgufFile> open_gguf(const std::filesystem::path& path) {
    return detail::without_exceptions([&]() -> Result<GgufFile> {
        auto file = open_one(path);
        if (!file) return file;
        const std::uint64_t parts = number(*file, "split.count").value_or(1);
        return parts <= 1 ? std::move(file) : open_parts(path, parts);
    });
}

}  // namespace fewbit::inline v0::io
