// ScratchFile: bytes that do not fit into memory. The file has no name from the moment it is made, and the
// system takes its space back when the object, or the process, is gone: nothing is ever left behind.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <utility>

#include "fewbit/core/config.hpp"
#include "fewbit/core/result.hpp"

namespace fewbit::inline v0::io {

class ScratchFile {
public:
    /// Makes an empty file in `folder`; empty: the system's folder for temporary files (TMPDIR). Errors: no
    /// such folder, no right to write there.
    [[nodiscard]] FEWBIT_API static Result<ScratchFile> create(const std::filesystem::path& folder = {});

    ScratchFile(ScratchFile&& other) noexcept
        : folder_(std::move(other.folder_)), descriptor_(std::exchange(other.descriptor_, -1)) {}
    ScratchFile& operator=(ScratchFile&&) = delete;
    FEWBIT_API ~ScratchFile();

    /// Puts bytes at an offset; the file grows as far as it has to. Errors: a full disk, with how much was
    /// asked for.
    [[nodiscard]] FEWBIT_API Result<void> write(std::uint64_t offset_bytes, std::span<const std::byte> bytes);
    /// Fills `bytes` from an offset. Errors: the file ends before, the disk.
    [[nodiscard]] FEWBIT_API Result<void> read(std::uint64_t offset_bytes, std::span<std::byte> bytes) const;

private:
    ScratchFile(std::string folder, int descriptor) : folder_(std::move(folder)), descriptor_(descriptor) {}

    std::string folder_;  // for messages
    int descriptor_ = -1;
};

}  // namespace fewbit::inline v0::io
