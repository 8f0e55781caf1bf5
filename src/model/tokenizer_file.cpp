// The reader of llama2.c's tokenizer.bin.
#include <bit>
#include <cstring>
#include <utility>

#include "fewbit/core/text.hpp"
#include "fewbit/io/mapped_file.hpp"
#include "fewbit/model/tokenizer.hpp"

namespace fewbit::inline v0::model {

static_assert(std::endian::native == std::endian::little, "tokenizer files are little-endian");

Result<Tokenizer> Tokenizer::parse_llama2c(std::span<const std::byte> bytes, std::size_t tokens,
                                           const std::string& source) {
    const auto refuse = [&](const auto&... why) {
        return fail(ErrorKind::bad_input, "tokenizer file '", source, "': ", why...);
    };
    constexpr std::size_t header_bytes = 4, entry_bytes = 8;  // without the text
    if (bytes.size() < header_bytes || (bytes.size() - header_bytes) / entry_bytes < tokens)
        return refuse("its ", bytes.size(), " bytes are too few for the model's ", tokens, " tokens");
    std::size_t offset = 0;
    const auto read = [&]<class T>(T& value) {
        if (bytes.size() - offset < sizeof value) return false;
        std::memcpy(&value, bytes.data() + offset, sizeof value);
        offset += sizeof value;
        return true;
    };
    std::int32_t longest = 0;
    read(longest);
    if (longest <= 0) return refuse("the length of its longest token is ", longest);

    Vocabulary vocabulary;
    vocabulary.pieces.reserve(tokens);
    vocabulary.scores.reserve(tokens);
    for (std::size_t i = 0; i < tokens; ++i) {
        float score = 0;
        std::int32_t length = 0;
        if (!read(score) || !read(length))
            return refuse("it ends before token ", i, " of the model's ", tokens, " (offset ", offset, ")");
        if (length < 0 || length > longest)
            return refuse("token ", i, " has a length of ", length, " bytes; the longest is said to have ",
                          longest);
        if (static_cast<std::size_t>(length) > bytes.size() - offset)
            return refuse("token ", i, " has ", length, " bytes at offset ", offset,
                          ", but the file ends at ", bytes.size());
        vocabulary.pieces.emplace_back(reinterpret_cast<const char*>(bytes.data()) + offset,
                                       static_cast<std::size_t>(length));
        vocabulary.scores.push_back(score);
        offset += static_cast<std::size_t>(length);
    }
    if (offset != bytes.size())
        return refuse("it holds more than the model's ", tokens, " tokens: ", bytes.size() - offset,
                      " bytes follow at offset ", offset);
    vocabulary.guess_kinds();
    auto tokenizer = create(std::move(vocabulary));
    if (!tokenizer)
        return Unexpected{std::move(tokenizer).error().within(text("tokenizer file '", source, "'"))};
    return tokenizer;
}

Result<Tokenizer> Tokenizer::read_llama2c(const std::filesystem::path& path, std::size_t tokens) {
    const auto file = io::MappedFile::open(path);
    if (!file) return Unexpected{file.error()};
    return parse_llama2c((*file)->bytes(), tokens, (*file)->name());
}

}  // namespace fewbit::inline v0::model
