// Definitions of calibration_files.hpp.
#include "src/cli/calibration_files.hpp"

#include <CLI/CLI.hpp>
#include <system_error>
#include <vector>

#include "fewbit/io/mapped_file.hpp"
#include "fewbit/pipeline/calibrated_quantizer.hpp"

namespace fewbit::cli {

void add_calibration_files(CLI::App& command, CalibrationFiles& files) {
    CLI::Option* const saved =
        command
            .add_option("--statistics", files.statistics,
                        "Statistics that an earlier run saved, instead of a text: no model is run")
            ->type_name("FILE");
    CLI::Option* const save = command
                                  .add_option("--save-statistics", files.save_statistics,
                                              "Save what calibration saw of each layer's input (safetensors)")
                                  ->type_name("FILE");
    CLI::AsSizeValue size(true);
    size.description("");
    CLI::Option* const memory =
        command
            .add_option("--calibration-memory", files.memory_bytes,
                        "How much of the text between two blocks stays in memory, as in 512MB or 4GiB; the "
                        "rest lies in a temporary file beside OUT")
            ->transform(size)
            ->type_name("SIZE")
            ->default_str("1GiB");
    // Not excludes(): --help would list them all in one long line.
    std::vector<CLI::Option*> others{save, memory};
    for (const char* text : {"--calibration", "--calibration-split", "--calibration-windows"})
        others.push_back(command.get_option(text));
    command.parse_complete_callback([saved, others] {
        for (const CLI::Option* other : others)
            if (saved->count() != 0 && other->count() != 0)
                throw CLI::ExcludesError(saved->get_name(), other->get_name());
    });
    command.add_flag("--resume", files.resume,
                     "Go on with what OUT.partial holds of an interrupted run, if there is any");
}

void place_calibration_files(CalibrationFiles& files, const MethodOptions& method, const std::string& model,
                             const std::filesystem::path& output) {
    if (!method.calibrates()) {
        for (const auto& [option, given] : {std::pair("--statistics", !files.statistics.empty()),
                                            std::pair("--save-statistics", !files.save_statistics.empty()),
                                            std::pair("--resume", files.resume)})
            if (given) throw Failure(fmt::format("{}: --method {} does not calibrate", option, method.name));
        return;
    }
    files.checkpoint = output;
    files.checkpoint += ".partial";
    files.scratch_folder = output.has_parent_path() ? output.parent_path() : std::filesystem::path(".");
    std::error_code error;
    if (!files.resume && std::filesystem::exists(files.checkpoint, error))
        throw Failure(
            fmt::format("'{}' is left of a run that was interrupted; go on with it by --resume, or delete "
                        "the folder to begin anew",
                        io::path_text(files.checkpoint)));
    if (files.save_statistics.empty()) return;
    const std::filesystem::path saved = path_of(files.save_statistics);
    const auto folder = saved.has_parent_path() ? saved.parent_path() : std::filesystem::path(".");
    if (!std::filesystem::is_directory(folder, error))
        throw Failure(
            fmt::format("'{}': there is no folder '{}'", files.save_statistics, io::path_text(folder)));
    for (const std::filesystem::path& other : {output, path_of(model)})
        if (saved == other || std::filesystem::equivalent(saved, other, error))
            throw Failure(fmt::format("--save-statistics: '{}' is the model; write to another file",
                                      files.save_statistics));
}

void finish_calibration_files(const CalibrationFiles& files) {
    if (!files.checkpoint.empty()) expect(pipeline::remove_checkpoint(files.checkpoint));
}

}  // namespace fewbit::cli
