// Definitions of checkpoint.hpp.
#include "src/pipeline/checkpoint.hpp"

#include <system_error>

#include "fewbit/core/text.hpp"
#include "fewbit/io/mapped_file.hpp"
#include "fewbit/io/model_safetensors.hpp"
#include "fewbit/io/safetensors.hpp"
#include "src/pipeline/outcome_text.hpp"

namespace fewbit::inline v0::pipeline {
namespace {

namespace fs = std::filesystem;

constexpr const char* version = "1";
constexpr const char* layers_suffix = ".safetensors";
constexpr const char* statistics_suffix = ".statistics.safetensors";
constexpr std::string_view scales_prefix = "scales.";  // of vectors

/// What save() makes, and what a writer leaves behind that was killed.
[[nodiscard]] bool is_ours(const fs::path& file) {
    const std::string name = io::path_text(file.filename());
    return ((name.starts_with("block-") || name.starts_with("embedding.")) &&
            name.ends_with(layers_suffix)) ||
           (name.starts_with(".fewbit-") && name.ends_with(".tmp"));
}

/// The files in a folder that save() made. Error: it cannot be read.
[[nodiscard]] Result<std::vector<fs::path>> files_in(const fs::path& folder) {
    std::vector<fs::path> files;
    std::error_code error;
    if (fs::status(folder, error).type() == fs::file_type::not_found) return files;
    for (fs::directory_iterator at(folder, error), end; !error && at != end; at.increment(error))
        if (is_ours(at->path())) files.push_back(at->path());
    if (error)
        return fail(ErrorKind::io, "cannot read the folder '", io::path_text(folder), "': ", error.message());
    return files;
}

/// What a file should hold; outcomes are added to it as they were when it was written.
[[nodiscard]] std::string content_of(const io::ModelFile& file) {
    Fingerprint print;
    print.add(fingerprint(file.linears, file.vectors));
    for (const auto& [key, value] : file.metadata)
        if (key.starts_with("outcome/")) print.add(key), print.add(value);
    return print.text();
}

}  // namespace

Result<Checkpoint> Checkpoint::open(const fs::path& folder, bool resume, RunFingerprints fingerprints) {
    auto files = files_in(folder);
    if (!files) return Unexpected{std::move(files).error()};
    if (!files->empty() && !resume)
        return fail(ErrorKind::bad_input, "'", io::path_text(folder), "' holds ", files->size(),
                    " files of an interrupted quantization; resume it, or delete the folder");
    return Checkpoint(folder, resume, std::move(fingerprints));
}

fs::path Checkpoint::path_of(const std::string& step, const char* suffix) const {
    return folder_ / (step + suffix);
}

Result<std::optional<FinishedStep>> Checkpoint::load(const std::string& step, bool statistics) {
    const fs::path path = path_of(step, layers_suffix);
    std::error_code error;
    if (loading_) loading_ = fs::exists(path, error);
    if (!loading_) return std::optional<FinishedStep>();
    auto finished = read(step, statistics);
    if (!finished)
        return Unexpected{finished.error().within(text("the checkpoint '", io::path_text(path), "'"))};
    return std::optional(*std::move(finished));
}

Result<FinishedStep> Checkpoint::read(const std::string& step, bool statistics) const {
    auto file = io::read_safetensors_model(path_of(step, layers_suffix));
    if (!file) return Unexpected{std::move(file).error()};
    const auto is = [&](const char* key, std::string_view value) {
        const auto found = file->metadata.find(text("checkpoint/", key));
        return found != file->metadata.end() && found->second == value;
    };
    if (!is("version", version))
        return fail(ErrorKind::unsupported, "it is of another version than ", version);
    if (!is("step", step)) return fail(ErrorKind::bad_input, "it is not of step '", step, "'");
    for (std::size_t i = 0; i < RunFingerprints::count; ++i)
        if (!is(RunFingerprints::names[i].first, fingerprints_.values[i]))
            return fail(ErrorKind::bad_input, "it is of another run: ", RunFingerprints::names[i].second,
                        " differs; use what it was made with, or delete the folder");
    if (!is("content", content_of(*file)))
        return fail(ErrorKind::bad_input, "it is damaged: its layers are not those that were written");
    FinishedStep finished;
    for (const auto& [layer, linear] : file->linears) {
        auto outcome = get_outcome(file->metadata, layer);
        if (!outcome) return Unexpected{std::move(outcome).error()};
        finished.outcomes.emplace(layer, *std::move(outcome));
    }
    finished.layers = std::move(file->linears);
    for (auto& [name, values] : file->vectors)
        if (name.starts_with(scales_prefix))
            finished.scales.emplace(name.substr(scales_prefix.size()), std::move(values));
    if (!statistics) return finished;
    auto kept = saved_statistics(step);
    if (!kept) return Unexpected{std::move(kept).error()};
    auto print = fingerprint(*kept);
    if (!print) return Unexpected{std::move(print).error()};
    if (!is("statistics", *print))
        return fail(ErrorKind::bad_input, "its statistics are not those that were written");
    finished.statistics = *std::move(kept);
    return finished;
}

Result<Statistics> Checkpoint::saved_statistics(const std::string& step) const {
    const fs::path path = path_of(step, statistics_suffix);
    std::error_code error;
    if (!fs::exists(path, error))
        return fail(ErrorKind::bad_input,
                    "statistics were not kept with it; do not ask for them, or delete "
                    "the folder");
    auto loaded = io::load_tensors(path);
    if (!loaded) return Unexpected{std::move(loaded).error()};
    auto statistics = from_tensors(loaded->tensors);
    if (!statistics) return Unexpected{statistics.error().within(text("'", io::path_text(path), "'"))};
    return statistics;
}

Result<void> Checkpoint::save(const std::string& step, const FinishedStep& finished) const {
    std::error_code error;
    fs::create_directory(folder_, error);
    if (error)
        return fail(ErrorKind::io, "cannot make the folder '", io::path_text(folder_),
                    "': ", error.message());
    io::ModelFile file;
    file.linears = finished.layers;
    for (const auto& [layer, scales] : finished.scales)
        file.vectors.emplace(text(scales_prefix, layer), scales);
    for (const auto& [layer, outcome] : finished.outcomes) put_outcome(file.metadata, layer, outcome);
    file.metadata["checkpoint/content"] = content_of(file);
    file.metadata["checkpoint/version"] = version;
    file.metadata["checkpoint/step"] = step;
    for (std::size_t i = 0; i < RunFingerprints::count; ++i)
        file.metadata[text("checkpoint/", RunFingerprints::names[i].first)] = fingerprints_.values[i];
    if (finished.statistics) {
        auto print = fingerprint(*finished.statistics);
        if (!print) return Unexpected{std::move(print).error()};
        file.metadata["checkpoint/statistics"] = *print;
        auto tensors = to_tensors(*finished.statistics);
        if (!tensors) return Unexpected{std::move(tensors).error()};
        if (auto done = io::save_tensors(path_of(step, statistics_suffix), *tensors); !done) return done;
    }
    return io::write_safetensors_model(path_of(step, layers_suffix),
                                       file);  // last: it says that all is there
}

Result<void> remove_checkpoint(const fs::path& folder) {
    auto files = files_in(folder);
    if (!files) return Unexpected{std::move(files).error()};
    std::error_code error;
    for (const fs::path& file : *files)
        if (!error) fs::remove(file, error);
    if (!error) fs::remove(folder, error);
    if (error && error != std::errc::directory_not_empty)  // what else lies there is not ours
        return fail(ErrorKind::io, "cannot remove the folder '", io::path_text(folder),
                    "': ", error.message());
    return {};
}

}  // namespace fewbit::inline v0::pipeline
