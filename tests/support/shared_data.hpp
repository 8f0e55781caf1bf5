// The optional folder of real models and texts, named by the environment variable FEWBIT_SHARED_DIR.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

namespace fewbit::testing {

/// The path of a file below the folder ("models/stories260K/stories260K.bin"); empty when it is not there.
/// Usage:
///   const auto path = shared_file("text/tinystories.txt");
///   if (path.empty()) FEWBIT_SKIP("text/tinystories.txt is not in FEWBIT_SHARED_DIR");
[[nodiscard]] inline std::filesystem::path shared_file(const std::string& name) {
    const char* folder = std::getenv("FEWBIT_SHARED_DIR");
    if (folder == nullptr || *folder == '\0') return {};
    const std::filesystem::path path = std::filesystem::path(folder) / name;
    std::error_code error;
    return std::filesystem::is_regular_file(path, error) ? path : std::filesystem::path{};
}

[[nodiscard]] inline std::string read_text(const std::filesystem::path& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

}  // namespace fewbit::testing
