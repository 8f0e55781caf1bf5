// What an interrupted quantization finished, in a folder: a file for each step (the embedding, a block),
// which appears whole or not at all and says what it was made from. docs/files.md has the layout.
#pragma once

#include <cstddef>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "fewbit/calibrate/statistics.hpp"
#include "fewbit/core/result.hpp"
#include "fewbit/formats/linear.hpp"
#include "fewbit/pipeline/calibrated_quantizer.hpp"
#include "src/pipeline/fingerprint.hpp"

namespace fewbit::inline v0::pipeline {

struct FinishedStep {
    std::map<std::string, Linear> layers;              ///< as quantized
    std::map<std::string, std::vector<float>> scales;  ///< by the first reader of a fold: folded there
    std::map<std::string, LayerOutcome, std::less<>> outcomes;  ///< of `layers`
    std::optional<Statistics> statistics;                       ///< where they are kept
};

class Checkpoint {
public:
    /// `resume`: steps in the folder are taken over. Error: there are some, and they are not to be.
    [[nodiscard]] static Result<Checkpoint> open(const std::filesystem::path& folder, bool resume,
                                                 RunFingerprints fingerprints);

    /// Nothing where the step was not finished; all later ones count as unfinished then. `statistics`: they
    /// are wanted, too, and stay in the mapped file. Errors: a file that is damaged, or of another run, with
    /// what differs.
    [[nodiscard]] Result<std::optional<FinishedStep>> load(const std::string& step, bool statistics);
    /// Makes the folder with the first step. Errors: those of the file system.
    [[nodiscard]] Result<void> save(const std::string& step, const FinishedStep& finished) const;

    /// Those of a step that was saved, from the mapped file. Errors: those of from_tensors.
    [[nodiscard]] Result<Statistics> saved_statistics(const std::string& step) const;

private:
    Checkpoint(std::filesystem::path folder, bool resume, RunFingerprints fingerprints)
        : folder_(std::move(folder)), loading_(resume), fingerprints_(std::move(fingerprints)) {}

    [[nodiscard]] std::filesystem::path path_of(const std::string& step, const char* suffix) const;
    [[nodiscard]] Result<FinishedStep> read(const std::string& step, bool statistics) const;

    std::filesystem::path folder_;
    bool loading_;
    RunFingerprints fingerprints_;
};

}  // namespace fewbit::inline v0::pipeline
