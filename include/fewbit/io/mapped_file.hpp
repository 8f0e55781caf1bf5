// MappedFile: a whole file as read-only bytes, paged in by the system when they are touched.
//
// Tensors that borrow these bytes hold the shared_ptr, so the mapping lives as long as the last of them. A
// file that another process shortens while it is mapped raises SIGBUS on the next touch: the promise "the
// file stays" is the caller's (fewbit's own writers replace files by rename and never shorten one).
#pragma once

#include <cstddef>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <utility>

#include "fewbit/core/config.hpp"
#include "fewbit/core/result.hpp"

namespace fewbit::inline v0::io {

/// A path as UTF-8, for messages.
[[nodiscard]] FEWBIT_API std::string path_text(const std::filesystem::path& path);

class MappedFile {
public:
    /// Errors: the file is missing, unreadable, empty, or not a regular file (a directory, a pipe, a device).
    [[nodiscard]] FEWBIT_API static Result<std::shared_ptr<const MappedFile>> open(
        const std::filesystem::path& path);

    FEWBIT_API ~MappedFile();
    MappedFile(const MappedFile&) = delete;
    MappedFile& operator=(const MappedFile&) = delete;

    /// The whole file; at least one byte. Starts at a page, so offset 0 is aligned for everything.
    [[nodiscard]] std::span<const std::byte> bytes() const noexcept { return bytes_; }
    /// The path it was opened by, as UTF-8.
    [[nodiscard]] const std::string& name() const noexcept { return name_; }

    /// Hints; without effect where the system has none. Ranges beyond the end are cut.
    FEWBIT_API void read_in_order() const noexcept;
    FEWBIT_API void will_need(std::size_t offset_bytes, std::size_t size_bytes) const noexcept;
    /// These pages may be dropped from memory; touching them again reads the file again.
    FEWBIT_API void done_with(std::size_t offset_bytes, std::size_t size_bytes) const noexcept;

private:
    static Result<std::shared_ptr<const MappedFile>> map(const std::filesystem::path& path);
    explicit MappedFile(std::string name) : name_(std::move(name)) {}

    std::string name_;
    std::span<const std::byte> bytes_;
    std::shared_ptr<const void> memory_;  // the heap copy on systems without mmap; else empty
};

}  // namespace fewbit::inline v0::io
