// A JSON document as a stream of events, so that whoever reads it decides what may come next and nothing is
// built that was not asked for. What every reader wants is checked here: depth, duplicate keys, no NUL, no
// control bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "fewbit/core/result.hpp"

namespace fewbit::inline v0::io::detail {

struct JsonScalar {
    /// `integer` is a plain non-negative integer below 2^64; every other number (-1, 1.0, 1e3, 2^64) is
    /// `number`.
    enum class Kind { null, boolean, integer, number, string };

    Kind kind = Kind::null;
    std::string_view text;  ///< a string's content, or a number as it was written
    std::uint64_t integer = 0;
    double number = 0.0;  ///< integers too
    bool boolean = false;
};

/// Each event returns what is wrong with it as a sentence, which ends the parse; empty to go on.
class JsonEvents {
public:
    using Complaint = std::string;

    virtual ~JsonEvents() = default;
    [[nodiscard]] virtual Complaint object_begins() = 0;
    [[nodiscard]] virtual Complaint object_ends() = 0;
    [[nodiscard]] virtual Complaint array_begins() = 0;
    [[nodiscard]] virtual Complaint array_ends() = 0;
    [[nodiscard]] virtual Complaint key(std::string_view key) = 0;
    [[nodiscard]] virtual Complaint scalar(const JsonScalar& value) = 0;
};

/// Parses all of `json`, one value with white space around it. `max_depth` counts open objects and arrays.
/// Error: a sentence without the file's name (use Error::within).
[[nodiscard]] Result<void> parse_json(std::string_view json, std::size_t max_depth, JsonEvents& events);

}  // namespace fewbit::inline v0::io::detail
