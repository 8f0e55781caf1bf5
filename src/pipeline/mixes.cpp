// The rules of ggml's mixes as a table.
#include "fewbit/pipeline/mixes.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <limits>

#include "fewbit/core/text.hpp"

namespace fewbit::inline v0::pipeline {
namespace {

using ggml::BlockType;

constexpr std::array<Mix, 9> all_mixes{{
    {"q2_k_s", BlockType::q2_k, 21},
    {"q2_k_m", BlockType::q2_k, 10},
    {"q3_k_s", BlockType::q3_k, 11},
    {"q3_k_m", BlockType::q3_k, 12},
    {"q3_k_l", BlockType::q3_k, 13},
    {"q4_k_s", BlockType::q4_k, 14},
    {"q4_k_m", BlockType::q4_k, 15},
    {"q5_k_s", BlockType::q5_k, 16},
    {"q5_k_m", BlockType::q5_k, 17},
}};

enum class Role { output, embedding, attn_v, attn_k, attn_output, attn_qkv, ffn_down, other };

/// When a rule holds, for the i-th of n matrices of its role.
enum class When {
    always,
    shared_heads,  // four or more query heads share one of keys and values
    first_two,
    first_four,
    first_sixteenth,
    first_eighth,
    more_bits,  // the first and the last eighth, and every third between
};

struct Rule {
    std::string_view mix;
    Role role;
    When when;
    BlockType type;
};

/// The first rule that holds decides; where none does, the type is the mix' base.
constexpr std::array<Rule, 24> rules{{
    {"q2_k_s", Role::attn_v, When::shared_heads, BlockType::q4_k},
    {"q2_k_s", Role::ffn_down, When::first_eighth, BlockType::q4_k},
    {"q2_k_m", Role::attn_v, When::shared_heads, BlockType::q4_k},
    {"q2_k_m", Role::attn_v, When::always, BlockType::q3_k},
    {"q2_k_m", Role::ffn_down, When::always, BlockType::q3_k},
    {"q2_k_m", Role::attn_output, When::always, BlockType::q3_k},
    {"q3_k_m", Role::attn_v, When::first_two, BlockType::q5_k},
    {"q3_k_m", Role::attn_v, When::always, BlockType::q4_k},
    {"q3_k_m", Role::ffn_down, When::first_sixteenth, BlockType::q5_k},
    {"q3_k_m", Role::ffn_down, When::always, BlockType::q4_k},
    {"q3_k_m", Role::attn_output, When::always, BlockType::q4_k},
    {"q3_k_m", Role::attn_qkv, When::always, BlockType::q4_k},
    {"q3_k_l", Role::attn_v, When::always, BlockType::q5_k},
    {"q3_k_l", Role::ffn_down, When::always, BlockType::q5_k},
    {"q3_k_l", Role::attn_output, When::always, BlockType::q5_k},
    {"q3_k_l", Role::attn_qkv, When::always, BlockType::q4_k},
    {"q4_k_s", Role::attn_v, When::first_four, BlockType::q5_k},
    {"q4_k_s", Role::ffn_down, When::first_eighth, BlockType::q5_k},
    {"q4_k_m", Role::attn_v, When::more_bits, BlockType::q6_k},
    {"q4_k_m", Role::ffn_down, When::more_bits, BlockType::q6_k},
    {"q4_k_m", Role::attn_qkv, When::always, BlockType::q5_k},
    {"q5_k_m", Role::attn_v, When::more_bits, BlockType::q6_k},
    {"q5_k_m", Role::ffn_down, When::more_bits, BlockType::q6_k},
    {"q5_k_m", Role::attn_qkv, When::always, BlockType::q6_k},
}};

[[nodiscard]] bool holds(When when, std::size_t i, std::size_t n, const MixModel& model) noexcept {
    const std::size_t shared = model.kv_heads == 0 ? 1 : model.heads / model.kv_heads;
    switch (when) {
        case When::always: return true;
        case When::shared_heads: return shared >= 4;
        case When::first_two: return i < 2;
        case When::first_four: return i < 4;
        case When::first_sixteenth: return i < n / 16;
        case When::first_eighth: return i < n / 8;
        case When::more_bits: return i < n / 8 || i >= 7 * n / 8 || (i - n / 8) % 3 == 2;
    }
    return false;
}

[[nodiscard]] bool contains(std::string_view name, std::string_view part) noexcept {
    return name.find(part) != std::string_view::npos;
}

[[nodiscard]] Role role_of(std::string_view name, bool has_output) noexcept {
    if (name == "output.weight" || (!has_output && name == "token_embd.weight")) return Role::output;
    if (name == "token_embd.weight") return Role::embedding;
    if (contains(name, "attn_v.weight")) return Role::attn_v;
    if (contains(name, "attn_k.weight")) return Role::attn_k;
    if (contains(name, "ffn_down")) return Role::ffn_down;
    if (contains(name, "attn_output.weight")) return Role::attn_output;
    if (contains(name, "attn_qkv.weight")) return Role::attn_qkv;
    return Role::other;
}

/// The N of "blk.N."; the largest number for names without.
[[nodiscard]] std::size_t layer_of(std::string_view name) noexcept {
    std::size_t layer = std::numeric_limits<std::size_t>::max();
    if (name.starts_with("blk.")) std::from_chars(name.data() + 4, name.data() + name.size(), layer);
    return layer;
}

/// For every tensor, how many of the same role stand in layers before it.
[[nodiscard]] std::vector<std::size_t> places_of(std::span<const MixTensor> tensors,
                                                 const std::vector<Role>& roles) {
    std::vector<std::size_t> order(tensors.size()), places(tensors.size());
    for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
    std::ranges::stable_sort(order, {}, [&](std::size_t i) { return layer_of(tensors[i].name); });
    std::array<std::size_t, 8> seen{};
    for (const std::size_t i : order) places[i] = seen[static_cast<std::size_t>(roles[i])]++;
    return places;
}

/// Types of smaller blocks for rows that do not fill one.
[[nodiscard]] Format fitting(BlockType type, std::size_t k) noexcept {
    const auto fits = [k](BlockType t) { return k % ggml::traits(t).elements == 0; };
    if (!fits(type)) switch (type) {
            case BlockType::q4_k: type = BlockType::q5_0; break;
            case BlockType::q5_k: type = BlockType::q5_1; break;
            case BlockType::q6_k: type = BlockType::q8_0; break;
            default: type = BlockType::iq4_nl; break;
        }
    return fits(type) ? block_format(type) : float_format(Scalar::f16);
}

[[nodiscard]] BlockType type_of(const Mix& mix, const MixModel& model, Role role, std::size_t place,
                                std::size_t k, std::size_t attn_v_count) noexcept {
    if (role == Role::output)
        return k % ggml::traits(mix.base).elements == 0 ? BlockType::q6_k : BlockType::q8_0;
    // Where eight experts share the attention, it is small beside them and gets many bits.
    if (model.experts == 8 && (role == Role::attn_v || role == Role::attn_k)) return BlockType::q8_0;
    if (model.experts == 8 && role == Role::attn_output)
        return mix.name == "q2_k_s" || mix.name == "q3_k_l" ? mix.base : BlockType::q5_k;
    const std::size_t count = role == Role::ffn_down ? model.layers : attn_v_count;
    const auto rule = std::ranges::find_if(rules, [&](const Rule& each) {
        return each.mix == mix.name && each.role == role && holds(each.when, place, count, model);
    });
    BlockType type = rule != rules.end() ? rule->type : mix.base;
    // Llama's 70 B: eight query heads share each attn_v, which makes it small.
    const bool is_70b = model.layers == 80 && model.kv_heads != 0 && model.kv_heads != model.heads;
    if (is_70b && role == Role::attn_v && (type == BlockType::q3_k || type == BlockType::q4_k))
        type = BlockType::q5_k;
    return type;
}

}  // namespace

std::span<const Mix> mixes() noexcept { return all_mixes; }

const Mix* find_mix(std::string_view name) noexcept {
    for (const Mix& mix : all_mixes)
        if (mix.name == name) return &mix;
    return nullptr;
}

bool is_quantizable(const MixTensor& tensor) noexcept {
    const std::string_view name = tensor.name;
    if (tensor.dimensions < 2 || !name.ends_with(".weight")) return false;
    for (const std::string_view part : {"_norm.weight",
                                        "ffn_gate_inp.weight",
                                        "ssm_conv1d",
                                        "shortconv.conv.weight",
                                        "attn_rel_b.weight",
                                        "time_mix_first.weight",
                                        "time_mix_w0.weight",
                                        "time_mix_w1.weight",
                                        "time_mix_w2.weight",
                                        "time_mix_v0.weight",
                                        "time_mix_v1.weight",
                                        "time_mix_v2.weight",
                                        "time_mix_a0.weight",
                                        "time_mix_a1.weight",
                                        "time_mix_a2.weight",
                                        "time_mix_g1.weight",
                                        "time_mix_g2.weight",
                                        "time_mix_decay_w1.weight",
                                        "time_mix_decay_w2.weight",
                                        "time_mix_lerp_fused.weight"})
        if (contains(name, part)) return false;
    return name != "position_embd.weight" && name != "token_types.weight";
}

std::vector<MixChoice> choose_formats(const Mix& mix, const MixModel& model,
                                      std::span<const MixTensor> tensors) {
    const bool has_output =
        std::ranges::any_of(tensors, [](const MixTensor& t) { return t.name == "output.weight"; });
    std::vector<Role> roles;
    for (const MixTensor& tensor : tensors) roles.push_back(role_of(tensor.name, has_output));
    const std::vector<std::size_t> places = places_of(tensors, roles);
    const auto attn_v_count = static_cast<std::size_t>(std::ranges::count(roles, Role::attn_v));
    std::vector<MixChoice> choices;
    for (std::size_t i = 0; i < tensors.size(); ++i) {
        MixChoice choice;
        if (is_quantizable(tensors[i])) {
            const BlockType type = type_of(mix, model, roles[i], places[i], tensors[i].k, attn_v_count);
            choice.format = fitting(type, tensors[i].k);
            choice.why = std::string(mix.name);
            if (!(choice.format == block_format(type)))
                choice.why += text(": K = ", tensors[i].k);
            else if (roles[i] == Role::output)
                choice.why += ": output";
        }
        choices.push_back(std::move(choice));
    }
    return choices;
}

}  // namespace fewbit::inline v0::pipeline
