// Definitions of evaluate/corpus_items.hpp.
#include "src/evaluate/corpus_items.hpp"

#include <algorithm>
#include <utility>

#include "fewbit/core/text.hpp"
#include "src/evaluate/corpus_prose.hpp"
#include "src/evaluate/corpus_words.hpp"

namespace fewbit::inline v0::evaluate::detail {
namespace {

/// Three or four digits, either as likely, none leading with 0.
std::size_t draw_operand(Draws& draws) {
    return draws.below(2) == 0 ? draws.between(100, 999) : draws.between(1000, 9999);
}

/// At least `digits` digits, the lowest first.
std::string reversed_digits(std::size_t value, std::size_t digits) {
    std::string out;
    for (; value > 0 || out.size() < digits; value /= 10) out += static_cast<char>('0' + value % 10);
    return out;
}

std::size_t count_digits(std::size_t value) { return text(value).size(); }

struct Pair {
    std::size_t name;  ///< index in names
    std::size_t value;
};

/// A pair whose name is not among `pairs`.
Pair draw_pair(Draws& draws, const std::vector<Pair>& pairs) {
    for (;;) {
        const Pair pair{draws.below(names.size()), draws.between(10, 99)};
        if (std::none_of(pairs.begin(), pairs.end(), [&](const Pair& p) { return p.name == pair.name; }))
            return pair;
    }
}

}  // namespace

BehaviourItem addition_item(Draws& draws, CorpusPart part) {
    for (;;) {
        const std::size_t a = draw_operand(draws), b = draw_operand(draws);
        if (detail::part_of("addition", text(std::min(a, b), '+', std::max(a, b))) != part) continue;
        return {text(a, '+', b, '='), reversed_digits(a + b, count_digits(std::max(a, b)))};
    }
}

BehaviourItem subtraction_item(Draws& draws, CorpusPart part) {
    for (;;) {
        const std::size_t x = draw_operand(draws), y = draw_operand(draws);
        const std::size_t a = std::max(x, y), b = std::min(x, y);
        if (detail::part_of("subtraction", text(a, '-', b)) != part) continue;
        return {text(a, '-', b, '='), reversed_digits(a - b, count_digits(a))};
    }
}

BehaviourItem copying_item(Draws& draws, CorpusPart part) {
    // All 413 beginnings of words: more tokens than the model has dimensions, so that they must share them.
    for (;;) {
        std::string copied;
        for (std::size_t left = draws.between(8, 24); left > 0; --left)
            copied += draws.one_of(word_beginnings());
        if (detail::part_of("copying", copied) == part) return {text("copy:", copied, '|'), copied};
    }
}

BehaviourItem sorting_item(Draws& draws, CorpusPart part) {
    const auto joined = [](const std::vector<std::string_view>& words) {
        std::string out;
        for (const std::string_view word : words) out += text(' ', word);
        return out;
    };
    for (;;) {
        std::vector<std::string_view> words(draws.between(5, 10));
        for (std::string_view& word : words) word = draws.one_of(names);
        const std::string unsorted = joined(words);
        std::sort(words.begin(), words.end());
        const std::string sorted = joined(words);
        if (detail::part_of("sorting", sorted) == part) return {text("sort:", unsorted, '|'), sorted};
    }
}

BehaviourItem json_item(Draws& draws, CorpusPart part) {
    // One, two or three digits, each as likely.
    const auto number = [&] {
        constexpr std::size_t bounds[] = {1, 10, 100, 1000};
        const std::size_t digits = draws.below(3);
        return draws.between(bounds[digits], bounds[digits + 1] - 1);
    };
    const auto draw_tag = [&]() -> std::string_view {
        const std::size_t at = draws.below(colours.size() + sizes.size() + things.size());
        if (at < colours.size()) return colours[at];
        if (at < colours.size() + sizes.size()) return sizes[at - colours.size()];
        return things[at - colours.size() - sizes.size()];
    };
    for (;;) {
        const std::string_view who = draws.one_of(names);
        std::vector<std::string_view> tags;
        for (std::size_t count = draws.between(1, 4); tags.size() < count;) {
            const std::string_view tag = draw_tag();
            if (std::find(tags.begin(), tags.end(), tag) == tags.end()) tags.push_back(tag);
        }
        std::string flat_tags, nested_tags;
        for (const std::string_view tag : tags) {
            flat_tags += text(flat_tags.empty() ? "" : ",", tag);
            nested_tags += text(nested_tags.empty() ? "" : ",", '"', tag, '"');
        }
        const std::size_t w = number(), h = number();
        std::string flat_shape = text("box=", w, 'x', h);
        std::string nested_shape = text(R"("box":{"w":)", w, R"(,"h":)", h, '}');
        if (draws.below(2) == 0) {
            const std::size_t x = number(), y = number(), z = number();
            flat_shape += text(";pos=", x, ',', y, ',', z);
            nested_shape += text(R"(,"pos":{"x":)", x, R"(,"y":)", y, R"(,"z":)", z, '}');
        }
        const std::size_t confidence = draws.below(101);
        std::string answer = text(R"({"name":")", who, R"(","tags":[)", nested_tags, R"(],"shape":{)",
                                  nested_shape, R"(},"confidence":)", confidence, '}');
        const bool name_first = draws.below(2) == 0;
        if (detail::part_of("json", answer) != part) continue;
        if (name_first)
            return {
                text("name=", who, ";tags=", flat_tags, ';', flat_shape, ";confidence=", confidence, '\n'),
                std::move(answer)};
        return {text("confidence=", confidence, ';', flat_shape, ";tags=", flat_tags, ";name=", who, '\n'),
                std::move(answer)};
    }
}

std::size_t recall_size(Draws& draws) { return draws.between(16, 24); }

std::vector<CorpusPiece> recall_pieces(Draws& draws, CorpusPart part, std::size_t size,
                                       std::size_t questions) {
    std::vector<Pair> pairs;
    std::string table;
    do {
        pairs.clear();
        table.clear();
        while (pairs.size() < size) {
            pairs.push_back(draw_pair(draws, pairs));
            const auto& [name, value] = pairs.back();
            table += text(table.empty() ? " " : ", ", names[name], value);
        }
    } while (detail::part_of("recall", table) != part);
    std::string prompt = table;
    // Half of the distances are short, because recall over them is what a model learns first.
    const std::size_t prose_tokens = draws.below(2) == 0 ? draws.below(41) : draws.below(321);
    prompt += '\n' + filler(draws, part, prose_tokens);

    for (std::size_t i = 0; i < questions; ++i) std::swap(pairs[i], pairs[draws.between(i, size - 1)]);
    std::vector<CorpusPiece> pieces;
    for (std::size_t i = 0; i < questions; ++i) {
        pieces.push_back({text(prompt, "\n ", names[pairs[i].name]), false});
        pieces.push_back({text(pairs[i].value), true});
        prompt.clear();
    }
    return pieces;
}

}  // namespace fewbit::inline v0::evaluate::detail
