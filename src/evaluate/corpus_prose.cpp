// Definitions of evaluate/corpus_prose.hpp: sentences with slots. Capital letters are the slots; what fills
// them is drawn once per story, so that a model which reads on must remember it:
//
//   N who it is about     S she or he     H her or him    P her or his
//   F the other one       G she or he     T the thing     L the place
//   C the thing's colour  Z its size      M the mood      D the weather
#include "src/evaluate/corpus_prose.hpp"

#include <algorithm>
#include <array>
#include <string_view>

#include "src/evaluate/corpus_words.hpp"

namespace fewbit::inline v0::evaluate::detail {
namespace {

constexpr std::array<std::string_view, 4> first_sentences{
    " N had a Z T.",
    " one day N found a Z T.",
    " this is the story of N and the T.",
    " once there was a Z T, and N kept it.",
};
constexpr std::array<std::string_view, 4> second_sentences{
    " the T was C, and S kept it in the L.",
    " S put the C T in the L.",
    " it was C, and S took it to the L.",
    " S went to the L with the C T.",
};
constexpr std::array<std::string_view, 24> middle_sentences{
    " it was D in the L.",
    " S sat in the L with the C T.",
    " then F came to the L.",
    " F saw N and the C T.",
    " N gave F the T, and G liked it.",
    " F said, the T is C and Z.",
    " G looked at the C T, then gave it back to N.",
    " N said, my T is C.",
    " F said, your T is Z and C.",
    " N ran to the L, where the C T still was.",
    " S looked for the C T again.",
    " F saw H in the L.",
    " the C T of N was in the L.",
    " S was M, and so was F.",
    " F looked in the L and found the C T there.",
    " at night the L was D, but N was M.",
    " N took P C T and went to the L.",
    " the day after, S came back to the L.",
    " on that day it was D in the L.",
    " now F looked under the C T.",
    " N said, you know that the T is C.",
    " F gave H the C T again.",
    " S was in the D L with F.",
    " this little T is C, said F.",
};
constexpr std::array<std::string_view, 4> last_sentences{
    " at night N put the C T in the L, and S was M.",
    " so N and F went home, and the C T was in the L.",
    " N was M, and the C T was in the L.",
    " now you know the story of N and the C T.",
};

struct Person {
    std::string name;
    bool woman;
};

struct Facts {
    Person who, other;
    std::string_view thing, place, colour, size, mood, weather;
};

/// Two different people of a list whose first half are women.
template <class List>
void draw_people(Draws& draws, const List& list, std::string_view article, Facts& facts) {
    const std::size_t who = draws.below(list.size());
    const std::size_t other = (who + draws.between(1, list.size() - 1)) % list.size();
    const auto person = [&](std::size_t i) {
        return Person{std::string(article).append(list[i]), i < list.size() / 2};
    };
    facts.who = person(who);
    facts.other = person(other);
}

Facts draw_facts(Draws& draws, CorpusPart part, bool named) {
    Facts facts;
    do {
        if (named)
            draw_people(draws, names, "", facts);
        else
            draw_people(draws, people, "the ", facts);
        facts.thing = draws.one_of(things);
        facts.place = draws.one_of(places);
    } while (part_of("prose", facts.who.name + ' ' + std::string(facts.thing) + ' ' +
                                  std::string(facts.place)) != part);
    facts.colour = draws.one_of(colours);
    facts.size = draws.one_of(sizes);
    facts.mood = draws.one_of(moods);
    facts.weather = draws.one_of(weathers);
    return facts;
}

std::string filled(std::string_view sentence, const Facts& facts) {
    std::string out;
    for (const char c : sentence) switch (c) {
            case 'N': out += facts.who.name; break;
            case 'S': out += facts.who.woman ? "she" : "he"; break;
            case 'H': out += facts.who.woman ? "her" : "him"; break;
            case 'P': out += facts.who.woman ? "her" : "his"; break;
            case 'F': out += facts.other.name; break;
            case 'G': out += facts.other.woman ? "she" : "he"; break;
            case 'T': out += facts.thing; break;
            case 'L': out += facts.place; break;
            case 'C': out += facts.colour; break;
            case 'Z': out += facts.size; break;
            case 'M': out += facts.mood; break;
            case 'D': out += facts.weather; break;
            default: out += c;
        }
    return out;
}

/// The sentences of a story one after another, without an end.
class Teller {
public:
    Teller(Draws& draws, CorpusPart part, bool named)
        : draws_(&draws), facts_(draw_facts(draws, part, named)) {}

    std::string next() {
        ++told_;
        if (told_ == 1) return filled(draws_->one_of(first_sentences), facts_);
        if (told_ == 2) return filled(draws_->one_of(second_sentences), facts_);
        // Never the same sentence twice in a row.
        last_ = told_ == 3
                    ? draws_->below(middle_sentences.size())
                    : (last_ + draws_->between(1, middle_sentences.size() - 1)) % middle_sentences.size();
        return filled(middle_sentences[last_], facts_);
    }
    std::string end() { return filled(draws_->one_of(last_sentences), facts_); }

private:
    Draws* draws_;
    Facts facts_;
    std::size_t told_ = 0;
    std::size_t last_ = 0;
};

/// Every word follows a blank and is one token, as is every sign.
std::size_t count_tokens(std::string_view sentence) {
    return static_cast<std::size_t>(std::count_if(sentence.begin(), sentence.end(),
                                                  [](char c) { return c == ' ' || c == ',' || c == '.'; }));
}

}  // namespace

std::string story(Draws& draws, CorpusPart part, std::size_t sentences) {
    Teller teller(draws, part, true);
    std::string out;
    for (std::size_t i = 1; i < sentences; ++i) out += teller.next();
    return out + teller.end();
}

std::string filler(Draws& draws, CorpusPart part, std::size_t max_tokens) {
    Teller teller(draws, part, false);
    std::string out;
    for (std::size_t left = max_tokens;;) {
        const std::string sentence = teller.next();
        const std::size_t tokens = count_tokens(sentence);
        if (tokens > left) return out;
        out += sentence;
        left -= tokens;
    }
}

}  // namespace fewbit::inline v0::evaluate::detail
