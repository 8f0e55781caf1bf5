// Random numbers of the corpus, and which part a content belongs to. Only integer arithmetic that is defined
// everywhere: the distributions of <random> and std::hash differ between standard libraries. Internal to
// src/evaluate.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "fewbit/core/random.hpp"
#include "fewbit/evaluate/corpus.hpp"

namespace fewbit::inline v0::evaluate::detail {

/// The draws of one item: the n-th is a hash of (seed, part, stream, index, n).
class Draws {
public:
    Draws(std::uint64_t seed, CorpusPart part, std::uint64_t stream, std::uint64_t index) noexcept
        : key_(splitmix_mixed(splitmix_mixed(splitmix_mixed(seed + splitmix_step) +
                                             static_cast<std::uint64_t>(part) * 256 + stream) +
                              index)) {}

    [[nodiscard]] std::uint64_t bits() noexcept { return splitmix_mixed(key_ + ++count_ * splitmix_step); }
    /// In [0, bound), 0 < bound < 2^32; the bias of bound / 2^32 does not matter here.
    [[nodiscard]] std::size_t below(std::size_t bound) noexcept {
        return static_cast<std::size_t>((bits() >> 32) * bound >> 32);
    }
    /// In [low, high].
    [[nodiscard]] std::size_t between(std::size_t low, std::size_t high) noexcept {
        return low + below(high - low + 1);
    }
    template <class List>
    [[nodiscard]] const auto& one_of(const List& list) noexcept {
        return list[below(list.size())];
    }

private:
    std::uint64_t key_;
    std::uint64_t count_ = 0;
};

/// The part of a content, of whichever behaviour: `kind` keeps the contents of different ones apart.
/// FNV-1a, mixed, because its low bits alone are poor.
[[nodiscard]] constexpr CorpusPart part_of(std::string_view kind, std::string_view content) noexcept {
    std::uint64_t hash = 0xCBF29CE484222325u;
    const auto eat = [&](std::string_view bytes) {
        for (const char byte : bytes) hash = (hash ^ static_cast<unsigned char>(byte)) * 0x100000001B3u;
    };
    eat(kind);
    eat(":");
    eat(content);
    return splitmix_mixed(hash) % 16 == 0 ? CorpusPart::held_out : CorpusPart::training;
}

}  // namespace fewbit::inline v0::evaluate::detail
