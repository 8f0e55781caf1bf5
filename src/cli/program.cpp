// What all commands share: --json, --threads, files.
#include <CLI/CLI.hpp>

#include "fewbit/io/atomic_file.hpp"
#include "src/cli/command.hpp"
#include "src/cli/options.hpp"

namespace fewbit::cli {

std::filesystem::path path_of(const std::string& utf8) {
    return std::filesystem::path(std::u8string(utf8.begin(), utf8.end()));
}

void write_file(const std::filesystem::path& path, std::string_view bytes) {
    auto file = expect(io::AtomicFile::create(path));
    expect(file.write(bytes));
    expect(file.commit());
}

Program::Program() = default;
Program::~Program() = default;

CLI::App* Program::add(CLI::App& app, const std::string& name, const std::string& description, Run run) {
    CLI::App* command = app.add_subcommand(name, description);
    command
        ->add_option("--json", json_path_,
                     "Write the result to FILE as JSON, numbers unrounded (docs/json.md)")
        ->type_name("FILE");
    add_count(*command, "--threads", threads_, "Threads to use; 0: one per hardware thread", 0, 1024);
    command->callback([this, run = std::move(run)] { run_ = run; });
    return command;
}

Executor& Program::executor() {
    if (!pool_) pool_ = std::make_unique<ThreadPool>(threads_);
    return *pool_;
}

void Program::write_json(std::string_view schema, Json body) {
    if (!json_file_) return;
    Json document{{"schema", fmt::format("fewbit.{}", schema)}};
    document.update(body);
    expect(json_file_->write(document.dump(2, ' ', false, Json::error_handler_t::replace) + '\n'));
    expect(json_file_->commit());
}

Status Program::run() {
    // Opened before the work, so that a folder that is missing is not found out after an hour.
    if (!json_path_.empty())
        json_file_ = std::make_unique<io::AtomicFile>(expect(io::AtomicFile::create(path_of(json_path_))));
    return run_();
}

}  // namespace fewbit::cli
