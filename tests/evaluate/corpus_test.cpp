// What the corpus says: right answers, the promised sizes, parts without a common item.
#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>
#include <string>
#include <unordered_set>
#include <vector>

#include "evaluate/corpus_support.hpp"

using namespace fewbit;
using namespace fewbit::evaluate;
using namespace fewbit_test;

namespace {

std::string between(const std::string& text, std::string_view begin, std::string_view end) {
    const std::size_t from = text.find(begin);
    if (from == std::string::npos) return {};
    const std::size_t first = from + begin.size();
    return text.substr(first, text.find(end, first) - first);
}

std::string reversed(std::string text) {
    std::reverse(text.begin(), text.end());
    return text;
}

std::vector<std::string> split(const std::string& text, char mark) {
    std::vector<std::string> out;
    std::istringstream in(text);
    for (std::string part; std::getline(in, part, mark);) out.push_back(part);
    return out;
}

/// "mia42" and so on, of the table that a recall prompt begins with.
std::vector<std::string> table_of(const std::string& prompt) {
    std::vector<std::string> pairs;
    for (const std::string& pair : split(prompt.substr(0, prompt.find('\n')), ','))
        pairs.push_back(pair.substr(1));
    return pairs;
}

std::string name_in(const std::string& pair) { return pair.substr(0, pair.find_first_of("0123456789")); }

/// The answer to a prompt, worked out from the prompt alone and another way than the corpus does.
std::string right_answer(Behaviour behaviour, const std::string& prompt) {
    switch (behaviour) {
        case Behaviour::addition: {
            const std::string a = prompt.substr(0, prompt.find('+')), b = between(prompt, "+", "=");
            return reversed(std::to_string(std::stoi(a) + std::stoi(b)));
        }
        case Behaviour::subtraction: {
            const std::string a = prompt.substr(0, prompt.find('-')), b = between(prompt, "-", "=");
            const int difference = std::stoi(a) - std::stoi(b);
            if (difference < 0) return "a < b";
            const std::string digits = std::to_string(difference);
            return reversed(std::string(a.size() - digits.size(), '0') + digits);
        }
        case Behaviour::recall: {
            const std::string key = prompt.substr(prompt.rfind(' ') + 1);
            for (const std::string& pair : table_of(prompt))
                if (name_in(pair) == key) return pair.substr(key.size());
            return "no such key";
        }
        case Behaviour::json: {
            nlohmann::ordered_json out;
            std::map<std::string, std::string> fields;
            for (const std::string& field : split(prompt.substr(0, prompt.size() - 1), ';'))
                fields[field.substr(0, field.find('='))] = field.substr(field.find('=') + 1);
            out["name"] = fields.at("name");
            out["tags"] = split(fields.at("tags"), ',');
            const std::string& box = fields.at("box");
            out["shape"]["box"]["w"] = std::stoi(box);
            out["shape"]["box"]["h"] = std::stoi(box.substr(box.find('x') + 1));
            if (const auto pos = fields.find("pos"); pos != fields.end()) {
                const auto numbers = split(pos->second, ',');
                for (std::size_t i = 0; i < 3; ++i)
                    out["shape"]["pos"][std::string(1, "xyz"[i])] = std::stoi(numbers[i]);
            }
            out["confidence"] = std::stoi(fields.at("confidence"));
            return out.dump();
        }
        case Behaviour::copying: return between(prompt, ":", "|");
        case Behaviour::sorting: {
            const std::vector<std::string> words = split(between(prompt, ": ", "|"), ' ');
            std::string sorted;
            const std::multiset<std::string> ordered(words.begin(), words.end());
            for (const std::string& word : ordered) sorted += " " + word;
            return sorted;
        }
    }
    return "?";
}

/// What decides the part of an item.
std::string content_of(Behaviour behaviour, const BehaviourItem& item) {
    if (behaviour == Behaviour::addition) {
        std::string a = item.prompt.substr(0, item.prompt.find('+')), b = between(item.prompt, "+", "=");
        if (std::stoi(b) < std::stoi(a)) std::swap(a, b);
        return "addition " + a + "+" + b;
    }
    if (behaviour == Behaviour::recall) return "recall " + item.prompt.substr(0, item.prompt.find('\n'));
    const bool by_answer = behaviour == Behaviour::sorting || behaviour == Behaviour::json;
    return std::string(name(behaviour)) + " " + (by_answer ? item.answer : item.prompt);
}

/// Who, what and where in a story: the first word of each list that occurs.
std::string triple_of(const std::string& story, const std::set<std::string>& names) {
    static const std::set<std::string> things{"bag",  "ball", "bell", "boat", "book", "box",
                                              "coat", "coin", "cup",  "doll", "drum", "hat",
                                              "key",  "kite", "lamp", "map",  "ring", "ship"};
    static const std::set<std::string> places{"barn", "cave",   "farm", "garden", "hall", "house", "mill",
                                              "park", "school", "shop", "tent",   "town", "wood",  "yard"};
    std::string words = story;
    for (char& c : words)
        if (c == ',' || c == '.') c = ' ';
    std::string found;
    for (const auto* list : {&names, &things, &places})
        for (const std::string& word : split(words, ' '))
            if (list->count(word) != 0) {
                found += " " + word;
                break;
            }
    return "prose" + found;
}

/// Everything in documents that may be in one part only.
struct Contents {
    std::unordered_set<std::string> seen;
    std::set<std::string> names;
    std::vector<std::string> stories;

    void add(const CorpusDocument& document) {
        if (!document.behaviour) {
            stories.push_back(document.text());
            return;
        }
        seen.insert(content_of(*document.behaviour, {document.pieces[0].text, document.pieces[1].text}));
        if (document.behaviour == Behaviour::recall)
            for (const std::string& pair : table_of(document.pieces[0].text)) names.insert(name_in(pair));
    }
};

}  // namespace

TEST_CASE("every answer is right") {
    const std::size_t items = sized(5000);
    for (const CorpusPart part : both_parts)
        for (const Behaviour behaviour : all_behaviours)
            for (std::size_t i = 0; i < items; ++i) {
                const BehaviourItem item = behaviour_item(behaviour, 3, part, i);
                if (item.answer != right_answer(behaviour, item.prompt)) {
                    INFO(name(behaviour) << " " << i << ": " << item.prompt);
                    REQUIRE(item.answer == right_answer(behaviour, item.prompt));
                }
            }
}

TEST_CASE("documents are made of right answers too") {
    for (const CorpusPart part : both_parts)
        for (std::size_t i = 0; i < sized(10000); ++i) {
            const CorpusDocument document = corpus_document(3, part, i);
            if (!document.behaviour) {
                REQUIRE(document.pieces.size() == 1);
                REQUIRE(document.pieces[0].answer);
                continue;
            }
            const std::size_t questions = document.pieces.size() / 2;
            if (document.behaviour == Behaviour::recall)
                REQUIRE(questions == std::min<std::size_t>(14, table_of(document.pieces[0].text).size()));
            else
                REQUIRE(questions == 1);
            std::string prompt;
            std::set<std::string> asked;
            for (std::size_t p = 0; p < document.pieces.size(); ++p) {
                REQUIRE(document.pieces[p].answer == (p % 2 == 1));
                if (p % 2 == 1) {
                    REQUIRE(document.pieces[p].text == right_answer(*document.behaviour, prompt));
                    asked.insert(document.pieces[p - 1].text);
                }
                prompt += document.pieces[p].text;
            }
            REQUIRE(asked.size() == document.pieces.size() / 2);  // no key twice
        }
}

TEST_CASE("operands, lengths and confidences are what the page says") {
    std::map<std::size_t, std::size_t> prompt_sizes, copied, sorted;
    std::set<int> confidences;
    std::set<std::string> beginnings;
    bool carried = false, zeros_kept = false, repeated = false;
    for (std::size_t i = 0; i < 5000; ++i) {
        const auto item = [&](Behaviour behaviour) {
            return behaviour_item(behaviour, 4, CorpusPart::training, i);
        };
        const BehaviourItem sum = item(Behaviour::addition), difference = item(Behaviour::subtraction);
        ++prompt_sizes[sum.prompt.size()];
        for (const std::string& operand : split(sum.prompt, '+')) REQUIRE(operand[0] != '0');
        carried |=
            sum.answer.size() > std::max(sum.prompt.find('+'), sum.prompt.size() - sum.prompt.find('+') - 2);
        zeros_kept |= difference.answer.ends_with("00");
        const auto copied_pieces = split(item(Behaviour::copying).answer.substr(1), ' ');
        ++copied[copied_pieces.size()];
        beginnings.insert(copied_pieces.begin(), copied_pieces.end());
        const auto sorted_names = split(item(Behaviour::sorting).answer.substr(1), ' ');
        ++sorted[sorted_names.size()];
        repeated |= std::adjacent_find(sorted_names.begin(), sorted_names.end()) != sorted_names.end();
        const int confidence = std::stoi(between(item(Behaviour::json).answer, "\"confidence\":", "}"));
        REQUIRE(confidence >= 0);
        REQUIRE(confidence <= 100);
        confidences.insert(confidence);
    }
    CHECK(carried);
    CHECK(zeros_kept);
    CHECK(repeated);
    CHECK(confidences.size() == 101);
    // 3 + 3, 3 + 4 or 4 + 3, 4 + 4 digits: 1/4, 1/2, 1/4, within five standard deviations.
    REQUIRE(prompt_sizes.size() == 3);
    CHECK(std::abs(static_cast<int>(prompt_sizes[8]) - 1250) < 155);
    CHECK(std::abs(static_cast<int>(prompt_sizes[9]) - 2500) < 180);
    CHECK(beginnings.size() == 413);
    CHECK((copied.begin()->first == 8 && copied.rbegin()->first == 24 && copied.size() == 17));
    CHECK((sorted.begin()->first == 5 && sorted.rbegin()->first == 10 && sorted.size() == 6));
}

TEST_CASE("nothing that is held out occurs in training, whatever the seed") {
    Contents training, held_out;
    for (std::size_t i = 0; i < sized(300000); ++i) training.add(corpus_document(1, CorpusPart::training, i));
    for (std::size_t i = 0; i < sized(30000); ++i) held_out.add(corpus_document(2, CorpusPart::held_out, i));
    for (std::size_t i = 0; i < sized(10000); ++i)
        for (const Behaviour behaviour : all_behaviours) {
            const BehaviourItem item = behaviour_item(behaviour, 2, CorpusPart::held_out, i);
            held_out.add({behaviour, {{item.prompt, false}, {item.answer, true}}});
        }
    CHECK(training.names.size() == 64);
    for (Contents* part : {&training, &held_out})
        for (const std::string& story : part->stories) {
            const std::string triple = triple_of(story, training.names);
            REQUIRE(std::count(triple.begin(), triple.end(), ' ') == 3);
            part->seen.insert(triple);
        }
    std::size_t common = 0;
    for (const std::string& content : held_out.seen) common += training.seen.count(content);
    CHECK(common == 0);
    if (!sampled()) {
        // The test would see it: another seed's training part repeats what few contents there are.
        Contents again;
        for (std::size_t i = 0; i < 30000; ++i) again.add(corpus_document(2, CorpusPart::training, i));
        for (const std::string& content : again.seen) common += training.seen.count(content);
        CHECK(common > 300);  // some 330 are to be expected of sums and differences of three digits alone
    }
}

TEST_CASE("tables have 16 to 24 keys, and questions reach back 400 tokens") {
    const model::Tokenizer t = embedded_tokenizer();
    std::set<std::size_t> sizes;
    std::size_t longest = 0, shortest = 1000;
    for (std::size_t i = 0; i < sized(5000); ++i) {
        const BehaviourItem item = behaviour_item(Behaviour::recall, 1, CorpusPart::held_out, i);
        const auto pairs = table_of(item.prompt);
        sizes.insert(pairs.size());
        std::set<std::string> keys;
        for (const std::string& pair : pairs) keys.insert(name_in(pair));
        REQUIRE(keys.size() == pairs.size());
        const auto asked = std::find_if(pairs.begin(), pairs.end(), [&](const std::string& pair) {
            return item.prompt.ends_with(" " + name_in(pair));
        });
        REQUIRE(asked != pairs.end());
        const std::size_t at = item.prompt.find(" " + *asked);
        const std::size_t distance = t.encode(item.prompt.substr(at), false).size();
        longest = std::max(longest, distance);
        shortest = std::min(shortest, distance);
    }
    CHECK(sizes.size() == 9);
    CHECK(*sizes.begin() == 16);
    CHECK(*sizes.rbegin() == 24);
    CHECK((sampled() || longest >= 400));
    CHECK(shortest <= 10);
}
