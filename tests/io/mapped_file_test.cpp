#include "fewbit/io/mapped_file.hpp"

#include <sys/stat.h>

#include "io_support.hpp"
#include "support/catch.hpp"

using namespace fewbit;
using namespace fewbit_test;

TEST_CASE("a mapped file shows its bytes and keeps them after the file is replaced", "[io]") {
    const TempFolder folder;
    write_file(folder / "a", "hello");
    auto file = io::MappedFile::open(folder / "a");
    REQUIRE(message(file) == "");
    const auto bytes = (*file)->bytes();
    REQUIRE(bytes.size() == 5);
    CHECK(std::to_integer<char>(bytes[4]) == 'o');
    CHECK((*file)->name() == (folder / "a").string());
    write_file(folder / "b", "other");
    fs::rename(folder / "b", folder / "a");
    CHECK(std::to_integer<char>(bytes[4]) == 'o');
}

TEST_CASE("hints take any range", "[io]") {
    const TempFolder folder;
    write_file(folder / "a", std::string(100'000, 'x'));
    const auto file = *io::MappedFile::open(folder / "a");
    file->read_in_order();
    for (const std::size_t offset : {std::size_t{0}, std::size_t{1}, std::size_t{4096}, std::size_t{99'999},
                                     std::size_t{100'000}, ~std::size_t{0}})
        for (const std::size_t size : {std::size_t{0}, std::size_t{1}, std::size_t{5000}, ~std::size_t{0}}) {
            file->will_need(offset, size);
            file->done_with(offset, size);
        }
    CHECK(std::to_integer<char>(file->bytes()[50'000]) == 'x');
}

TEST_CASE("what cannot be mapped gets a sentence with its name", "[io]") {
    const TempFolder folder;
    const auto error = [](const fs::path& path) {
        const auto file = io::MappedFile::open(path);
        REQUIRE_FALSE(file);
        CHECK(contains(file.error().message, path.filename().string()));
        return file.error();
    };
    CHECK(contains(error(folder / "missing").message, "No such file"));
    CHECK(error(folder / "missing").kind == ErrorKind::io);
    CHECK(contains(error(folder.path()).message, "directory"));
    write_file(folder / "empty", "");
    CHECK(contains(error(folder / "empty").message, "is empty"));
    CHECK(error(folder / "empty").kind == ErrorKind::bad_input);
    CHECK(contains(error(folder / "empty" / "below").message, "Not a directory"));
    REQUIRE(::mkfifo((folder / "pipe").c_str(), 0600) == 0);
    CHECK(contains(error(folder / "pipe").message, "a pipe"));  // and no waiting for a writer
    CHECK(contains(error("/dev/zero").message, "a device"));
    fs::create_symlink(folder / "nowhere", folder / "dangling");
    CHECK(contains(error(folder / "dangling").message, "No such file"));
    CHECK(contains(message(io::MappedFile::open(std::string("a\0b", 3))), "NUL"));
    CHECK_FALSE(io::MappedFile::open(""));
    CHECK_FALSE(io::MappedFile::open(folder / std::string(5000, 'x')));
}

TEST_CASE("names in any script", "[io]") {
    const TempFolder folder;
    for (const char* name : {"модель.bin", "模型 文件", "naïve", "😀.safetensors", "with 'quotes' and\ttabs",
                             "\xff\xfe not UTF-8"}) {
        INFO(name);
        write_file(folder / name, "x");
        const auto file = io::MappedFile::open(folder / name);
        REQUIRE(message(file) == "");
        CHECK((*file)->bytes().size() == 1);
    }
}
