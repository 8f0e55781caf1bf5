#include "fewbit/io/mapped_file.hpp"

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <utility>

#include "fewbit/core/text.hpp"
#include "src/io/file_text.hpp"
#include "src/io/system_calls.hpp"

#if defined(_WIN32)
#include <fstream>

#include "fewbit/core/tensor.hpp"
#else
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#endif

namespace fewbit::inline v0::io {

Result<std::shared_ptr<const MappedFile>> MappedFile::open(const std::filesystem::path& path) {
    return detail::without_exceptions([&] { return map(path); });
}

std::string path_text(const std::filesystem::path& path) {
    const auto utf8 = path.u8string();
    return {reinterpret_cast<const char*>(utf8.data()), utf8.size()};
}

#if defined(_WIN32)

// No mapping yet: the file is read into memory.
Result<std::shared_ptr<const MappedFile>> MappedFile::map(const std::filesystem::path& path) {
    std::string name = path_text(path);
    std::error_code code;
    if (!std::filesystem::is_regular_file(path, code))
        return fail(ErrorKind::io, "cannot open '", name,
                    "': ", code ? code.message() : "it is not a regular file");
    const std::uintmax_t size = std::filesystem::file_size(path, code);
    if (code) return fail(ErrorKind::io, "cannot tell the size of '", name, "': ", code.message());
    if (size == 0) return fail(ErrorKind::bad_input, "'", name, "' is empty");
    if (size > static_cast<std::uintmax_t>(PTRDIFF_MAX))
        return fail(ErrorKind::unsupported, "'", name, "' has ", size,
                    " bytes, more than this system can address");
    auto memory = allocate_host(static_cast<std::size_t>(size));
    if (!memory) return fail(ErrorKind::out_of_memory, "no memory for the ", size, " bytes of '", name, "'");
    std::ifstream file(path, std::ios::binary);
    if (!file.read(reinterpret_cast<char*>(memory.get()), static_cast<std::streamsize>(size)))
        return fail(ErrorKind::io, "cannot read the ", size, " bytes of '", name, "'");
    const std::shared_ptr<MappedFile> mapped(new MappedFile(std::move(name)));
    mapped->bytes_ = {memory.get(), static_cast<std::size_t>(size)};
    mapped->memory_ = std::move(memory);
    return std::shared_ptr<const MappedFile>(mapped);
}

MappedFile::~MappedFile() = default;
void MappedFile::read_in_order() const noexcept {}
void MappedFile::will_need(std::size_t, std::size_t) const noexcept {}
void MappedFile::done_with(std::size_t, std::size_t) const noexcept {}

#else

namespace {

using detail::system_reason;

struct Descriptor {
    int fd;
    ~Descriptor() {
        if (fd >= 0) ::close(fd);
    }
};

const char* kind_of(mode_t mode) noexcept {
    if (S_ISDIR(mode)) return "a directory";
    if (S_ISFIFO(mode)) return "a pipe";
    if (S_ISSOCK(mode)) return "a socket";
    if (S_ISCHR(mode) || S_ISBLK(mode)) return "a device";
    return "something else";
}

/// madvise on whole pages: outwards for hints that read, inwards for hints that drop.
void advise(std::span<const std::byte> file, std::size_t offset, std::size_t size, int advice,
            bool outwards) noexcept {
    if (offset >= file.size()) return;
    const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
    std::size_t end = offset + std::min(size, file.size() - offset);
    if (outwards) {
        offset -= offset % page;
    } else {
        offset += (page - offset % page) % page;
        if (end != file.size()) end -= end % page;
    }
    if (offset < end) ::madvise(const_cast<std::byte*>(file.data()) + offset, end - offset, advice);
}

}  // namespace

Result<std::shared_ptr<const MappedFile>> MappedFile::map(const std::filesystem::path& path) {
    std::string name = path_text(path);
    if (path.native().find('\0') != std::string::npos)
        return fail(ErrorKind::bad_input, "the path '", name.c_str(), "...' holds a NUL character");
    // O_NONBLOCK: opening a pipe that nobody writes to would wait forever.
    Descriptor file{-1};
    do {
        file.fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    } while (file.fd < 0 && errno == EINTR);
    if (file.fd < 0) return fail(ErrorKind::io, "cannot open '", name, "': ", system_reason(errno));
    struct stat status {};
    if (::fstat(file.fd, &status) != 0)
        return fail(ErrorKind::io, "cannot tell the size of '", name, "': ", system_reason(errno));
    if (!S_ISREG(status.st_mode))
        return fail(ErrorKind::io, "cannot read '", name, "': it is ", kind_of(status.st_mode),
                    ", not a regular file");
    if (status.st_size <= 0) return fail(ErrorKind::bad_input, "'", name, "' is empty");
    const auto size = static_cast<std::uintmax_t>(status.st_size);
    if (size > static_cast<std::uintmax_t>(PTRDIFF_MAX))
        return fail(ErrorKind::unsupported, "'", name, "' has ", size,
                    " bytes, more than this system can address");
    const auto size_bytes = static_cast<std::size_t>(size);
    const std::shared_ptr<MappedFile> mapped(new MappedFile(std::move(name)));
    void* memory = ::mmap(nullptr, size_bytes, PROT_READ, MAP_PRIVATE, file.fd, 0);
    if (memory == MAP_FAILED)
        return fail(ErrorKind::io, "cannot map the ", size_bytes, " bytes of '", mapped->name_,
                    "': ", system_reason(errno));
    mapped->bytes_ = {static_cast<const std::byte*>(memory), size_bytes};
    return std::shared_ptr<const MappedFile>(mapped);
}

MappedFile::~MappedFile() {
    if (!bytes_.empty()) ::munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
}

void MappedFile::read_in_order() const noexcept { advise(bytes_, 0, bytes_.size(), MADV_SEQUENTIAL, true); }
void MappedFile::will_need(std::size_t offset, std::size_t size) const noexcept {
    advise(bytes_, offset, size, MADV_WILLNEED, true);
}
void MappedFile::done_with(std::size_t offset, std::size_t size) const noexcept {
    advise(bytes_, offset, size, MADV_DONTNEED, false);
}

#endif

}  // namespace fewbit::inline v0::io
