// Matrices and vectors of a ModelFile, found by name and checked against the model's shape.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "fewbit/core/result.hpp"
#include "fewbit/io/model_file.hpp"

namespace fewbit::inline v0::model {

[[nodiscard]] inline Result<const Linear*> find_linear(const io::ModelFile& file, const std::string& name,
                                                       std::size_t n, std::size_t k) {
    const auto found = file.linears.find(name);
    if (found == file.linears.end())
        return fail(ErrorKind::bad_input, "the ", file.type, " model has no matrix '", name, "'");
    const Linear& linear = found->second;
    if (linear.n() != n || linear.k() != k)
        return fail(ErrorKind::bad_input, "matrix '", name, "' is ", linear.n(), " x ", linear.k(),
                    "; the model's shape asks for ", n, " x ", k);
    return &linear;
}

[[nodiscard]] inline Result<std::vector<float>> find_vector(const io::ModelFile& file,
                                                            const std::string& name, std::size_t length) {
    const auto found = file.vectors.find(name);
    if (found == file.vectors.end())
        return fail(ErrorKind::bad_input, "the ", file.type, " model has no vector '", name, "'");
    if (found->second.size() != length)
        return fail(ErrorKind::bad_input, "vector '", name, "' has ", found->second.size(),
                    " elements; the model's shape asks for ", length);
    return found->second;
}

}  // namespace fewbit::inline v0::model
