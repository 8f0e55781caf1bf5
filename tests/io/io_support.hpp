// What the tests of files share: a folder that vanishes, whole files as strings, safetensors files by hand.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <string_view>

#include "fewbit/io/safetensors.hpp"

namespace fewbit_test {

namespace fs = std::filesystem;

class TempFolder {
public:
    TempFolder() {
        std::random_device random;
        do {
            path_ = fs::temp_directory_path() / ("fewbit-io-" + std::to_string(random()));
        } while (!fs::create_directory(path_));
    }
    ~TempFolder() {
        std::error_code ignored;
        fs::remove_all(path_, ignored);
    }
    TempFolder(const TempFolder&) = delete;
    TempFolder& operator=(const TempFolder&) = delete;

    [[nodiscard]] const fs::path& path() const { return path_; }
    [[nodiscard]] fs::path operator/(const fs::path& name) const { return path_ / name; }
    [[nodiscard]] std::size_t files() const {
        return static_cast<std::size_t>(
            std::distance(fs::directory_iterator(path_), fs::directory_iterator()));
    }

private:
    fs::path path_;
};

inline std::string read_file(const fs::path& path) {
    std::ifstream file(path, std::ios::binary | std::ios::ate);
    if (!file) return {};
    std::string bytes(static_cast<std::size_t>(file.tellg()), '\0');
    file.seekg(0).read(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    return bytes;
}

inline void write_file(const fs::path& path, std::string_view bytes) {
    std::ofstream(path, std::ios::binary).write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}

inline std::string u64_bytes(std::uint64_t value) {
    std::string out;
    for (int i = 0; i < 8; ++i) out += static_cast<char>(value >> (8 * i) & 255);
    return out;
}

inline std::string safetensors_bytes(std::string_view header, std::string_view data = {}) {
    return u64_bytes(header.size()) + std::string(header) + std::string(data);
}

/// Parses a copy that ends exactly where the bytes end, so that sanitizers see every byte read too many.
inline fewbit::Result<fewbit::io::SafetensorsFile> parse(std::string_view bytes) {
    const std::shared_ptr<std::byte[]> copy(new std::byte[bytes.size()]);
    for (std::size_t i = 0; i < bytes.size(); ++i) copy[i] = static_cast<std::byte>(bytes[i]);
    return fewbit::io::parse_safetensors({copy.get(), bytes.size()}, copy, "memory");
}

/// The message of a failed result, "" of a good one.
template <class T>
std::string message(const fewbit::Result<T>& result) {
    return result ? std::string() : result.error().message;
}

inline bool contains(std::string_view text, std::string_view part) {
    return text.find(part) != std::string_view::npos;
}

}  // namespace fewbit_test
