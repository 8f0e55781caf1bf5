// safetensors: named tensors in one file, as Hugging Face stores models.
//
//   0        u64 N, little-endian
//   8        N bytes of JSON: {"__metadata__":{text:text},
//                              name:{"dtype":T,"shape":[..],"data_offsets":[begin,end]}, ...}  spaces up to 8
//                              | 8 + N
//   8 + N    the data; offsets count from here; row-major; the tensors tile it without holes or overlaps
//
// The reader takes only files of which every number has been checked. The writer gives the reference writer's
// bytes (types from U64 down to BOOL, then names), equal for equal input.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "fewbit/core/config.hpp"
#include "fewbit/core/executor.hpp"
#include "fewbit/core/result.hpp"
#include "fewbit/core/tensor.hpp"

namespace fewbit::inline v0::io {

/// Element types of the format, in ascending order of the reference writer (it writes the last ones first).
enum class SafetensorsType : std::uint8_t {
    boolean,
    f4,
    f6_e2m3,
    f6_e3m2,
    u8,
    i8,
    fp8_e5m2,
    fp8_e4m3,
    e8m0,
    fp8_e4m3fnuz,
    fp8_e5m2fnuz,
    i16,
    u16,
    f16,
    bf16,
    i32,
    u32,
    f32,
    c64,
    f64,
    i64,
    u64,
};

/// As it stands in a file: "BF16".
[[nodiscard]] FEWBIT_API std::string_view name(SafetensorsType type) noexcept;
[[nodiscard]] FEWBIT_API std::size_t bits(SafetensorsType type) noexcept;
/// Nothing for types that fewbit has no scalar for (BOOL, F4, F6, I16, U16, U64, C64, the FNUZ types).
[[nodiscard]] FEWBIT_API std::optional<Scalar> scalar(SafetensorsType type) noexcept;
[[nodiscard]] FEWBIT_API SafetensorsType safetensors_type(Scalar type) noexcept;

using Metadata = std::map<std::string, std::string>;

// --- reading
// ---------------------------------------------------------------------------------------------------------

inline constexpr std::size_t max_safetensors_header_bytes = 100'000'000;  // the reference's limit
inline constexpr std::size_t max_safetensors_dimensions = 8;
inline constexpr std::size_t max_tensor_name_bytes = 65'535;

struct SafetensorsEntry {
    SafetensorsType type = SafetensorsType::f32;
    Tensor::Shape shape;           ///< empty for a scalar
    std::size_t offset_bytes = 0;  ///< from the start of the part's data
    std::size_t size_bytes = 0;
    std::size_t part = 0;  ///< of a model in several files
};

class SafetensorsFile {
public:
    using Entries = std::map<std::string, SafetensorsEntry, std::less<>>;

    [[nodiscard]] const Entries& entries() const noexcept { return entries_; }
    [[nodiscard]] const Metadata& metadata() const noexcept { return metadata_; }
    /// What the bytes came from, for messages.
    [[nodiscard]] const std::string& source() const noexcept { return source_; }

    /// Null when there is no such tensor.
    [[nodiscard]] const SafetensorsEntry* find(std::string_view name) const noexcept {
        const auto found = entries_.find(name);
        return found == entries_.end() ? nullptr : &found->second;
    }
    /// The bytes of an entry of this file.
    [[nodiscard]] std::span<const std::byte> bytes(const SafetensorsEntry& entry) const noexcept {
        return parts_[entry.part].data.subspan(entry.offset_bytes, entry.size_bytes);
    }
    /// Keeps the bytes of an entry alive.
    [[nodiscard]] const std::shared_ptr<const void>& owner(const SafetensorsEntry& entry) const noexcept {
        return parts_[entry.part].owner;
    }

    /// A tensor that borrows the file's bytes where they lie aligned for its type, else a copy.
    /// Errors: no such tensor; a type that fewbit has no scalar for.
    [[nodiscard]] FEWBIT_API Result<Tensor> tensor(std::string_view name) const;

private:
    friend FEWBIT_API Result<SafetensorsFile> parse_safetensors(std::span<const std::byte>,
                                                                std::shared_ptr<const void>,
                                                                std::string_view);
    friend FEWBIT_API Result<SafetensorsFile> open_safetensors_index(const std::filesystem::path&);

    struct Part {
        std::span<const std::byte> data;
        std::shared_ptr<const void> owner;
    };

    Result<Tensor> find_tensor(std::string_view name) const;
    Result<void> add_part(SafetensorsFile&& file, const std::map<std::string, std::string>& weight_map,
                          const std::string& name);

    Entries entries_;
    Metadata metadata_;
    std::string source_;
    std::vector<Part> parts_;
};

/// Reads a whole file that lies in memory. `owner` keeps the bytes alive; `source` names them in messages.
[[nodiscard]] FEWBIT_API Result<SafetensorsFile> parse_safetensors(std::span<const std::byte> file,
                                                                   std::shared_ptr<const void> owner,
                                                                   std::string_view source);

/// Maps a file and reads it.
[[nodiscard]] FEWBIT_API Result<SafetensorsFile> open_safetensors(const std::filesystem::path& path);

/// Maps a model in several files by its index (model.safetensors.index.json: "weight_map" names the file of
/// every tensor) and reads them as one; the metadata is that of the first file. Errors: a file name that leads
/// out of the index's folder; a tensor that is missing from its file, or that a file holds beside the index.
[[nodiscard]] FEWBIT_API Result<SafetensorsFile> open_safetensors_index(const std::filesystem::path& path);

// --- writing
// ---------------------------------------------------------------------------------------------------------

using ByteSink = FunctionRef<Result<void>(std::span<const std::byte>)>;

/// A tensor to be written: `produce` hands its bytes to the sink in order, in pieces of any size, and passes
/// the sink's errors on. It is called once, when the tensor's turn comes.
struct SafetensorsSource {
    SafetensorsType type = SafetensorsType::f32;
    Tensor::Shape shape;
    std::function<Result<void>(ByteSink)> produce;
};

/// Streams a file, which appears whole or not at all. Errors: a name or text that is not UTF-8, a size that
/// overflows, a source that produces another number of bytes than its shape says, the disk.
[[nodiscard]] FEWBIT_API Result<void> write_safetensors(
    const std::filesystem::path& path, const std::map<std::string, SafetensorsSource>& tensors,
    const Metadata& metadata = {});

// --- named tensors, the short way
// ------------------------------------------------------------------------------------

struct NamedTensors {
    std::map<std::string, Tensor> tensors;  ///< aligned for their types
    Metadata metadata;
};

/// Errors: as write_safetensors; a tensor without memory or outside host memory.
[[nodiscard]] FEWBIT_API Result<void> save_tensors(const std::filesystem::path& path,
                                                   const std::map<std::string, Tensor>& tensors,
                                                   const Metadata& metadata = {});
/// Errors: as open_safetensors; a type that fewbit has no scalar for.
[[nodiscard]] FEWBIT_API Result<NamedTensors> load_tensors(const std::filesystem::path& path);

}  // namespace fewbit::inline v0::io
