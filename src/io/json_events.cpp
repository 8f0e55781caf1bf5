#include "src/io/json_events.hpp"

#include <nlohmann/json.hpp>

#include <set>
#include <utility>
#include <vector>

#include "fewbit/core/text.hpp"
#include "src/io/file_text.hpp"

namespace fewbit::inline v0::io::detail {
namespace {

/// What nlohmann::json::sax_parse calls. Returning false ends the parse; it throws nothing by itself.
class Adapter {
public:
    using json = nlohmann::json;

    Adapter(std::size_t max_depth, JsonEvents& events) : max_depth_(max_depth), events_(events) {}

    [[nodiscard]] std::string take_complaint() { return std::move(complaint_); }

    bool null() { return scalar({}); }
    bool boolean(bool value) {
        JsonScalar out;
        out.kind = JsonScalar::Kind::boolean;
        out.boolean = value;
        return scalar(out);
    }
    bool number_unsigned(json::number_unsigned_t value) {
        const std::string spelled = text(value);
        JsonScalar out;
        out.kind = JsonScalar::Kind::integer;
        out.text = spelled;
        out.integer = value;
        out.number = static_cast<double>(value);
        return scalar(out);
    }
    bool number_integer(json::number_integer_t value) {  // it had a minus sign
        return other_number(static_cast<double>(value), value == 0 ? "-0" : text(value));
    }
    bool number_float(json::number_float_t value, const json::string_t& spelled) {
        return other_number(value, spelled);
    }
    bool string(json::string_t& value) {
        JsonScalar out;
        out.kind = JsonScalar::Kind::string;
        out.text = value;
        return scalar(out);
    }
    bool binary(json::binary_t&) { return refuse("it holds binary data"); }  // not in JSON text
    bool start_object(std::size_t) { return descend() && accept(events_.object_begins()); }
    bool end_object() {
        keys_.pop_back();
        return accept(events_.object_ends());
    }
    bool start_array(std::size_t) { return descend() && accept(events_.array_begins()); }
    bool end_array() {
        keys_.pop_back();
        return accept(events_.array_ends());
    }
    bool key(json::string_t& key) {
        if (!keys_.back().insert(key).second)
            return refuse(text("the key ", in_quotes(key), " stands twice in one object"));
        return accept(events_.key(key));
    }
    template <class Problem>
    bool parse_error(std::size_t position, const std::string&, const Problem&) {
        return refuse(text("not valid JSON at byte ", position));
    }

private:
    bool other_number(double value, std::string_view spelled) {
        JsonScalar out;
        out.kind = JsonScalar::Kind::number;
        out.text = spelled;
        out.number = value;
        return scalar(out);
    }
    bool scalar(const JsonScalar& value) { return accept(events_.scalar(value)); }
    bool descend() {
        if (keys_.size() >= max_depth_)
            return refuse(text("more than ", max_depth_, " objects and arrays inside each other"));
        keys_.emplace_back();
        return true;
    }
    bool accept(std::string complaint) { return complaint.empty() || refuse(std::move(complaint)); }
    bool refuse(std::string complaint) {
        complaint_ = std::move(complaint);
        return false;
    }

    std::size_t max_depth_;
    JsonEvents& events_;
    std::string complaint_;
    std::vector<std::set<std::string>> keys_;  // of every open object; empty sets stand for arrays
};

}  // namespace

Result<void> parse_json(std::string_view json, std::size_t max_depth, JsonEvents& events) {
    // The parser takes a NUL for the end of its input: what follows would be invisible here and visible
    // elsewhere.
    for (std::size_t i = 0; i < json.size(); ++i) {
        const auto byte = static_cast<unsigned char>(json[i]);
        if (byte < 0x20 && byte != '\t' && byte != '\n' && byte != '\r')
            return fail(ErrorKind::bad_input, "not valid JSON: a control character (",
                        static_cast<unsigned>(byte), ") at byte ", i);
    }
    Adapter adapter(max_depth, events);
    if (!nlohmann::json::sax_parse(json.data(), json.data() + json.size(), &adapter))
        return unexpected(ErrorKind::bad_input, adapter.take_complaint());
    return {};
}

}  // namespace fewbit::inline v0::io::detail
