// Reading and writing importance matrices.
#include "fewbit/io/imatrix.hpp"

#include <cmath>
#include <cstring>
#include <limits>
#include <utility>

#include "fewbit/core/scalar.hpp"
#include "fewbit/core/text.hpp"
#include "fewbit/io/atomic_file.hpp"
#include "fewbit/io/gguf.hpp"
#include "fewbit/io/mapped_file.hpp"
#include "src/io/byte_cursor.hpp"
#include "src/io/file_text.hpp"

namespace fewbit::inline v0::io {
namespace {

using detail::ByteCursor;
using detail::in_quotes;

constexpr std::string_view sums_suffix = ".in_sum2", counts_suffix = ".counts";
constexpr std::size_t least_entry_bytes = 12;  // three numbers
constexpr std::uint64_t most_i32 = 0x7FFFFFFF;

std::vector<float> floats_of(std::span<const std::byte> bytes) {
    std::vector<float> values(bytes.size() / 4);
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = load_float(Scalar::f32, bytes.data() + 4 * i);
    return values;
}

Result<void> check(std::string_view name, const ImportanceEntry& entry) {
    for (std::size_t i = 0; i < entry.sums.size(); ++i)
        if (!(entry.sums[i] >= 0) || std::isinf(entry.sums[i]))
            return fail(ErrorKind::bad_input, "the sum of squares of ", in_quotes(name), ", column ",
                        i % entry.k(), " is ", entry.sums[i]);
    for (const float count : entry.counts)
        if (!(count >= 0) || std::isinf(count))
            return fail(ErrorKind::bad_input, "the count of ", in_quotes(name), " is ", count);
    return {};
}

/// An i32 that must not be negative.
std::uint64_t natural(ByteCursor& cursor, std::string_view what) {
    const std::uint64_t value = cursor.number(4, what);
    if (value > most_i32) {
        cursor.fail_with(what, " is negative (", static_cast<std::int64_t>(value) - (std::int64_t{1} << 32),
                         ")");
        return 0;
    }
    return value;
}

Result<ImportanceMatrix> read_dat(std::span<const std::byte> file) {
    ByteCursor cursor(file);
    ImportanceMatrix out;
    const std::size_t entries =
        cursor.count(natural(cursor, "the number of entries"), least_entry_bytes, "entries");
    for (std::size_t i = 0; i < entries && !cursor.failed(); ++i) {
        const auto name = cursor.characters(natural(cursor, "the length of a name"), "a name");
        const auto calls = natural(cursor, "a number of calls");
        const auto n = cursor.count(natural(cursor, "a number of columns"), 4, "columns");
        ImportanceEntry entry{floats_of(cursor.take(4 * n, "an entry")), {static_cast<float>(calls)}};
        if (cursor.failed()) break;
        if (auto right = check(name, entry); !right) return Unexpected{std::move(right).error()};
        if (!out.entries.emplace(name, std::move(entry)).second)
            cursor.fail_with("entry ", in_quotes(name), " is there twice");
    }
    if (!cursor.failed() && cursor.left() != 0) {
        out.chunks = static_cast<std::uint32_t>(natural(cursor, "the number of chunks"));
        out.datasets.emplace_back(cursor.characters(natural(cursor, "the length of a name"), "a name"));
    }
    if (cursor.failed()) return cursor.failure();
    if (cursor.left() != 0)
        return fail(ErrorKind::bad_input, cursor.left(), " bytes are left after the entries");
    return out;
}

Result<ImportanceMatrix> from_gguf(const GgufFile& file) {
    const GgufValue* type = find(file.metadata, "general.type");
    if (type == nullptr || type->as_text() != "imatrix")
        return fail(ErrorKind::bad_input, "the GGUF file is no importance matrix: its 'general.type' is ",
                    type == nullptr ? "missing" : in_quotes(type->as_text().value_or("no text")));
    ImportanceMatrix out;
    const auto number = [&](std::string_view key) {
        const GgufValue* value = find(file.metadata, key);
        const auto read = value == nullptr ? std::nullopt : value->as_unsigned();
        return static_cast<std::uint32_t>(std::min(read.value_or(0), most_i32));
    };
    out.chunks = number("imatrix.chunk_count");
    out.chunk_size = number("imatrix.chunk_size");
    if (const GgufValue* names = find(file.metadata, "imatrix.datasets"))
        for (const std::string_view name : names->as_texts().value_or(std::vector<std::string_view>{}))
            out.datasets.emplace_back(name);
    for (const GgufTensor& tensor : file.tensors) {
        if (!tensor.name.ends_with(sums_suffix)) continue;
        const std::string name = tensor.name.substr(0, tensor.name.size() - sums_suffix.size());
        const GgufTensor* counts = file.find(name + std::string(counts_suffix));
        if (counts == nullptr || counts->type->scalar != Scalar::f32 || tensor.type->scalar != Scalar::f32)
            return fail(ErrorKind::bad_input, in_quotes(name),
                        " has no counts, or they or the sums are not f32");
        ImportanceEntry entry{floats_of(tensor.bytes), floats_of(counts->bytes)};
        if (entry.counts.empty() || entry.counts.size() != tensor.rows())
            return fail(ErrorKind::bad_input, in_quotes(name), " has sums of ", tensor.rows(),
                        " matrices, but ", entry.counts.size(), " counts");
        if (auto right = check(name, entry); !right) return Unexpected{std::move(right).error()};
        out.entries.emplace(name, std::move(entry));
    }
    return out;
}

Result<void> check_shapes(const ImportanceMatrix& matrix, bool dat) {
    for (const auto& [name, entry] : matrix.entries) {
        if (entry.counts.empty() || entry.sums.size() % entry.counts.size() != 0)
            return fail(ErrorKind::bad_input, "entry ", in_quotes(name), " has ", entry.sums.size(),
                        " sums and ", entry.counts.size(), " counts");
        if (auto right = check(name, entry); !right) return right;
        if (!dat) continue;
        if (entry.experts() != 1)
            return fail(ErrorKind::unsupported, "entry ", in_quotes(name), " is of ", entry.experts(),
                        " experts, which .dat files have no counts for; write GGUF");
        if (entry.sums.size() > most_i32 || name.size() > most_i32 ||
            entry.counts[0] != std::floor(entry.counts[0]) || entry.counts[0] > 0x1p30f)
            return fail(ErrorKind::unsupported, "entry ", in_quotes(name), " does not fit a .dat file");
    }
    return {};
}

void append_u32(std::string& out, std::uint64_t value) {
    for (std::size_t i = 0; i < 4; ++i) out += static_cast<char>(value >> (8 * i));
}
void append_text(std::string& out, std::string_view text) {
    append_u32(out, text.size());
    out += text;
}
std::string bytes_of(std::span<const float> values) {
    std::string out(4 * values.size(), '\0');
    for (std::size_t i = 0; i < values.size(); ++i)
        store_float(Scalar::f32, values[i], reinterpret_cast<std::byte*>(out.data()) + 4 * i);
    return out;
}

Result<void> write_dat(const std::filesystem::path& path, const ImportanceMatrix& matrix) {
    std::string out;
    append_u32(out, matrix.entries.size());
    for (const auto& [name, entry] : matrix.entries) {
        append_text(out, name);
        append_u32(out, static_cast<std::uint64_t>(entry.counts[0]));
        append_u32(out, entry.sums.size());
        out += bytes_of(entry.sums);
    }
    append_u32(out, matrix.chunks);
    append_text(out, matrix.datasets.empty() ? std::string_view() : matrix.datasets.front());
    auto file = AtomicFile::create(path);
    if (!file) return Unexpected{std::move(file).error()};
    if (auto done = file->write(out); !done) return done;
    return file->commit();
}

Result<void> write_gguf_file(const std::filesystem::path& path, const ImportanceMatrix& matrix) {
    const GgufMetadata metadata{{"general.type", GgufValue::of_text("imatrix")},
                                {"imatrix.datasets", GgufValue::of_texts(matrix.datasets)},
                                {"imatrix.chunk_count", GgufValue::of_u32(matrix.chunks)},
                                {"imatrix.chunk_size", GgufValue::of_u32(matrix.chunk_size)}};
    std::vector<GgufSource> sources;
    const auto add = [&](std::string name, std::vector<std::size_t> sizes, std::span<const float> values) {
        sources.push_back({std::move(name), gguf_tensor_type("f32"), std::move(sizes), [values](auto sink) {
                               const std::string bytes = bytes_of(values);
                               return sink(std::as_bytes(std::span(bytes)));
                           }});
    };
    for (const auto& [name, entry] : matrix.entries) {
        add(name + std::string(sums_suffix), {entry.k(), entry.experts()}, entry.sums);
        add(name + std::string(counts_suffix), {1, entry.experts()}, entry.counts);
    }
    return write_gguf(path, metadata, sources);
}

}  // namespace

std::vector<float> ImportanceEntry::mean(std::size_t expert) const {
    if (expert >= experts() || !(counts[expert] > 0)) return {};
    std::vector<float> means(sums.begin() + static_cast<std::ptrdiff_t>(expert * k()),
                             sums.begin() + static_cast<std::ptrdiff_t>((expert + 1) * k()));
    for (float& each : means) each /= counts[expert];
    return means;
}

Result<ImportanceMatrix> parse_imatrix(std::span<const std::byte> file, std::string_view source) {
    return detail::without_exceptions([&]() -> Result<ImportanceMatrix> {
        const bool is_gguf = file.size() >= 4 && std::memcmp(file.data(), "GGUF", 4) == 0;
        Result<ImportanceMatrix> read{ImportanceMatrix{}};
        if (is_gguf) {
            auto gguf = parse_gguf(file, nullptr, source);  // whose errors name the source
            if (!gguf) return Unexpected{std::move(gguf).error()};
            read = from_gguf(*gguf);
        } else {
            read = read_dat(file);
        }
        if (!read) return Unexpected{read.error().within(text("'", source, "'"))};
        return read;
    });
}

Result<ImportanceMatrix> read_imatrix(const std::filesystem::path& path) {
    auto file = MappedFile::open(path);
    if (!file) return Unexpected{std::move(file).error()};
    return parse_imatrix((*file)->bytes(), (*file)->name());
}

Result<void> write_imatrix(const std::filesystem::path& path, const ImportanceMatrix& matrix) {
    return detail::without_exceptions([&]() -> Result<void> {
        const bool dat = path.extension() == ".dat";
        if (auto right = check_shapes(matrix, dat); !right)
            return Unexpected{right.error().within(text("writing '", path_text(path), "'"))};
        return dat ? write_dat(path, matrix) : write_gguf_file(path, matrix);
    });
}

}  // namespace fewbit::inline v0::io
