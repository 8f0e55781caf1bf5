// --kv-cache and --rotate-keys: how a command stores keys and values, and what it says of them.
#pragma once

#include <string>

#include "fewbit/model/kv_cache.hpp"
#include "src/cli/command.hpp"

namespace fewbit::cli {

/// --kv-cache F[,F]: of keys and values; --rotate-keys.
void add_cache_options(CLI::App& command, model::KvCacheOptions& cache);
/// Throws Failure where heads of the model do not fit the formats: before anything long begins.
void check_cache(const model::KvCacheOptions& cache, const io::ModelShape& shape);
/// "int4-g32 keys (rotated, order 64), int8-row values: 6.38 bits per element".
[[nodiscard]] std::string cache_text(const model::KvCacheOptions& cache, const io::ModelShape& shape);
[[nodiscard]] Json cache_json(const model::KvCacheOptions& cache, const io::ModelShape& shape);

}  // namespace fewbit::cli
