// The program `fewbit`: parses the command line, runs one command, turns whatever goes wrong into a sentence
// on stderr and exit status 2.
#include <CLI/CLI.hpp>
#include <csignal>
#include <cstdio>
#include <new>

#include "fewbit/core/config.hpp"
#include "src/cli/command.hpp"

namespace fewbit::cli {
namespace {

/// Help that fits 80 columns.
class Help : public CLI::Formatter {
public:
    Help() { column_width(26); }
    std::string make_option_desc(const CLI::Option* option) const override {
        return wrapped(CLI::Formatter::make_option_desc(option), 80 - 26);
    }
    std::string make_subcommand(const CLI::App* command) const override {
        return fmt::format("  {:<10}{}\n", command->get_name(), wrapped(command->get_description(), 80, 12));
    }
};

void set_formatter(CLI::App& app) {
    app.formatter(std::make_shared<Help>());
    for (CLI::App* command : app.get_subcommands([](CLI::App*) { return true; })) set_formatter(*command);
}

int complain(std::string_view message) {
    write_err(fmt::format("fewbit: {}\n", message));
    return static_cast<int>(Status::bad_input);
}

/// What was wrong with the command line, and which help to read.
std::string sentence(const CLI::App& app, const CLI::ParseError& error, int argc, char** argv) {
    const CLI::App* command = &app;
    std::string name = "fewbit";
    while (!command->get_subcommands().empty()) {
        command = command->get_subcommands().front();
        name += ' ' + command->get_name();
    }
    std::string message = error.what();
    if (message.find("subcommand is required") != std::string::npos) {
        std::vector<std::string> names;
        for (const CLI::App* known : command->get_subcommands([](const CLI::App*) { return true; }))
            names.push_back(known->get_name());
        const std::string last = argc > 1 ? argv[argc - 1] : "";
        message =
            !last.empty() && last[0] != '-' && last != command->get_name()
                ? fmt::format("'{}' is no command of {}; there are {}", last, name, fmt::join(names, ", "))
                : fmt::format("name a command of {}: {}", name, fmt::join(names, ", "));
    }
    return fmt::format("{} (`{} --help` tells more)", message, name);
}

int parse_and_run(int argc, char** argv) {
    CLI::App app("Neural-network weights in few bits, and fast products with them.", "fewbit");
    Program program;
    app.set_version_flag("--version", "fewbit " FEWBIT_VERSION_STRING, "Print the version and leave");
    app.require_subcommand(1);
    add_kernels(app, program);
    add_inspect(app, program);
    add_quantize(app, program);
    add_evaluate(app, program);
    add_curves(app, program);
    add_perturb(app, program);
    add_generate(app, program);
    add_train(app, program);
    add_qat(app, program);
    add_bench(app, program);
    set_formatter(app);
    app.footer(
        "Exit status: 0 done, 1 the answer is no, 2 bad input.\n`fewbit COMMAND --help` tells more about a "
        "command.");
    try {
        app.parse(argc, argv);
    } catch (const CLI::CallForHelp&) {
        write_out(app.help());
        return 0;
    } catch (const CLI::CallForAllHelp&) {
        write_out(app.help("", CLI::AppFormatMode::All));
        return 0;
    } catch (const CLI::CallForVersion& version) {
        say("{}\n", version.what());
        return 0;
    } catch (const CLI::ParseError& error) {
        return complain(sentence(app, error, argc, argv));
    }
    return static_cast<int>(program.run());
}

int guarded(int argc, char** argv) {
    try {
        const int status = parse_and_run(argc, argv);
        flush_out();
        return status;
    } catch (const BrokenPipe&) {
        return 141;  // what a shell reports for SIGPIPE; nothing to say, and nobody to read it
    } catch (const Failure& failure) {
        return complain(failure.what());
    } catch (const std::bad_alloc&) {
        return complain("there is not enough memory for this");
    } catch (const std::exception& error) {
        return complain(error.what());
    } catch (...) {
        return complain("something went wrong that has no name");
    }
}

}  // namespace
}  // namespace fewbit::cli

int main(int argc, char** argv) {
#if defined(SIGPIPE)
    std::signal(SIGPIPE, SIG_IGN);  // a closed pipe is an error of write, so that temporary files are removed
#endif
#if defined(SIGXFSZ)
    std::signal(SIGXFSZ, SIG_IGN);  // and so is a file that outgrows its limit (ulimit -f)
#endif
    return fewbit::cli::guarded(argc, argv);
}
