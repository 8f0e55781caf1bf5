// Quantizing a model with calibration: block after block, each layer with the statistics of the inputs that it will
// meet, which come from layers that were quantized before it.
//
//   embed -> [q k v] -> [o] -> [gate up] -> [down] -> next block ... -> [head]
//
// Layers in brackets read the same input. For each bracket the calibration text runs through the block as it is by then;
// the layers are quantized and take their places (GPTQ's "true sequential"). Where a method compensates what the inputs
// themselves have lost, the float model runs beside it. Scales of channels (awq, SmoothQuant) are folded into the float
// block (folds.hpp) before its first layer is quantized, where all readers of an input are in the plan (and all with awq).
//
// Statistics of an earlier run do instead of a text, and what a run that was interrupted had finished is taken over.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "fewbit/calibrate/statistics.hpp"
#include "fewbit/core/config.hpp"
#include "fewbit/core/executor.hpp"
#include "fewbit/core/result.hpp"
#include "fewbit/io/model_file.hpp"
#include "fewbit/quantize/quantize.hpp"
#include "fewbit/quantize/smoothquant.hpp"

namespace fewbit::inline v0::pipeline {

struct LayerChoice {
    Format format;
    Method method;
};

/// What became of a layer.
struct LayerOutcome {
    QuantizeReport report;
    std::uint64_t tokens = 0;  ///< that calibration saw; 0: none was asked for
    /// sum (W x - W^ x)^2 / sum (W x)^2 over them; nothing without calibration.
    std::optional<double> output_error;
    std::string scales;  ///< how its input channels were scaled first; empty: they were not
};

struct CalibratedModel {
    io::ModelFile file;
    std::map<std::string, LayerOutcome, std::less<>> layers;  ///< those of the plan
    Statistics statistics;                                    ///< where they were to be kept
};

struct CalibratedOptions {
    /// Before any method: SmoothQuant's scales, where all readers of an input are in the plan.
    std::optional<SmoothQuantOptions> smoothquant;
    /// K^2 doubles for each bracket, and as much again for each input that scales were chosen for, under
    /// float_block_name(). With a checkpoint they stay on disk.
    bool keep_statistics = false;
    /// Instead of windows: no model is run. Each layer is quantized with what stands here under its name,
    /// scales are chosen with what stands under float_block_name(), or else with the layer's own. Where
    /// channels had been divided by other scales than in this run, the statistics are converted, and a note
    /// says so.
    const Statistics* statistics = nullptr;
    /// What windows between two blocks (tokens x dim x 4 bytes each, twice where the float model runs beside)
    /// may take of memory. The rest lies in a temporary file in `scratch_folder`; empty: the system's folder
    /// for those.
    std::size_t memory_bytes = std::size_t{1} << 30;
    std::filesystem::path scratch_folder;
    /// A folder for what is finished after each block, so that an interrupted run can go on. Empty: none. It
    /// is made when needed and stays; remove_checkpoint() takes it away.
    std::filesystem::path checkpoint;
    /// Goes on with what lies there, if anything: windows only run through finished blocks. The bytes are
    /// those of a run that was not interrupted.
    bool resume = false;
    /// Called before each layer: its name, how many are done (what was taken over counts), how many there
    /// are.
    std::function<void(std::string_view layer, std::size_t done, std::size_t layers)> progress;
    /// Called before windows run through a block that an earlier run had finished: how many they went through,
    /// how many blocks there are.
    std::function<void(std::size_t done, std::size_t blocks)> replay;
};

/// Quantizes the layers of `plan`; others stay as they are. `windows`: token sequences, each evaluated from
/// an empty cache. Activations are f32. The embedding has no input: methods that calibrate leave it to mse,
/// and so a head that is the embedding. The result does not depend on the number of threads. Errors: no
/// windows, an empty one or one longer than the model's context; a layer of the plan that the model lacks or
/// that is quantized already; what the methods and DecoderBlock::create refuse; statistics that lack a layer
/// whose method needs them, or beside windows; a checkpoint that is damaged, of another run (the sentence
/// says what differs), or there although `resume` is not set; files that cannot be written.
[[nodiscard]] FEWBIT_API Result<CalibratedModel> quantize_calibrated(
    const io::ModelFile& file, const std::map<std::string, LayerChoice>& plan,
    std::span<const std::vector<int>> windows, const CalibratedOptions& options = {},
    ExecutionContext context = {});

/// Where Statistics have the input of `layer` as it is before the first layer of its block is quantized and
/// before channels are scaled; `layer` is the first of those that read it.
[[nodiscard]] FEWBIT_API std::string float_block_name(std::string_view layer);

/// Removes what a checkpoint left in a folder, and the folder if it is empty then. Error: those of the file
/// system.
[[nodiscard]] FEWBIT_API Result<void> remove_checkpoint(const std::filesystem::path& folder);

}  // namespace fewbit::inline v0::pipeline
