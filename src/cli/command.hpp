// What every command of the program shares: exit statuses, failures as sentences, output, the options that
// all commands have. One file per command: it exports `void add_<name>(CLI::App&, Program&)`, which main.cpp
// calls.
//
//   void add_frobnicate(CLI::App& app, Program& program) {
//       auto options = std::make_shared<Options>();
//       CLI::App* command = program.add(app, "frobnicate", "One line", [options, &program] {
//           const auto model = expect(io::read_llama2c(...));   // failed: its message, status 2
//           say("{}\n", ...);
//           program.write_json("frobnicate/1", {{"answer", 42}});  // without --json: does nothing
//           return Status::done;
//       });
//       command->add_option("--depth", options->depth, "How deep")->capture_default_str();
//   }
#pragma once

#include <cstddef>
#include <filesystem>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

#include "fewbit/core/executor.hpp"
#include "fewbit/core/result.hpp"
#include "fewbit/core/thread_pool.hpp"
#include "src/cli/print.hpp"

namespace CLI {  // <CLI/CLI.hpp> costs a compiler seconds; files that define options include it
class App;
class Option;
}  // namespace CLI

namespace fewbit::inline v0::io {
class AtomicFile;
}

namespace fewbit::cli {

/// Keys stay in the order in which they were set. Infinities and NaN become null.
using Json = nlohmann::ordered_json;

/// What the program exits with.
enum class Status {
    done = 0,
    no = 1,         ///< the question was understood and the answer is no
    bad_input = 2,  ///< a message on stderr says what was wrong
};

/// Ends the command: main prints "fewbit: <message>" and exits with Status::bad_input.
struct Failure : std::runtime_error {
    using std::runtime_error::runtime_error;
};

/// The value of a Result, or a Failure with its message.
template <class T, class E>
T expect(Result<T, E> result) {
    if (!result) throw Failure(result.error().message);
    return *std::move(result);
}
template <class E>
void expect(Result<void, E> result) {
    if (!result) throw Failure(result.error().message);
}

/// A path given on the command line, which is UTF-8.
[[nodiscard]] std::filesystem::path path_of(const std::string& utf8);

/// Writes the whole file or nothing.
void write_file(const std::filesystem::path& path, std::string_view bytes);

class Program {
public:
    using Run = std::function<Status()>;

    Program();
    ~Program();

    /// A subcommand with --json and --threads. `run` is called after everything was parsed.
    CLI::App* add(CLI::App& app, const std::string& name, const std::string& description, Run run);

    /// The threads that --threads asked for, started when first used.
    [[nodiscard]] Executor& executor();
    [[nodiscard]] ExecutionContext context() { return {executor()}; }

    /// Writes `body` to the file of --json, with {"schema": "fewbit.<schema>"} in front; without --json
    /// nothing.
    void write_json(std::string_view schema, Json body);
    [[nodiscard]] bool wants_json() const noexcept { return !json_path_.empty(); }

    /// Runs the chosen command.
    [[nodiscard]] Status run();

private:
    std::size_t threads_ = 0;
    std::string json_path_;
    std::unique_ptr<io::AtomicFile> json_file_;
    std::unique_ptr<ThreadPool> pool_;
    Run run_;
};

// The commands, in the order of the help.
void add_kernels(CLI::App& app, Program& program);
void add_inspect(CLI::App& app, Program& program);
void add_quantize(CLI::App& app, Program& program);
void add_evaluate(CLI::App& app, Program& program);
void add_curves(CLI::App& app, Program& program);
void add_perturb(CLI::App& app, Program& program);
void add_generate(CLI::App& app, Program& program);
void add_train(CLI::App& app, Program& program);
void add_qat(CLI::App& app, Program& program);
void add_bench(CLI::App& app, Program& program);

}  // namespace fewbit::cli
