// Runs the program (FEWBIT_CLI) as users do, in a folder of its own, on a toy model that the tests write
// themselves.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "support/catch.hpp"
#include "support/shared_data.hpp"
#include "support/toy_model.hpp"

#include <sys/wait.h>
#include <unistd.h>

namespace fewbit::testing {

using Json = nlohmann::ordered_json;

/// A folder that goes away with the object. Its name is not ASCII: paths are UTF-8.
class Folder {
public:
    Folder() {
        static int count = 0;
        path_ = std::filesystem::temp_directory_path() /
                ("fewbit-prüfung-" + std::to_string(getpid()) + "-" + std::to_string(++count));
        std::filesystem::create_directories(path_);
    }
    ~Folder() {
        std::error_code error;
        std::filesystem::remove_all(path_, error);
    }
    Folder(const Folder&) = delete;
    Folder& operator=(const Folder&) = delete;

    [[nodiscard]] std::string operator/(const std::string& name) const { return (path_ / name).string(); }
    void write(const std::string& name, const std::vector<std::byte>& bytes) const {
        std::ofstream file(path_ / name, std::ios::binary);
        file.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
    }
    void write(const std::string& name, const std::string& text) const {
        std::ofstream(path_ / name, std::ios::binary) << text;
    }
    /// Names of what lies in it, temporary files of writers included.
    [[nodiscard]] std::vector<std::string> names() const {
        std::vector<std::string> found;
        for (const auto& entry : std::filesystem::directory_iterator(path_))
            found.push_back(entry.path().filename().string());
        return found;
    }

private:
    std::filesystem::path path_;
};

[[nodiscard]] inline std::string quoted(const std::string& word) {
    std::string out = "'";
    for (const char c : word) out += c == '\'' ? std::string("'\\''") : std::string(1, c);
    return out + "'";
}

struct Outcome {
    int status = -1;  ///< 128 + signal when it was killed
    std::string out;
    std::string err;
};

/// Runs a shell command in which $FEWBIT stands for the program.
[[nodiscard]] inline Outcome run_shell(const std::string& command) {
    const char* program = std::getenv("FEWBIT_CLI");
    REQUIRE(program != nullptr);
    const Folder folder;
    const std::string line = "FEWBIT=" + quoted(program) + "\n{ " + command + "\n} >" +
                             quoted(folder / "out") + " 2>" + quoted(folder / "err");
    const int status = std::system(line.c_str());
    return {WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), read_text(folder / "out"),
            read_text(folder / "err")};
}

[[nodiscard]] inline Outcome run(std::initializer_list<std::string> arguments) {
    std::string command = "\"$FEWBIT\"";
    for (const std::string& argument : arguments) command += ' ' + quoted(argument);
    return run_shell(command);
}

/// A shell command, in a folder.
[[nodiscard]] inline Outcome shell_in(const Folder& folder, const std::string& command) {
    return run_shell("cd " + quoted(folder / ".") + " && " + command);
}
/// The program with these words of the shell, in a folder.
[[nodiscard]] inline Outcome run_in(const Folder& folder, const std::string& words) {
    return shell_in(folder, "\"$FEWBIT\" " + words);
}

/// Fails with what the program said.
inline void check_done(const Outcome& outcome) {
    INFO("stdout: " << outcome.out << "\nstderr: " << outcome.err);
    REQUIRE(outcome.status == 0);
}

/// What every failure looks like: status 2, nothing on stdout that was promised, one sentence that says
/// `words`.
inline void check_failure(const Outcome& outcome, std::initializer_list<std::string> words) {
    INFO("stdout: " << outcome.out << "\nstderr: " << outcome.err);
    CHECK(outcome.status == 2);
    CHECK(outcome.err.rfind("fewbit: ", 0) == 0);
    for (const std::string& word : words) {
        INFO("expected in the message: " << word);
        CHECK(outcome.err.find(word) != std::string::npos);
    }
}

inline const std::string toy_text = "once upon a time there was a cat\nit sat on a mat and ran\n";

/// A toy model of 30 tokens: toy.bin (llama2.c v0), tok.bin, text.txt.
inline void write_toy(const Folder& folder, const io::ModelFile& model) {
    folder.write("toy.bin", llama2c_bytes(model, 0));
    std::vector<std::string> pieces{"<unk>", "\n<s>\n", "\n</s>\n", " "};
    for (char c = 'a'; c <= 'z'; ++c) pieces.emplace_back(1, c);
    std::vector<std::byte> bytes;
    const auto put = [&](const void* data, std::size_t size) {
        const auto* begin = static_cast<const std::byte*>(data);
        bytes.insert(bytes.end(), begin, begin + size);
    };
    const std::int32_t longest = 6;
    put(&longest, 4);
    for (const std::string& piece : pieces) {
        const float score = 0;
        const auto length = static_cast<std::int32_t>(piece.size());
        put(&score, 4), put(&length, 4), put(piece.data(), piece.size());
    }
    folder.write("tok.bin", bytes);
    folder.write("text.txt", toy_text);
}

[[nodiscard]] inline io::ModelFile toy() { return toy_model(toy_shape(4, 2, 4, 24, 2, 30, 32, true), 7); }

[[nodiscard]] inline Json read_json(const std::string& path) {
    INFO(path);
    return Json::parse(read_text(path));
}

}  // namespace fewbit::testing
