// What the calibration windows look like between two blocks: one (tokens, dim) matrix of f32 for each. The
// first ones, as many as a budget allows, stay in memory; the others lie in a temporary file. The numbers are
// the same in both.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <vector>

#include "fewbit/core/buffer.hpp"
#include "fewbit/core/result.hpp"
#include "fewbit/core/tensor.hpp"
#include "fewbit/io/scratch_file.hpp"

namespace fewbit::inline v0::pipeline {

class CalibrationStream {
public:
    /// Room for windows of `tokens` tokens of `dim` numbers. Errors: no memory for what the budget lets stay
    /// there; those of ScratchFile::create, which is called only where there is more.
    [[nodiscard]] static Result<CalibrationStream> create(std::span<const std::size_t> tokens,
                                                          std::size_t dim, std::size_t budget_bytes,
                                                          const std::filesystem::path& folder);

    [[nodiscard]] std::size_t windows() const noexcept { return places_.size(); }
    /// Bytes of the windows that stay in memory.
    [[nodiscard]] std::size_t memory_bytes() const noexcept { return memory_.size() * sizeof(float); }

    /// The numbers of a window. Errors: those of the temporary file, with the window.
    [[nodiscard]] Result<Matrix> load(std::size_t window) const;
    [[nodiscard]] Result<void> store(std::size_t window, const Matrix& x);

private:
    struct Place {
        std::size_t tokens = 0;
        std::uint64_t first = 0;  ///< number in memory or, where `spilled`, in the file
        bool spilled = false;
    };

    explicit CalibrationStream(std::size_t dim) : dim_(dim) {}

    std::size_t dim_;
    std::vector<Place> places_;  ///< by window
    Buffer<float> memory_;
    std::optional<io::ScratchFile> file_;
};

}  // namespace fewbit::inline v0::pipeline
