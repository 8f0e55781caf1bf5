// Writes a llama of random f16 weights as GGUF, piece by piece: something large to quantize or to time on, without
// a download.
//
//   example_06_synthetic_llama                 a small one, removed again
//   example_06_synthetic_llama FILE.gguf       about 1.1 billion weights, 2.2 GB
//   fewbit quantize FILE.gguf -o small.gguf --format q4_k_m
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <random>
#include <string>
#include <vector>

#include "fewbit/core/scalar.hpp"
#include "fewbit/io/gguf.hpp"

namespace {

using namespace fewbit;

struct Shape {
    std::size_t layers, dim, hidden, heads, kv_heads, vocabulary;
};

/// n rows of k Gaussian weights of variance 1 / k, made as the writer asks for them.
io::GgufSource matrix(const std::string& name, std::size_t n, std::size_t k, std::uint64_t seed) {
    return {name, io::gguf_tensor_type("f16"), {k, n}, [=](auto sink) -> Result<void> {
                std::mt19937_64 random(seed);
                std::normal_distribution<float> weight(0.0f, 1.0f / std::sqrt(static_cast<float>(k)));
                std::vector<std::byte> row(2 * k);
                for (std::size_t r = 0; r < n; ++r) {
                    for (std::size_t c = 0; c < k; ++c) store_float(Scalar::f16, weight(random), &row[2 * c]);
                    if (auto done = sink(std::span<const std::byte>(row)); !done) return done;
                }
                return {};
            }};
}

io::GgufSource ones(const std::string& name, std::size_t count) {
    return {name, io::gguf_tensor_type("f32"), {count}, [count](auto sink) {
                const std::vector<float> values(count, 1.0f);
                return sink(std::as_bytes(std::span(values)));
            }};
}

Result<void> write(const std::filesystem::path& path, const Shape& s) {
    io::GgufMetadata metadata;
    metadata.emplace_back("general.architecture", io::GgufValue::of_text("llama"));
    const auto number = [&](const char* key, std::size_t value) {
        metadata.emplace_back(key, io::GgufValue::of_u32(static_cast<std::uint32_t>(value)));
    };
    number("llama.vocab_size", s.vocabulary);
    number("llama.context_length", 2048);
    number("llama.embedding_length", s.dim);
    number("llama.block_count", s.layers);
    number("llama.feed_forward_length", s.hidden);
    number("llama.attention.head_count", s.heads);
    number("llama.attention.head_count_kv", s.kv_heads);
    metadata.emplace_back("llama.attention.layer_norm_rms_epsilon", io::GgufValue::of_f32(1e-5f));
    number("general.file_type", 1);

    const std::size_t kv = s.dim / s.heads * s.kv_heads;
    std::uint64_t seed = 0;
    std::vector<io::GgufSource> tensors{matrix("token_embd.weight", s.vocabulary, s.dim, ++seed),
                                        ones("output_norm.weight", s.dim),
                                        matrix("output.weight", s.vocabulary, s.dim, ++seed)};
    for (std::size_t i = 0; i < s.layers; ++i) {
        const auto name = [i](const char* part) {
            return "blk." + std::to_string(i) + "." + part + ".weight";
        };
        tensors.push_back(ones(name("attn_norm"), s.dim));
        tensors.push_back(ones(name("ffn_norm"), s.dim));
        tensors.push_back(matrix(name("attn_q"), s.dim, s.dim, ++seed));
        tensors.push_back(matrix(name("attn_k"), kv, s.dim, ++seed));
        tensors.push_back(matrix(name("attn_v"), kv, s.dim, ++seed));
        tensors.push_back(matrix(name("attn_output"), s.dim, s.dim, ++seed));
        tensors.push_back(matrix(name("ffn_gate"), s.hidden, s.dim, ++seed));
        tensors.push_back(matrix(name("ffn_up"), s.hidden, s.dim, ++seed));
        tensors.push_back(matrix(name("ffn_down"), s.dim, s.hidden, ++seed));
    }
    return io::write_gguf(path, metadata, tensors);
}

}  // namespace

int main(int argc, char** argv) {
    const bool large = argc > 1;
    if (argc > 2 || (large && argv[1][0] == '-')) {
        std::fprintf(stderr, "usage: %s [FILE.gguf]\n", argv[0]);
        return 2;
    }
    const std::filesystem::path path =
        large ? std::filesystem::path(argv[1])
              : std::filesystem::temp_directory_path() / "fewbit-example-06.gguf";
    const Shape shape = large ? Shape{22, 2048, 5632, 32, 4, 32000} : Shape{2, 256, 512, 4, 2, 1000};
    if (const auto done = write(path, shape); !done) {
        std::fprintf(stderr, "%s\n", done.error().message.c_str());
        return 1;
    }
    const auto file = io::open_gguf(path);
    if (!file) {
        std::fprintf(stderr, "%s\n", file.error().message.c_str());
        return 1;
    }
    std::size_t weights = 0;
    for (const io::GgufTensor& tensor : file->tensors) weights += tensor.rows() * tensor.row_elements();
    std::printf("%zu tensors, %zu weights\n", file->tensors.size(), weights);
    std::error_code ignored;
    if (!large) std::filesystem::remove(path, ignored);
    return 0;
}
