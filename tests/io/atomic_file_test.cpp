#include "fewbit/io/atomic_file.hpp"

#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <random>
#include <thread>

#include "fault_injection.hpp"
#include "io_support.hpp"
#include "support/catch.hpp"

using namespace fewbit;
using namespace fewbit_test;

namespace {

std::string pattern(std::size_t bytes) {
    std::string out(bytes, '\0');
    for (std::size_t i = 0; i < bytes; ++i) out[i] = static_cast<char>(i * 31 + i / 256);
    return out;
}

Result<void> write_whole(const fs::path& path, std::string_view bytes, std::size_t piece = 100'000) {
    auto file = io::AtomicFile::create(path);
    if (!file) return Unexpected{file.error()};
    for (std::size_t i = 0; i < bytes.size(); i += piece)
        if (auto done = file->write(bytes.substr(i, piece)); !done) return done;
    return file->commit();
}

}  // namespace

TEST_CASE("a file appears with commit and not before", "[io]") {
    const TempFolder folder;
    const fs::path path = folder / "out";
    for (const std::size_t size : {std::size_t{0}, std::size_t{1}, std::size_t{1} << 20,
                                   (std::size_t{1} << 20) + 1, std::size_t{5'000'000}}) {
        for (const std::size_t piece : {std::size_t{999}, std::size_t{100'000}, std::size_t{3'000'000}}) {
            const std::string bytes = pattern(size);
            write_file(path, "old");
            auto file = io::AtomicFile::create(path);
            REQUIRE(message(file) == "");
            for (std::size_t i = 0; i < size; i += piece)
                REQUIRE(file->write(std::string_view(bytes).substr(i, piece)));
            CHECK(file->size_bytes() == size);
            CHECK(read_file(path) == "old");
            REQUIRE(file->commit());
            CHECK(read_file(path) == bytes);
            CHECK(folder.files() == 1);
            CHECK_FALSE(file->write("more"));
            CHECK_FALSE(file->commit());
        }
    }
}

TEST_CASE("a file without commit leaves nothing", "[io]") {
    const TempFolder folder;
    {
        auto file = io::AtomicFile::create(folder / "out");
        REQUIRE(file);
        REQUIRE(file->write(pattern(3'000'000)));
        CHECK(folder.files() == 1);
        auto moved = std::move(*file);
        REQUIRE(moved.write("x"));
    }
    CHECK(folder.files() == 0);
}

TEST_CASE("permissions, symbolic links and relative paths of the target", "[io]") {
    const TempFolder folder;
    write_file(folder / "real", "old");
    fs::permissions(folder / "real", fs::perms::owner_read | fs::perms::owner_write);
    fs::create_symlink("real", folder / "link");
    REQUIRE(message(write_whole(folder / "link", "new")) == "");
    CHECK(read_file(folder / "real") == "new");
    CHECK(fs::is_symlink(folder / "link"));
    CHECK(fs::status(folder / "real").permissions() == (fs::perms::owner_read | fs::perms::owner_write));

    const fs::path before = fs::current_path();
    fs::current_path(folder.path());
    const auto written = write_whole("relative", "here");
    fs::current_path(before);
    CHECK(message(written) == "");
    CHECK(read_file(folder / "relative") == "here");
    const std::string long_name(255, 'n');  // no room for a suffix
    CHECK(message(write_whole(folder / long_name, "x")) == "");
}

TEST_CASE("targets that cannot be written get a sentence", "[io]") {
    const TempFolder folder;
    write_file(folder / "plain", "x");
    const auto error = [](const fs::path& path) {
        const auto file = io::AtomicFile::create(path);
        REQUIRE_FALSE(file);
        INFO(file.error().message);
        CHECK(contains(file.error().message, "cannot write"));
        return file.error().message;
    };
    CHECK(contains(error(folder / "missing" / "out"), "No such file"));
    CHECK(contains(error(folder / "plain" / "out"), "Not a directory"));
    CHECK(contains(error(folder.path()), "a directory"));
    CHECK(contains(error(folder.path() / ""), "names no file"));
    CHECK(contains(error(""), "names no file"));
    CHECK(contains(error("/dev/full"), "device"));
    CHECK(contains(message(io::AtomicFile::create(std::string("a\0b", 3))), "NUL"));
    if (::geteuid() != 0) {
        fs::permissions(folder.path(), fs::perms::owner_read | fs::perms::owner_exec);
        CHECK(contains(error(folder / "out"), "Permission denied"));
        fs::permissions(folder.path(), fs::perms::owner_all);
    }
    CHECK(folder.files() == 1);
}

TEST_CASE("every failure of the disk leaves the old file and no temporary one", "[io]") {
    if (!Faults::available()) FEWBIT_SKIP("system calls cannot be replaced on this system");
    const TempFolder folder;
    const fs::path path = folder / "out";
    const std::string bytes = pattern(3'000'000);
    const auto attempt = [&](const FaultPlan& plan) {
        write_file(path, "old");
        Result<void> done;
        {
            const Faults faults(plan);
            done = write_whole(path, bytes);
        }
        CHECK(folder.files() == 1);
        return message(done);
    };
    for (const std::size_t space : {0, 1, 4096, 1'500'000, 2'999'999}) {
        FaultPlan plan;
        plan.space_bytes = space;
        plan.write_error = ENOSPC;
        const std::string sentence = attempt(plan);
        INFO(sentence);
        CHECK(contains(sentence, "No space left"));
        CHECK(contains(sentence, path.string()));
        CHECK(contains(sentence, "after " + std::to_string(space) + " bytes"));
        CHECK(read_file(path) == "old");
    }
    FaultPlan plan;
    plan.space_bytes = 2'000'000;
    plan.write_error = EIO;
    CHECK(contains(attempt(plan), "Input/output error"));
    CHECK(read_file(path) == "old");
    plan = {};
    plan.write_nothing = true;
    CHECK(contains(attempt(plan), "took none"));
    CHECK(read_file(path) == "old");
    plan = {};
    plan.fsync_error = EIO;
    CHECK(contains(attempt(plan), "flushing its 3000000 bytes failed: Input/output error"));
    CHECK(read_file(path) == "old");
    plan = {};
    plan.rename_error = EROFS;
    CHECK(contains(attempt(plan), "Read-only"));
    CHECK(read_file(path) == "old");
    plan = {};
    plan.directory_fsync_error = EIO;
    CHECK(contains(attempt(plan), "complete, but"));
    CHECK(read_file(path) == bytes);
    plan = {};
    plan.directory_fsync_error = EINVAL;  // "this file system cannot"
    CHECK(attempt(plan) == "");
    plan = {};
    plan.longest_write_bytes = 777;
    plan.interruptions = 5;
    CHECK(attempt(plan) == "");
    CHECK(read_file(path) == bytes);
}

TEST_CASE("after a failure every call fails the same way", "[io]") {
    if (!Faults::available()) FEWBIT_SKIP("system calls cannot be replaced on this system");
    const TempFolder folder;
    auto file = io::AtomicFile::create(folder / "out");
    REQUIRE(file);
    FaultPlan plan;
    plan.space_bytes = 10;
    plan.write_error = ENOSPC;
    Result<void> first;
    {
        const Faults faults(plan);
        first = file->write(pattern(2'000'000));
    }
    REQUIRE_FALSE(first);
    CHECK(folder.files() == 0);
    CHECK(message(file->write("more")) == message(first));
    CHECK(message(file->commit()) == message(first));
    CHECK(folder.files() == 0);
}

TEST_CASE("a full disk", "[io]") {
    const TempFolder folder;
    const fs::path disk = folder / "disk";
    fs::create_directory(disk);
    if (::mount("fewbit-test", disk.c_str(), "tmpfs", 0, "size=1m") != 0)
        FEWBIT_SKIP("no tmpfs can be mounted here; ENOSPC is tested with replaced system calls");
    write_file(disk / "out", "old");
    const auto done = write_whole(disk / "out", pattern(4'000'000));
    const std::string old = read_file(disk / "out");
    const auto files = std::distance(fs::directory_iterator(disk), fs::directory_iterator());
    ::umount2(disk.c_str(), MNT_DETACH);
    CHECK(contains(message(done), "No space left"));
    CHECK(old == "old");
    CHECK(files == 1);
}

TEST_CASE("a limit on the size of files", "[io]") {
    const TempFolder folder;
    write_file(folder / "out", "old");
    rlimit before{};
    REQUIRE(::getrlimit(RLIMIT_FSIZE, &before) == 0);
    const auto handler = std::signal(SIGXFSZ, SIG_IGN);
    const rlimit small{1'200'000, before.rlim_max};
    REQUIRE(::setrlimit(RLIMIT_FSIZE, &small) == 0);
    const auto done = write_whole(folder / "out", pattern(3'000'000));
    ::setrlimit(RLIMIT_FSIZE, &before);
    std::signal(SIGXFSZ, handler);
    INFO(message(done));
    CHECK(contains(message(done), "File too large"));
    CHECK(contains(message(done), "after 1200000 bytes"));
    CHECK(read_file(folder / "out") == "old");
    CHECK(folder.files() == 1);
}

TEST_CASE("kill -9 at any moment leaves the old file or a complete new one", "[io]") {
    const TempFolder folder;
    const fs::path path = folder / "out";
    constexpr std::size_t size = 2'000'000;
    write_file(path, std::string(size, 'a'));
    std::mt19937 random(7);
    int replaced = 0;
    for (int round = 0; round < 60; ++round) {
        const std::string old = read_file(path);
        const std::string fresh(size, static_cast<char>('b' + round % 20));
        const pid_t child = ::fork();
        REQUIRE(child >= 0);
        if (child == 0) {
            const bool done = write_whole(path, fresh, 50'000).has_value();
            ::_exit(done ? 0 : 1);
        }
        std::this_thread::sleep_for(std::chrono::microseconds(random() % 6000));
        ::kill(child, SIGKILL);
        int status = 0;
        REQUIRE(::waitpid(child, &status, 0) == child);
        const std::string now = read_file(path);
        REQUIRE((now == old || now == fresh));
        replaced += now == fresh;
    }
    INFO(replaced << " of 60 writes were finished before the kill");
    CHECK(replaced < 60);
}
