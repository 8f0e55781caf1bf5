// What `fewbit inspect` finds in a file.
#pragma once

#include <cstddef>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "src/cli/load.hpp"

namespace fewbit::cli {

struct BadNumbers {
    std::string tensor;
    std::vector<std::size_t> index;  // of the first one
    std::string value;               // "NaN", "+infinity", "-infinity"
    std::size_t count = 0;
};

struct TensorRow {
    std::string name;
    std::vector<std::size_t> shape;
    std::string format;
    double bits = 0;

    [[nodiscard]] double elements() const {
        double product = 1;
        for (const std::size_t extent : shape) product *= static_cast<double>(extent);
        return product;
    }
    [[nodiscard]] double bits_per_weight() const { return elements() == 0 ? 0 : bits / elements(); }
};

struct Findings {
    std::string type;
    std::optional<io::ModelShape> shape;
    std::vector<TensorRow> tensors;
    std::vector<BadNumbers> bad;
    std::vector<std::string> readers;
    std::map<std::string, std::string> metadata;
    std::vector<std::string> lines;  ///< more about the file, for eyes
    ModelSize size;
};

/// Counts a number that is not finite; the first one's place is kept.
void note_bad(BadNumbers& bad, double value, std::vector<std::size_t> index);

/// Tensors, metadata and bad numbers of a GGUF file, whatever its architecture.
[[nodiscard]] Findings inspect_gguf(const std::string& path, ExecutionContext context);

}  // namespace fewbit::cli
