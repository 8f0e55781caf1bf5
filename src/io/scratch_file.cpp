#include "fewbit/io/scratch_file.hpp"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <system_error>

#include "fewbit/io/mapped_file.hpp"  // path_text
#include "src/io/file_text.hpp"
#include "src/io/system_calls.hpp"

#if defined(_WIN32)
#include <io.h>
#else
#include <unistd.h>
#endif

namespace fewbit::inline v0::io {
namespace {

namespace fs = std::filesystem;

using detail::system_reason;

// The system's calls: each returns what the system returned and leaves the reason in errno.
#if defined(_WIN32)
// The system removes the file with its last descriptor.
int open_nameless(const fs::path& path) {
    return ::_wopen(path.c_str(), _O_CREAT | _O_EXCL | _O_RDWR | _O_BINARY | _O_TEMPORARY,
                    _S_IREAD | _S_IWRITE);
}
long long write_at(int fd, const std::byte* data, std::size_t size, std::uint64_t offset) {
    if (::_lseeki64(fd, static_cast<long long>(offset), SEEK_SET) < 0) return -1;
    return ::_write(fd, data, static_cast<unsigned>(size));
}
long long read_at(int fd, std::byte* data, std::size_t size, std::uint64_t offset) {
    if (::_lseeki64(fd, static_cast<long long>(offset), SEEK_SET) < 0) return -1;
    return ::_read(fd, data, static_cast<unsigned>(size));
}
void close_scratch(int fd) { ::_close(fd); }
#else
int open_nameless(const fs::path& path) {
    const int fd = ::open(path.c_str(), O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600);
    if (fd < 0 || ::unlink(path.c_str()) == 0) return fd;
    const int reason = errno;
    ::close(fd);
    errno = reason;
    return -1;
}
long long write_at(int fd, const std::byte* data, std::size_t size, std::uint64_t offset) {
    return ::pwrite(fd, data, size, static_cast<off_t>(offset));
}
long long read_at(int fd, std::byte* data, std::size_t size, std::uint64_t offset) {
    return ::pread(fd, data, size, static_cast<off_t>(offset));
}
void close_scratch(int fd) { ::close(fd); }
#endif

/// Moves `size` bytes in calls of `move(done, wanted)`. Returns what is wrong, empty when nothing is.
template <class Move>
std::string move_all(std::size_t size, const char* nothing, Move&& move) {
    for (std::size_t done = 0; done < size;) {
        const long long moved = move(done, std::min(size - done, detail::largest_transfer_bytes));
        if (moved < 0 && errno == EINTR) continue;
        if (moved <= 0) return moved < 0 ? system_reason(errno) : nothing;
        done += static_cast<std::size_t>(moved);
    }
    return {};
}

Result<std::pair<std::string, int>> make(const fs::path& given) {
    std::error_code code;
    const fs::path folder = given.empty() ? fs::temp_directory_path(code) : given;
    if (code)
        return fail(ErrorKind::io,
                    "the system names no folder for temporary files (TMPDIR): ", code.message());
    int reason = 0;
    for (int attempt = 0; attempt < 1000; ++attempt) {
        const int descriptor = open_nameless(folder / detail::temporary_name(".scratch"));
        if (descriptor >= 0) return std::pair(path_text(folder), descriptor);
        reason = errno;
        if (reason != EEXIST && reason != EINTR) break;
    }
    return fail(ErrorKind::io, "cannot make a temporary file in '", path_text(folder),
                "': ", system_reason(reason));
}

}  // namespace

Result<ScratchFile> ScratchFile::create(const fs::path& folder) {
    return detail::without_exceptions([&]() -> Result<ScratchFile> {
        auto made = make(folder);
        if (!made) return Unexpected{std::move(made).error()};
        return ScratchFile(std::move(made->first), made->second);
    });
}

ScratchFile::~ScratchFile() {
    if (descriptor_ >= 0) close_scratch(descriptor_);
}

Result<void> ScratchFile::write(std::uint64_t offset_bytes, std::span<const std::byte> bytes) {
    const std::string wrong =
        move_all(bytes.size(), "the system took none of them", [&](std::size_t done, std::size_t wanted) {
            return write_at(descriptor_, bytes.data() + done, wanted, offset_bytes + done);
        });
    if (wrong.empty()) return {};
    return fail(ErrorKind::io, "cannot write ", bytes.size(), " bytes at ", offset_bytes,
                " of a temporary file in '", folder_, "': ", wrong);
}

Result<void> ScratchFile::read(std::uint64_t offset_bytes, std::span<std::byte> bytes) const {
    const std::string wrong =
        move_all(bytes.size(), "the file ends before", [&](std::size_t done, std::size_t wanted) {
            return read_at(descriptor_, bytes.data() + done, wanted, offset_bytes + done);
        });
    if (wrong.empty()) return {};
    return fail(ErrorKind::io, "cannot read ", bytes.size(), " bytes at ", offset_bytes,
                " of a temporary file in '", folder_, "': ", wrong);
}

}  // namespace fewbit::inline v0::io
