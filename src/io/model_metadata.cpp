#include "src/io/model_metadata.hpp"

#include <array>
#include <charconv>
#include <utility>

#include "fewbit/core/text.hpp"
#include "fewbit/formats/format.hpp"
#include "src/io/file_text.hpp"
#include "src/io/model_rules.hpp"

namespace fewbit::inline v0::io::detail {
namespace {

constexpr std::array<std::pair<std::string_view, std::size_t ModelShape::*>, 8> counts{{
    {"dim", &ModelShape::dim},
    {"hidden", &ModelShape::hidden},
    {"layers", &ModelShape::layers},
    {"heads", &ModelShape::heads},
    {"kv_heads", &ModelShape::kv_heads},
    {"head_dim", &ModelShape::head_dim},
    {"vocabulary", &ModelShape::vocabulary},
    {"context", &ModelShape::context},
}};
constexpr std::array<std::pair<std::string_view, float ModelShape::*>, 2> numbers{{
    {"rope_base", &ModelShape::rope_base},
    {"norm_epsilon", &ModelShape::norm_epsilon},
}};
constexpr std::string_view tied_key = "tied_head";

std::string key_of(std::string_view word) { return text(model_prefix, word); }

bool parse_float(std::string_view digits, float& value) {
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    return error == std::errc{} && end == digits.data() + digits.size();
}

}  // namespace

void put_shape(const ModelShape& shape, Metadata& metadata) {
    for (const auto& [word, member] : counts) metadata[key_of(word)] = text(shape.*member);
    for (const auto& [word, member] : numbers) metadata[key_of(word)] = text(shape.*member);
    metadata[key_of(tied_key)] = text(shape.tied_head);
}

Result<ModelShape> get_shape(const Metadata& metadata) {
    ModelShape shape;
    std::size_t read = 0;
    const auto value_of = [&](std::string_view word) -> const std::string* {
        const auto found = metadata.find(key_of(word));
        if (found == metadata.end()) return nullptr;
        ++read;
        return &found->second;
    };
    const auto missing = [](std::string_view word) {
        return fail(ErrorKind::bad_input, "the metadata lacks '", key_of(word), "'");
    };
    const auto wrong = [](std::string_view word, const std::string& value, const char* wanted) {
        return fail(ErrorKind::bad_input, "the metadata '", key_of(word), "' is ", in_quotes(value), ", not ",
                    wanted);
    };
    for (const auto& [word, member] : counts) {
        const std::string* value = value_of(word);
        if (value == nullptr) return missing(word);
        if (!fewbit::detail::parse_number(*value, shape.*member)) return wrong(word, *value, "a count");
    }
    for (const auto& [word, member] : numbers) {
        const std::string* value = value_of(word);
        if (value == nullptr) return missing(word);
        if (!parse_float(*value, shape.*member)) return wrong(word, *value, "a number");
    }
    const std::string* tied = value_of(tied_key);
    if (tied == nullptr) return missing(tied_key);
    if (*tied != "true" && *tied != "false") return wrong(tied_key, *tied, "'true' or 'false'");
    shape.tied_head = *tied == "true";
    std::size_t present = 0;
    for (auto i = metadata.lower_bound(std::string(model_prefix));
         i != metadata.end() && i->first.starts_with(model_prefix); ++i)
        ++present;
    if (present != read)
        return fail(ErrorKind::unsupported, "the metadata says more about the model ('", model_prefix,
                    "...') than this version reads");
    if (auto fine = check_shape(shape); !fine) return Unexpected{std::move(fine).error()};
    return shape;
}

}  // namespace fewbit::inline v0::io::detail
