// What fewbit reads in a GGUF file, line by line, for scripts that compare it with what another reader finds there.
//
//   fewbit_says file MODEL.gguf           "key" KEY KIND ELEMENT COUNT HEX, one line per pair of the metadata, the
//                                         value's bytes as they stand in the file; "tensor" NAME TYPE SIZES OFFSET
//   fewbit_says values MODEL.gguf         every tensor's weights as f32, one after another, no lines
//   fewbit_says tokens MODEL.gguf < TEXT  a line of ids, BOS first, for each of the texts, which end in a NUL
//
// Fields are divided by tabs, sizes by commas, fastest first; offsets are bytes of the file.
#include <cstdio>
#include <iostream>
#include <iterator>
#include <string>
#include <string_view>
#include <vector>

#include "fewbit/io/gguf.hpp"
#include "fewbit/io/model_gguf.hpp"
#include "fewbit/model/tokenizer.hpp"
#include "fewbit/pipeline/gguf_quantizer.hpp"

namespace {

using namespace fewbit;

std::string hex(std::span<const std::byte> bytes) {
    constexpr char digits[] = "0123456789abcdef";
    std::string out;
    for (const std::byte b : bytes) {
        out += digits[std::to_integer<unsigned>(b) >> 4];
        out += digits[std::to_integer<unsigned>(b) & 15];
    }
    return out;
}

Result<void> say_file(const io::GgufFile& file) {
    for (const auto& [key, value] : file.metadata)
        std::cout << "key\t" << key << '\t' << io::name(value.kind()) << '\t' << io::name(value.element())
                  << '\t' << value.count() << '\t' << hex(value.bytes()) << '\n';
    for (const io::GgufTensor& tensor : file.tensors) {
        std::cout << "tensor\t" << tensor.name << '\t' << tensor.type->name << '\t';
        for (std::size_t i = 0; i < tensor.sizes.size(); ++i)
            std::cout << (i == 0 ? "" : ",") << tensor.sizes[i];
        std::cout << '\t' << tensor.bytes.data() - file.maps.front()->bytes().data() << '\n';
    }
    return {};
}

Result<void> say_values(const io::GgufFile& file) {
    const std::vector<pipeline::GgufInput> inputs = pipeline::gguf_inputs(file);
    for (const pipeline::GgufInput& input : inputs) {
        if (!input.decode) return fail(ErrorKind::bad_input, "'", input.source.name, "' is not decoded");
        std::vector<float> row(input.k());
        for (std::size_t r = 0; r < input.rows(); ++r) {
            input.decode(r, row);
            std::fwrite(row.data(), sizeof(float), row.size(), stdout);
        }
    }
    return {};
}

Result<void> say_tokens(const io::GgufFile& file) {
    auto vocabulary = io::read_gguf_vocabulary(file);
    if (!vocabulary) return Unexpected{std::move(vocabulary).error()};
    auto tokenizer = model::Tokenizer::create(*std::move(vocabulary));
    if (!tokenizer) return Unexpected{std::move(tokenizer).error()};
    for (std::string text; std::getline(std::cin, text, '\0');) {
        for (const int id : tokenizer->encode(text)) std::cout << id << ' ';
        std::cout << '\n';
    }
    return {};
}

Result<void> say(std::string_view what, const char* path) {
    const auto file = io::open_gguf(path);
    if (!file) return Unexpected{file.error()};
    if (what == "file") return say_file(*file);
    if (what == "values") return say_values(*file);
    if (what == "tokens") return say_tokens(*file);
    return fail(ErrorKind::bad_input, "'", what, "': say file, values or tokens");
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 3) {
        std::cerr << "usage: fewbit_says file|values|tokens MODEL.gguf\n";
        return 2;
    }
    if (const auto done = say(argv[1], argv[2]); !done) {
        std::cerr << done.error().message << '\n';
        return 2;
    }
    return std::cout.flush() && std::fflush(stdout) == 0 ? 0 : 2;
}
