// Mixes against what is published about them: the bits per weight of Llama 3.1 8B, and the rules' corner cases.
#include <algorithm>
#include <cmath>
#include <map>
#include <string>
#include <vector>

#include "fewbit/core/text.hpp"
#include "fewbit/pipeline/mixes.hpp"
#include "support/catch.hpp"

using namespace fewbit;
using namespace fewbit::pipeline;

namespace {

struct Shaped {
    MixTensor tensor;
    std::size_t n;
};

/// All tensors of a llama, in the order in which converters write them.
std::vector<Shaped> llama(std::size_t layers, std::size_t dim, std::size_t hidden, std::size_t kv,
                          std::size_t vocabulary, bool tied = false) {
    std::vector<Shaped> all{{{"token_embd.weight", dim, 2}, vocabulary}};
    for (std::size_t i = 0; i < layers; ++i) {
        const auto add = [&](const char* part, std::size_t n, std::size_t k, std::size_t dimensions = 2) {
            all.push_back({{text("blk.", i, ".", part, ".weight"), k, dimensions}, n});
        };
        add("attn_norm", 1, dim, 1);
        add("ffn_down", dim, hidden);
        add("ffn_gate", hidden, dim);
        add("ffn_up", hidden, dim);
        add("ffn_norm", 1, dim, 1);
        add("attn_k", kv, dim);
        add("attn_output", dim, dim);
        add("attn_q", dim, dim);
        add("attn_v", kv, dim);
    }
    all.push_back({{"output_norm.weight", dim, 1}, 1});
    if (!tied) all.push_back({{"output.weight", dim, 2}, vocabulary});
    return all;
}

std::vector<MixTensor> names_of(const std::vector<Shaped>& shaped) {
    std::vector<MixTensor> names;
    for (const Shaped& each : shaped) names.push_back(each.tensor);
    return names;
}

std::map<std::string, std::string> types_of(const char* mix, const MixModel& model,
                                            const std::vector<MixTensor>& tensors) {
    const auto choices = choose_formats(*find_mix(mix), model, tensors);
    std::map<std::string, std::string> types;
    for (std::size_t i = 0; i < tensors.size(); ++i)
        types[tensors[i].name] = choices[i].why.empty() ? "stays" : name(choices[i].format);
    return types;
}

}  // namespace

TEST_CASE("mixes have the published bits per weight on Llama 3.1 8B") {
    const auto shaped = llama(32, 4096, 14336, 1024, 128256);
    // Four decimals of llama.cpp's tools/quantize/README.md; its Q2_K is q2_k_m here.
    const std::map<std::string, double> published{{"q2_k_s", 2.9697}, {"q2_k_m", 3.1593}, {"q3_k_s", 3.6429},
                                                  {"q3_k_m", 3.9960}, {"q3_k_l", 4.2979}, {"q4_k_s", 4.6672},
                                                  {"q4_k_m", 4.8944}, {"q5_k_s", 5.5704}, {"q5_k_m", 5.7036}};
    CHECK(published.size() == mixes().size());
    for (const auto& [mix, expected] : published) {
        const auto choices = choose_formats(*find_mix(mix), {32, 32, 8, 0}, names_of(shaped));
        double bits = 0, weights = 0;
        for (std::size_t i = 0; i < shaped.size(); ++i) {
            const auto& [tensor, n] = shaped[i];
            bits += choices[i].why.empty() ? 32.0 * static_cast<double>(n * tensor.k)
                                           : total_bits(choices[i].format, n, tensor.k);
            weights += static_cast<double>(n * tensor.k);
        }
        INFO(mix << " " << bits / weights);
        CHECK(std::abs(bits / weights - expected) < 0.5e-4 + 1e-6);
    }
}

TEST_CASE("mixes: more bits for the first and last eighth and every third between") {
    const auto types = types_of("q4_k_m", {32, 32, 8, 0}, names_of(llama(32, 4096, 14336, 1024, 128256)));
    std::size_t sixes = 0;
    for (int i = 0; i < 32; ++i) {
        const std::string down = types.at(text("blk.", i, ".ffn_down.weight"));
        CHECK(down == types.at(text("blk.", i, ".attn_v.weight")));
        CHECK((down == "q6_k") == (i < 4 || i >= 28 || (i - 4) % 3 == 2));
        sixes += down == "q6_k";
        CHECK(types.at(text("blk.", i, ".attn_q.weight")) == "q4_k");
    }
    CHECK(sixes == 16);
    CHECK(types.at("token_embd.weight") == "q4_k");
    CHECK(types.at("output.weight") == "q6_k");
    CHECK(types.at("blk.0.attn_norm.weight") == "stays");
}

TEST_CASE("mixes: tied embeddings, shared heads, experts, odd K, order of layers") {
    const auto tied = types_of("q4_k_m", {4, 8, 8, 0}, names_of(llama(4, 512, 1024, 512, 1000, true)));
    CHECK(tied.at("token_embd.weight") == "q6_k");
    // Four query heads to one of keys and values.
    CHECK(
        types_of("q2_k_m", {4, 8, 2, 0}, names_of(llama(4, 512, 1024, 128, 99))).at("blk.0.attn_v.weight") ==
        "q4_k");
    CHECK(
        types_of("q2_k_m", {4, 8, 8, 0}, names_of(llama(4, 512, 1024, 512, 99))).at("blk.0.attn_v.weight") ==
        "q3_k");
    // Llama 2 70B.
    CHECK(types_of("q4_k_s", {80, 64, 8, 0}, names_of(llama(80, 512, 1024, 64, 99)))
              .at("blk.70.attn_v.weight") == "q5_k");
    const auto experts = types_of("q4_k_m", {4, 8, 2, 8}, names_of(llama(4, 512, 1024, 128, 99)));
    CHECK(experts.at("blk.1.attn_v.weight") == "q8_0");
    CHECK(experts.at("blk.1.attn_k.weight") == "q8_0");
    CHECK(experts.at("blk.1.attn_output.weight") == "q5_k");
    const auto odd = types_of("q4_k_m", {2, 8, 8, 0}, names_of(llama(2, 288, 172, 288, 99)));
    CHECK(odd.at("blk.0.attn_q.weight") == "q5_0");   // 288 is a multiple of 32 alone
    CHECK(odd.at("blk.1.attn_v.weight") == "q8_0");   // for q6_k
    CHECK(odd.at("blk.1.ffn_down.weight") == "f16");  // 172 of nothing
    CHECK(odd.at("output.weight") == "q8_0");
    CHECK(types_of("q3_k_s", {2, 8, 8, 0}, names_of(llama(2, 288, 172, 288, 99))).at("blk.0.ffn_up.weight") ==
          "iq4_nl");
    // q3_k_m gives the first two attn_v more, wherever they stand in the file.
    std::vector<MixTensor> backwards = names_of(llama(12, 512, 1024, 512, 99));
    std::reverse(backwards.begin(), backwards.end());
    const auto types = types_of("q3_k_m", {12, 8, 8, 0}, backwards);
    for (int i = 0; i < 12; ++i)
        CHECK(types.at(text("blk.", i, ".attn_v.weight")) == (i < 2 ? "q5_k" : "q4_k"));
}

TEST_CASE("mixes: routers, norms, convolutions and vectors are no matrices of weights") {
    for (const char* name :
         {"blk.0.ffn_gate_inp.weight", "blk.0.attn_q_norm.weight", "position_embd.weight",
          "token_types.weight", "blk.0.ssm_conv1d.weight", "blk.0.attn_q.bias", "rope_freqs"})
        CHECK_FALSE(is_quantizable({name, 256, 2}));
    CHECK_FALSE(is_quantizable({"blk.0.attn_q.weight", 256, 1}));
    CHECK(is_quantizable({"blk.0.ffn_down_exps.weight", 256, 3}));
    CHECK(find_mix("q4_k") == nullptr);
    for (const Mix& mix : mixes()) CHECK(find_mix(mix.name) == &mix);
}
