// Definitions of cache_options.hpp.
#include "src/cli/cache_options.hpp"

#include <CLI/CLI.hpp>

#include "fewbit/formats/hadamard.hpp"

namespace fewbit::cli {
namespace {

/// Of keys and values together, which are as many.
double bits_of(const model::KvCacheOptions& cache, const io::ModelShape& shape) {
    return (model::bits_per_element(cache.keys, shape.head_dim) +
            model::bits_per_element(cache.values, shape.head_dim)) /
           2;
}

}  // namespace

void add_cache_options(CLI::App& command, model::KvCacheOptions& cache) {
    command
        .add_option_function<std::vector<std::string>>(
            "--kv-cache",
            [&cache](const std::vector<std::string>& names) {
                if (names.size() > 2)
                    throw CLI::ValidationError("--kv-cache", "takes one format, or those of keys and values");
                Format* const formats[] = {&cache.keys, &cache.values};
                for (std::size_t i = 0; i < 2; ++i) {
                    const auto format = model::parse_cache_format(names[names.size() == 2 ? i : 0]);
                    if (!format) throw CLI::ValidationError("--kv-cache", format.error().message);
                    *formats[i] = *format;
                }
            },
            "How keys and values are stored, or keys, then values: f32, f16, bf16, "
            "int<b>-<row|g<n>>[-asym|-fzero], or ggml's blocks, as in q8_0")
        ->type_name("NAME[,NAME]")
        ->delimiter(',')
        ->allow_extra_args(false)
        ->default_str("f32");
    command.add_flag("--rotate-keys", cache.rotate_keys,
                     "Multiply queries and keys by a Hadamard matrix along each head (R3), which spreads "
                     "what stands in one channel of the keys");
}

void check_cache(const model::KvCacheOptions& cache, const io::ModelShape& shape) {
    static_cast<void>(expect(model::KvCache::create(shape, 0, cache)));
}

std::string cache_text(const model::KvCacheOptions& cache, const io::ModelShape& shape) {
    const std::string rotated =
        cache.rotate_keys ? fmt::format(" (rotated, order {})", hadamard_order(shape.head_dim)) : "";
    return fmt::format("{} keys{}, {} values: {:.3g} bits per element", model::cache_format_name(cache.keys),
                       rotated, model::cache_format_name(cache.values), bits_of(cache, shape));
}

Json cache_json(const model::KvCacheOptions& cache, const io::ModelShape& shape) {
    return {{"keys", model::cache_format_name(cache.keys)},
            {"values", model::cache_format_name(cache.values)},
            {"rotation", cache.rotate_keys ? hadamard_order(shape.head_dim) : 0},
            {"bits_per_element", bits_of(cache, shape)}};
}

}  // namespace fewbit::cli
