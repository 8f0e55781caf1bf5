// Folders in the layouts of others (GPTQ, compressed-tensors): a config.json that says how a safetensors file is to
// be read. The input is both: a u16 with the length of the config, the config, the file.
#include <filesystem>
#include <fstream>
#include <string>

#include <stdlib.h>

#include "fewbit/io/model_safetensors.hpp"
#include "fuzz.hpp"

using namespace fewbit;

namespace {

/// A folder of this process, whose config.json changes with every input; gone when the process ends.
struct Folder {
    std::filesystem::path path;

    Folder() {
        std::string pattern = (std::filesystem::temp_directory_path() / "fewbit-fuzz-XXXXXX").string();
        if (mkdtemp(pattern.data()) == nullptr) __builtin_trap();
        path = pattern;
    }
    ~Folder() {
        std::error_code ignored;
        std::filesystem::remove_all(path, ignored);
    }
    Folder(const Folder&) = delete;
    Folder& operator=(const Folder&) = delete;
};

const std::filesystem::path& folder() {
    static const Folder made;
    return made.path;
}

}  // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size < 2) return 0;
    const std::size_t wanted = data[0] + 256u * data[1], config_size = wanted < size - 2 ? wanted : size - 2;
    const auto file = io::parse_safetensors(
        testing::fuzz_bytes(data + 2 + config_size, size - 2 - config_size), nullptr, "fuzz");
    if (!file) return 0;
    std::ofstream(folder() / "config.json", std::ios::binary)
        .write(reinterpret_cast<const char*>(data + 2), static_cast<std::streamsize>(config_size));
    const auto model = io::read_safetensors_model(*file, folder());
    if (!model) return 0;
    double sum = 0;
    for (const auto& [name, linear] : model->linears) {
        std::vector<float> row(linear.k());
        for (std::size_t r = 0; r < linear.n(); ++r) {
            linear.weights.dequantize(r, 0, row);
            for (const float value : row) sum += static_cast<double>(value);
        }
    }
    volatile double used = sum;
    (void)used;
    return 0;
}
