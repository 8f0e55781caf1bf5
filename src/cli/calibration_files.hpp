// What calibration keeps on disk: statistics, what outgrows memory, and what an interrupted run goes on with.
#pragma once

#include <cstddef>
#include <filesystem>
#include <string>

#include "src/cli/command.hpp"
#include "src/cli/method_options.hpp"

namespace fewbit::cli {

struct CalibrationFiles {
    std::string statistics;       ///< of --statistics; empty: a text is run
    std::string save_statistics;  ///< of --save-statistics
    std::size_t memory_bytes = std::size_t{1} << 30;
    bool resume = false;
    std::filesystem::path checkpoint;      ///< "OUT.partial"; empty: none
    std::filesystem::path scratch_folder;  ///< for what outgrows memory; empty: the system's
};

/// --statistics, --save-statistics, --calibration-memory, --resume. Those of the text come first: they
/// exclude each other.
void add_calibration_files(CLI::App& command, CalibrationFiles& files);

/// Puts checkpoint and temporary files beside `output`. Throws Failure: an option without a method that
/// calibrates; no folder for the statistics, or the same file twice; a checkpoint of an interrupted run,
/// without --resume.
void place_calibration_files(CalibrationFiles& files, const MethodOptions& method, const std::string& model,
                             const std::filesystem::path& output);

/// Once the output is written: the checkpoint is not needed any more.
void finish_calibration_files(const CalibrationFiles& files);

}  // namespace fewbit::cli
