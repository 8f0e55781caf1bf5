// GGUF: metadata and tensors in one file, as ggml and llama.cpp store models (version 3; 2 is the same).
//
//   0    "GGUF", u32 version, u64 tensors, u64 pairs of metadata            all little-endian
//   24   pairs     string key, u32 type, value; arrays: u32 element type, u64 count, elements
//        tensors   string name, u32 n, n x u64 sizes (rows first: ne[0] is K), u32 type, u64 offset
//        zeros up to general.alignment (32 where the key is absent); from here offsets count
//        data      each tensor's bytes and zeros up to the alignment
//   A string is a u64 length and bytes.
//
// The reader takes only files of which every number has been checked against the file's size, before it sizes
// anything. Models in several files (NAME-00001-of-00003.gguf) are read as one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "fewbit/core/config.hpp"
#include "fewbit/core/executor.hpp"
#include "fewbit/core/result.hpp"
#include "fewbit/core/tensor.hpp"
#include "fewbit/formats/ggml/types.hpp"
#include "fewbit/io/mapped_file.hpp"

namespace fewbit::inline v0::io {

// --- tensor types -----------------------------------------------------------------------------------------

/// What a tensor's type id stands for: every id of ggml, those among them that fewbit only knows the size of.
struct GgufTensorType {
    std::uint32_t id = 0;
    std::string_view name;                  ///< in lower case: "q4_k", "f16", "iq2_xxs"
    std::size_t elements = 1;               ///< of a block
    std::size_t bytes = 4;                  ///< of a block
    std::optional<Scalar> scalar;           ///< plain numbers that fewbit has a scalar for
    std::optional<ggml::BlockType> blocks;  ///< blocks that fewbit decodes
};
/// Null for ids that no current file may hold.
[[nodiscard]] FEWBIT_API const GgufTensorType* gguf_tensor_type(std::uint32_t id) noexcept;
[[nodiscard]] FEWBIT_API const GgufTensorType* gguf_tensor_type(std::string_view name) noexcept;

// --- metadata ---------------------------------------------------------------------------------------------

enum class GgufKind : std::uint32_t { u8, i8, u16, i16, u32, i32, f32, boolean, text, array, u64, i64, f64 };
/// "u8", "text", "array".
[[nodiscard]] FEWBIT_API std::string_view name(GgufKind kind) noexcept;

/// A value of the metadata, kept as it stands in the file, so that it is written again bit for bit. Getters
/// give nothing where the value is of another kind: nobody reads a number out of a string.
class GgufValue {
public:
    GgufValue() = default;

    [[nodiscard]] GgufKind kind() const noexcept { return kind_; }
    /// Of an array's elements; kind() for anything else.
    [[nodiscard]] GgufKind element() const noexcept { return element_; }
    /// Of an array; 1 for anything else.
    [[nodiscard]] std::size_t count() const noexcept { return count_; }
    /// The value as it stands in the file, after its kind: of arrays the elements alone.
    [[nodiscard]] std::span<const std::byte> bytes() const noexcept { return bytes_; }

    /// Any integer that is not negative.
    [[nodiscard]] FEWBIT_API std::optional<std::uint64_t> as_unsigned() const noexcept;
    /// Any integer that fits.
    [[nodiscard]] FEWBIT_API std::optional<std::int64_t> as_signed() const noexcept;
    /// f32, f64.
    [[nodiscard]] FEWBIT_API std::optional<double> as_real() const noexcept;
    [[nodiscard]] FEWBIT_API std::optional<bool> as_boolean() const noexcept;
    /// Valid as long as this value. The bytes of the file: perhaps no UTF-8.
    [[nodiscard]] FEWBIT_API std::optional<std::string_view> as_text() const noexcept;
    /// Arrays of strings, f32 and integers; valid as long as this value where they are views.
    [[nodiscard]] FEWBIT_API std::optional<std::vector<std::string_view>> as_texts() const;
    [[nodiscard]] FEWBIT_API std::optional<std::vector<float>> as_floats() const;
    [[nodiscard]] FEWBIT_API std::optional<std::vector<std::int64_t>> as_integers() const;

    [[nodiscard]] FEWBIT_API static GgufValue of_u32(std::uint32_t value);
    [[nodiscard]] FEWBIT_API static GgufValue of_u64(std::uint64_t value);
    [[nodiscard]] FEWBIT_API static GgufValue of_i32(std::int32_t value);
    [[nodiscard]] FEWBIT_API static GgufValue of_u16(std::uint16_t value);
    [[nodiscard]] FEWBIT_API static GgufValue of_f32(float value);
    [[nodiscard]] FEWBIT_API static GgufValue of_boolean(bool value);
    [[nodiscard]] FEWBIT_API static GgufValue of_text(std::string_view value);
    [[nodiscard]] FEWBIT_API static GgufValue of_texts(std::span<const std::string> values);
    [[nodiscard]] FEWBIT_API static GgufValue of_floats(std::span<const float> values);
    [[nodiscard]] FEWBIT_API static GgufValue of_integers(std::span<const std::int32_t> values);
    /// `bytes` as they stand in a file. Precondition: they hold exactly `count` elements.
    [[nodiscard]] FEWBIT_API static GgufValue of_bytes(GgufKind kind, GgufKind element, std::size_t count,
                                                       std::span<const std::byte> bytes);

    friend bool operator==(const GgufValue&, const GgufValue&) = default;

private:
    GgufKind kind_ = GgufKind::u32;
    GgufKind element_ = GgufKind::u32;
    std::size_t count_ = 1;
    std::vector<std::byte> bytes_ = std::vector<std::byte>(4);
};

/// In the order of the file; keys are unique.
using GgufMetadata = std::vector<std::pair<std::string, GgufValue>>;
/// Null where there is no such key.
[[nodiscard]] FEWBIT_API const GgufValue* find(const GgufMetadata& metadata, std::string_view key) noexcept;

// --- reading ----------------------------------------------------------------------------------------------

inline constexpr std::size_t gguf_default_alignment = 32;
inline constexpr std::size_t max_gguf_alignment = std::size_t{1} << 20;
inline constexpr std::size_t max_gguf_name_bytes = 64;

struct GgufTensor {
    std::string name;
    const GgufTensorType* type = nullptr;
    std::vector<std::size_t> sizes;    ///< fastest first, at most four; empty: one number
    std::span<const std::byte> bytes;  ///< valid while GgufFile::owner() of its part lives

    /// K of the rows, and how many rows there are.
    [[nodiscard]] std::size_t row_elements() const noexcept { return sizes.empty() ? 1 : sizes[0]; }
    [[nodiscard]] std::size_t rows() const noexcept {
        std::size_t rows = 1;
        for (std::size_t i = 1; i < sizes.size(); ++i) rows *= sizes[i];
        return rows;
    }
};

struct GgufFile {
    GgufMetadata metadata;            ///< of the first part
    std::vector<GgufTensor> tensors;  ///< in the order of the file, part after part; names are unique
    std::size_t alignment = gguf_default_alignment;
    std::vector<std::shared_ptr<const void>> owners;  ///< of the parts, in order: they keep the bytes alive
    std::vector<std::shared_ptr<const MappedFile>> maps;  ///< the same, of open_gguf
    std::string source;                                   ///< for messages

    /// These bytes of a tensor may be dropped from memory; touching them reads the file again. Without effect
    /// on a file that was not mapped.
    FEWBIT_API void done_with(std::span<const std::byte> bytes) const noexcept;
    /// Null when there is no such tensor.
    [[nodiscard]] FEWBIT_API const GgufTensor* find(std::string_view name) const noexcept;
};

/// Reads one whole file that lies in memory. `owner` keeps the bytes alive; `source` names them in messages.
[[nodiscard]] FEWBIT_API Result<GgufFile> parse_gguf(std::span<const std::byte> file,
                                                     std::shared_ptr<const void> owner,
                                                     std::string_view source);

/// Maps a file and reads it; of a model in several parts all of them, whichever is named. Errors: also a part
/// that is missing or belongs to another model.
[[nodiscard]] FEWBIT_API Result<GgufFile> open_gguf(const std::filesystem::path& path);

// --- writing ----------------------------------------------------------------------------------------------

/// A tensor to be written: `produce` hands its bytes to the sink in order, in pieces of any size, and passes
/// the sink's errors on. It is called once, when the tensor's turn comes.
struct GgufSource {
    std::string name;
    const GgufTensorType* type = nullptr;
    std::vector<std::size_t> sizes;
    std::function<Result<void>(FunctionRef<Result<void>(std::span<const std::byte>)>)> produce;
};

/// Bytes of the file that write_gguf() would write. Errors: its own, but for sources and the disk.
[[nodiscard]] FEWBIT_API Result<std::uint64_t> gguf_file_bytes(const GgufMetadata& metadata,
                                                               std::span<const GgufSource> tensors);

/// Streams a file, which appears whole or not at all: version 3, tensors in the order given, the alignment of
/// general.alignment. Errors: a key or name that is empty, too long or there twice, an alignment that is no
/// u32 power of two, sizes that overflow or do not fill blocks, a source that produces another number of bytes,
/// the disk.
[[nodiscard]] FEWBIT_API Result<void> write_gguf(const std::filesystem::path& path,
                                                 const GgufMetadata& metadata,
                                                 std::span<const GgufSource> tensors);

}  // namespace fewbit::inline v0::io
