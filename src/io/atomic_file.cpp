#include "fewbit/io/atomic_file.hpp"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <system_error>
#include <utility>

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

constexpr std::size_t buffer_bytes = std::size_t{1} << 20;

// The system's calls: each returns what the system returned and leaves the reason in errno.
#if defined(_WIN32)
int open_new(const fs::path& path) {
    return ::_wopen(path.c_str(), _O_CREAT | _O_EXCL | _O_WRONLY | _O_BINARY, _S_IWRITE);
}
long long write_some(int fd, const std::byte* data, std::size_t size) {
    return ::_write(fd, data, static_cast<unsigned>(size));
}
int flush_to_disk(int fd) { return ::_commit(fd); }
int close_file(int fd) { return ::_close(fd); }
void keep_permissions(int, const fs::path&) {}
int flush_directory(const fs::path&) { return 0; }
#else
int open_new(const fs::path& path) {
    return ::open(path.c_str(), O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0666);
}
long long write_some(int fd, const std::byte* data, std::size_t size) { return ::write(fd, data, size); }
int flush_to_disk(int fd) {
    int status = 0;
    do {
        status = ::fsync(fd);
    } while (status != 0 && errno == EINTR);
    return status;
}
int close_file(int fd) { return ::close(fd); }
void keep_permissions(int fd, const fs::path& target) {
    struct stat status {};
    if (::stat(target.c_str(), &status) == 0) static_cast<void>(::fchmod(fd, status.st_mode & 0777));
}
int flush_directory(const fs::path& directory) {
    const int fd = ::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return -1;
    int status = flush_to_disk(fd);
    // Some file systems cannot flush directories and say so; there is nothing more to do on those.
    if (status != 0 && (errno == EINVAL || errno == ENOTSUP)) status = 0;
    const int reason = errno;
    ::close(fd);
    errno = reason;
    return status;
}
#endif

Result<void> check_target(const fs::path& target, const std::string& name) {
    if (target.native().find(fs::path::value_type{}) != fs::path::string_type::npos)
        return fail(ErrorKind::bad_input, "the path '", name.c_str(), "...' holds a NUL character");
    if (!target.has_filename())
        return fail(ErrorKind::bad_input, "cannot write '", name, "': it names no file");
    std::error_code code;
    const fs::file_status status = fs::status(target, code);
    if (status.type() == fs::file_type::not_found || status.type() == fs::file_type::regular) return {};
    if (status.type() == fs::file_type::none || status.type() == fs::file_type::unknown)
        return fail(ErrorKind::io, "cannot write '", name, "': ", code.message());
    return fail(ErrorKind::io, "cannot write '", name, "': it is ",
                status.type() == fs::file_type::directory ? "a directory" : "a pipe, a socket or a device",
                ", not a regular file");
}

}  // namespace

Result<AtomicFile> AtomicFile::create(const fs::path& target) {
    return detail::without_exceptions([&]() -> Result<AtomicFile> {
        const std::string name = path_text(target);
        if (auto fine = check_target(target, name); !fine) return Unexpected{std::move(fine).error()};
        AtomicFile file;
        file.name_ = name;
        file.target_ = target;
        std::error_code code;
        if (fs::is_symlink(target, code))
            if (const fs::path behind = fs::canonical(target, code); !code) file.target_ = behind;
        file.buffer_.reserve(buffer_bytes);

        for (int attempt = 0; attempt < 1000; ++attempt) {
            fs::path beside = file.target_.parent_path() / detail::temporary_name(".tmp");
            const int descriptor = open_new(beside);
            if (descriptor >= 0) {
                file.descriptor_ = descriptor;
                file.temporary_ = std::move(beside);
                keep_permissions(descriptor, file.target_);
                return file;
            }
            if (errno != EEXIST && errno != EINTR)
                return fail(ErrorKind::io, "cannot write '", name,
                            "': no file can be made in its directory: ", system_reason(errno));
        }
        return fail(ErrorKind::io, "cannot write '", name,
                    "': too many temporary files (.fewbit-*.tmp) lie beside it");
    });
}

AtomicFile::AtomicFile(AtomicFile&& other) noexcept
    : name_(std::move(other.name_)),
      target_(std::move(other.target_)),
      temporary_(std::move(other.temporary_)),
      descriptor_(std::exchange(other.descriptor_, -1)),
      written_(other.written_),
      buffer_(std::move(other.buffer_)),
      failure_(std::move(other.failure_)),
      committed_(other.committed_) {
    other.temporary_.clear();
}

AtomicFile::~AtomicFile() { discard(); }

void AtomicFile::discard() noexcept {
    if (descriptor_ >= 0) close_file(std::exchange(descriptor_, -1));
    if (!temporary_.empty()) {
        std::error_code ignored;
        fs::remove(temporary_, ignored);
        temporary_.clear();
    }
}

Unexpected<Error> AtomicFile::give_up(Error error) {
    discard();
    failure_ = error;
    return Unexpected{std::move(error)};
}

Result<void> AtomicFile::write_out(std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
        const std::size_t wanted = std::min(bytes.size(), detail::largest_transfer_bytes);
        const long long taken = write_some(descriptor_, bytes.data(), wanted);
        if (taken < 0 && errno == EINTR) continue;
        if (taken <= 0) {
            const std::string reason = taken < 0 ? system_reason(errno) : "the system took none of them";
            return fail(ErrorKind::io, "cannot write '", name_, "': after ", written_, " bytes, the next ",
                        bytes.size(), " failed: ", reason, "; the file is left as it was");
        }
        written_ += static_cast<std::uint64_t>(taken);
        bytes = bytes.subspan(static_cast<std::size_t>(taken));
    }
    return {};
}

Result<void> AtomicFile::flush() {
    auto done = write_out(buffer_);
    buffer_.clear();
    return done;
}

Result<void> AtomicFile::write(std::span<const std::byte> bytes) {
    return detail::without_exceptions([&] { return append(bytes); });
}

Result<void> AtomicFile::commit() {
    return detail::without_exceptions([&] { return complete(); });
}

Result<void> AtomicFile::append(std::span<const std::byte> bytes) {
    if (!failure_.message.empty()) return Unexpected{failure_};
    if (committed_ || descriptor_ < 0)
        return fail(ErrorKind::io, "cannot write '", name_, "': it is already complete");
    Result<void> done;
    if (buffer_.size() + bytes.size() > buffer_bytes) done = flush();
    if (done && bytes.size() >= buffer_bytes)
        done = write_out(bytes);
    else if (done)
        buffer_.insert(buffer_.end(), bytes.begin(), bytes.end());  // within its capacity: no allocation
    if (!done) return give_up(std::move(done).error());
    return {};
}

Result<void> AtomicFile::finish() {
    if (auto done = flush(); !done) return done;
    const auto failed = [this](const char* what) {
        const int reason = errno;
        return fail(ErrorKind::io, "cannot write '", name_, "': ", what, " its ", written_,
                    " bytes failed: ", system_reason(reason), "; the file is left as it was");
    };
    if (flush_to_disk(descriptor_) != 0) return failed("flushing");
    // Network file systems report late errors here. The descriptor is gone either way.
    if (close_file(std::exchange(descriptor_, -1)) != 0 && errno != EINTR) return failed("closing");
    std::error_code code;
    fs::rename(temporary_, target_, code);
    if (code)
        return fail(ErrorKind::io, "cannot write '", name_, "': renaming the finished file of ", written_,
                    " bytes failed: ", code.message(), "; the file is left as it was");
    temporary_.clear();
    return {};
}

Result<void> AtomicFile::complete() {
    if (!failure_.message.empty()) return Unexpected{failure_};
    if (committed_ || descriptor_ < 0)
        return fail(ErrorKind::io, "cannot write '", name_, "': it is already complete");
    const fs::path directory = target_.has_parent_path() ? target_.parent_path() : fs::path(".");
    if (auto done = finish(); !done) return give_up(std::move(done).error());
    committed_ = true;
    if (flush_directory(directory) != 0) {
        const int reason = errno;
        return fail(ErrorKind::io, "'", name_,
                    "' is complete, but flushing its directory failed: ", system_reason(reason),
                    "; it may be gone after a power failure");
    }
    return {};
}

}  // namespace fewbit::inline v0::io
