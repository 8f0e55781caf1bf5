// AtomicFile: a file that appears whole or not at all.
//
//   create   a temporary file `.fewbit-<process>-<number>.tmp` beside the target (rename stays on one disk)
//   write    as often as you like, in pieces of any size; every byte count and error of the system is checked
//   commit   flush, fsync, rename onto the target, fsync the directory
//
// Until commit() succeeds the target is what it was before; a failure or the destructor removes the temporary
// file (only a killed process leaves one behind). A target that is a symbolic link is written through the
// link; an existing target's permissions are kept.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "fewbit/core/config.hpp"
#include "fewbit/core/result.hpp"

namespace fewbit::inline v0::io {

class AtomicFile {
public:
    /// Errors: the directory is missing or not writable; the target exists and is not a regular file.
    [[nodiscard]] FEWBIT_API static Result<AtomicFile> create(const std::filesystem::path& target);

    FEWBIT_API AtomicFile(AtomicFile&& other) noexcept;
    AtomicFile& operator=(AtomicFile&&) = delete;
    /// Without commit(): as if nothing had been written.
    FEWBIT_API ~AtomicFile();

    /// Appends. After an error the file is gone, and every later call fails with the same error.
    [[nodiscard]] FEWBIT_API Result<void> write(std::span<const std::byte> bytes);
    [[nodiscard]] Result<void> write(std::string_view text) { return write(std::as_bytes(std::span(text))); }

    /// Makes what was written the target. Call it once, at the end.
    [[nodiscard]] FEWBIT_API Result<void> commit();

    /// Bytes handed to write() so far.
    [[nodiscard]] std::uint64_t size_bytes() const noexcept { return written_ + buffer_.size(); }

private:
    AtomicFile() = default;
    Result<void> append(std::span<const std::byte> bytes);
    Result<void> complete();
    Result<void> flush();
    Result<void> write_out(std::span<const std::byte> bytes);
    Result<void> finish();
    Unexpected<Error> give_up(Error error);
    void discard() noexcept;

    std::string name_;  // of the target, for messages
    std::filesystem::path target_;
    std::filesystem::path temporary_;  // empty once renamed or removed
    int descriptor_ = -1;
    std::uint64_t written_ = 0;      // bytes that the system has taken
    std::vector<std::byte> buffer_;  // bytes that it has not been given yet
    Error failure_;                  // why the file was given up; empty message: it was not
    bool committed_ = false;
};

}  // namespace fewbit::inline v0::io
