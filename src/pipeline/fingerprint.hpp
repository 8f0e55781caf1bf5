// Fingerprints: short texts that differ, with all but certainty, where two quantizations would. They tell
// whether a checkpoint belongs to a run. No defence against somebody who makes one on purpose.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "fewbit/core/executor.hpp"
#include "fewbit/core/result.hpp"
#include "fewbit/io/model_file.hpp"
#include "fewbit/pipeline/calibrated_quantizer.hpp"

namespace fewbit::inline v0::pipeline {

/// Everything that is added changes it, and so does where one part ends and the next begins. Depends on the
/// byte order.
class Fingerprint {
public:
    void add(std::span<const std::byte> bytes) noexcept;
    void add(std::string_view word) noexcept { add(std::as_bytes(std::span(word))); }
    template <class T>
    requires std::is_arithmetic_v<T>
    void add(T value) noexcept { add(std::as_bytes(std::span(&value, 1))); }
    void add(const Linear& linear);
    /// Sixteen hexadecimal digits.
    [[nodiscard]] std::string text() const;

private:
    void mix(std::uint64_t word) noexcept;

    std::uint64_t state_ = 0;
};

[[nodiscard]] std::string fingerprint(const std::map<std::string, Linear>& layers,
                                      const std::map<std::string, std::vector<float>>& vectors);
/// Error: statistics that contradict themselves.
[[nodiscard]] Result<std::string> fingerprint(const Statistics& statistics);

/// What the bytes of a quantized model depend on.
struct RunFingerprints {
    static constexpr std::size_t count = 5;
    /// For a sentence: "<what> differs".
    static constexpr std::array<std::pair<const char*, const char*>, count> names{
        {{"program", "the version of fewbit, or the instruction set that it uses,"},
         {"model", "the model that is to be quantized"},
         {"plan", "the plan (a layer's format, its method or an option of it)"},
         {"scales", "the scaling of channels before the method"},
         {"calibration", "what it is calibrated with"}}};

    std::array<std::string, count> values;
};

/// Reads all weights. Errors: those of fingerprint(Statistics), no kernel for f32.
[[nodiscard]] Result<RunFingerprints> fingerprints_of(const io::ModelFile& file,
                                                      const std::map<std::string, LayerChoice>& plan,
                                                      std::span<const std::vector<int>> windows,
                                                      const CalibratedOptions& options);

}  // namespace fewbit::inline v0::pipeline
