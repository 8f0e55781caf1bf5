// Models in several safetensors files: {"metadata":{...},"weight_map":{tensor:file, ...}}.
#include <algorithm>
#include <set>
#include <utility>

#include "fewbit/core/text.hpp"
#include "fewbit/io/mapped_file.hpp"
#include "fewbit/io/safetensors.hpp"
#include "src/io/file_text.hpp"
#include "src/io/json_events.hpp"

namespace fewbit::inline v0::io {
namespace {

using detail::in_quotes;

constexpr std::size_t max_depth = 8;
constexpr std::string_view map_key = "weight_map";

/// Takes the strings of "weight_map"; everything else is passed over.
class IndexEvents final : public detail::JsonEvents {
public:
    std::map<std::string, std::string> files;  ///< by tensor
    bool has_map = false;

    Complaint object_begins() override {
        ++depth_;
        if (depth_ == 2 && key_ == map_key) has_map = in_map_ = true;
        return in_map_ && depth_ > 2 ? not_a_name() : Complaint();
    }
    Complaint object_ends() override {
        if (--depth_ == 1) in_map_ = false;
        return {};
    }
    Complaint array_begins() override {
        if (depth_ == 0) return "it is an array, not an object";
        ++depth_;
        return in_map_ ? not_a_name() : Complaint();
    }
    Complaint array_ends() override {
        --depth_;
        return {};
    }
    Complaint key(std::string_view key) override {
        if (depth_ == 1 || in_map_) key_ = key;
        return {};
    }
    Complaint scalar(const detail::JsonScalar& value) override {
        if (depth_ == 0) return "it is not an object";
        if (depth_ == 1 && key_ == map_key) return text("'", map_key, "' is not an object");
        if (!in_map_) return {};
        if (value.kind != detail::JsonScalar::Kind::string) return not_a_name();
        files.emplace(key_, value.text);
        return {};
    }

private:
    [[nodiscard]] Complaint not_a_name() const {
        return text("'", map_key, "' gives ", in_quotes(key_), " something that is no file name");
    }

    std::size_t depth_ = 0;
    bool in_map_ = false;
    std::string key_;
};

/// A name that stays in the index's folder.
bool is_plain(std::string_view name) noexcept {
    return !name.empty() && name != "." && name != ".." &&
           name.find_first_of(std::string_view("/\\:\0", 4)) == std::string_view::npos;
}

Result<std::map<std::string, std::string>> read_index(std::string_view json) {
    if (json.size() > max_safetensors_header_bytes)
        return fail(ErrorKind::bad_input, "it has ", json.size(), " bytes; at most ",
                    max_safetensors_header_bytes, " are read");
    IndexEvents events;
    if (auto parsed = detail::parse_json(json, max_depth, events); !parsed)
        return Unexpected{std::move(parsed).error()};
    if (!events.has_map) return fail(ErrorKind::bad_input, "it has no '", map_key, "'");
    if (events.files.empty()) return fail(ErrorKind::bad_input, "its '", map_key, "' is empty");
    for (const auto& [tensor, file] : events.files)
        if (!is_plain(file))
            return fail(ErrorKind::bad_input, "tensor ", in_quotes(tensor), " is said to be in ",
                        in_quotes(file), ", which is no name of a file in the same folder");
    return std::move(events.files);
}

}  // namespace

/// Joins one file. What the index says of it must be what it holds.
Result<void> SafetensorsFile::add_part(SafetensorsFile&& file,
                                       const std::map<std::string, std::string>& weight_map,
                                       const std::string& name) {
    for (auto& [tensor, entry] : file.entries_) {
        const auto said = weight_map.find(tensor);
        if (said == weight_map.end() || said->second != name)
            return fail(ErrorKind::bad_input, in_quotes(name), " holds tensor ", in_quotes(tensor),
                        said == weight_map.end()
                            ? ", which the index does not name"
                            : text(", which the index has in ", in_quotes(said->second)));
        entry.part = parts_.size();
        entries_.emplace(tensor, std::move(entry));
    }
    if (parts_.empty()) metadata_ = std::move(file.metadata_);
    parts_.push_back(std::move(file.parts_.front()));
    return {};
}

Result<SafetensorsFile> open_safetensors_index(const std::filesystem::path& path) {
    return detail::without_exceptions([&]() -> Result<SafetensorsFile> {
        const auto wrong = [&](const Error& error) {
            return Unexpected{error.within(text("'", path_text(path), "'"))};
        };
        auto index = MappedFile::open(path);
        if (!index) return Unexpected{std::move(index).error()};
        const auto bytes = (*index)->bytes();
        auto files = read_index({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
        if (!files) return wrong(files.error());
        std::set<std::string> names;
        for (const auto& [tensor, file] : *files) names.insert(file);
        SafetensorsFile all;
        all.source_ = path_text(path);
        for (const std::string& name : names) {
            const std::u8string utf8(reinterpret_cast<const char8_t*>(name.data()), name.size());
            auto file = open_safetensors(path.parent_path() / std::filesystem::path(utf8));
            if (!file) return Unexpected{std::move(file).error()};
            if (auto added = all.add_part(*std::move(file), *files, name); !added)
                return wrong(added.error());
        }
        for (const auto& [tensor, file] : *files)
            if (all.find(tensor) == nullptr)
                return fail(ErrorKind::bad_input, "'", all.source_, "': tensor ", in_quotes(tensor),
                            " is not in ", in_quotes(file), ", as the index says");
        return all;
    });
}

}  // namespace fewbit::inline v0::io
