#include "src/io/safetensors_header.hpp"

#include <utility>

#include "fewbit/core/checked.hpp"
#include "fewbit/core/text.hpp"
#include "src/io/file_text.hpp"
#include "src/io/safetensors_layout.hpp"

namespace fewbit::inline v0::io::detail {

std::string SafetensorsHeader::tensor_text() const { return "tensor " + in_quotes(name_); }

JsonEvents::Complaint SafetensorsHeader::object_begins() {
    switch (place_) {
        case Place::outside: place_ = Place::file; return {};
        case Place::file:
            if (name_ == metadata_key) {
                place_ = Place::metadata;
                return {};
            }
            place_ = Place::tensor;
            field_.clear();
            type_.clear();
            shape_.clear();
            offsets_.clear();
            has_type_ = has_shape_ = has_offsets_ = false;
            return {};
        case Place::metadata: return text("the metadata ", in_quotes(field_), " is an object, not a string");
        default: return text(tensor_text(), ": '", field_, "' holds an object");
    }
}

JsonEvents::Complaint SafetensorsHeader::object_ends() {
    if (place_ == Place::tensor) return tensor_ends();
    place_ = place_ == Place::metadata ? Place::file : Place::outside;
    return {};
}

JsonEvents::Complaint SafetensorsHeader::tensor_ends() {
    place_ = Place::file;
    if (!has_type_ || !has_shape_ || !has_offsets_)
        return text(tensor_text(), " lacks its '",
                    !has_type_    ? "dtype"
                    : !has_shape_ ? "shape"
                                  : "data_offsets",
                    "'");
    const auto type = parse_safetensors_type(type_);
    if (!type) return text(tensor_text(), ": the dtype ", in_quotes(type_), " is not known");
    if (offsets_.size() != 2)
        return text(tensor_text(), ": 'data_offsets' holds ", offsets_.size(), " numbers, not 2");
    if (offsets_[0] > offsets_[1])
        return text(tensor_text(), ": its data begins at ", offsets_[0], ", after its end at ", offsets_[1]);
    SafetensorsEntry entry;
    entry.type = *type;
    entry.shape = std::exchange(shape_, {});
    entry.offset_bytes = offsets_[0];
    entry.size_bytes = offsets_[1] - offsets_[0];
    entries.emplace(name_, std::move(entry));  // the parser has refused duplicate keys
    return {};
}

JsonEvents::Complaint SafetensorsHeader::array_begins() {
    if (place_ == Place::tensor && field_ == "shape") {
        has_shape_ = true;
        place_ = Place::shape;
        return {};
    }
    if (place_ == Place::tensor && field_ == "data_offsets") {
        has_offsets_ = true;
        place_ = Place::offsets;
        return {};
    }
    switch (place_) {
        case Place::outside: return "the header is an array, not an object";
        case Place::file: return text(tensor_text(), " is an array, not an object");
        case Place::metadata: return text("the metadata ", in_quotes(field_), " is an array, not a string");
        default: return text(tensor_text(), ": '", field_, "' holds an array where none belongs");
    }
}

JsonEvents::Complaint SafetensorsHeader::array_ends() {
    place_ = Place::tensor;
    return {};
}

JsonEvents::Complaint SafetensorsHeader::key(std::string_view key) {
    if (place_ == Place::file) {
        if (key.size() > max_tensor_name_bytes)
            return text("tensor ", in_quotes(key), " has a name of ", key.size(), " bytes");
        if (key.find('\0') != std::string_view::npos)
            return text("tensor ", in_quotes(key), " has a NUL in its name");
        name_ = key;
        return {};
    }
    field_ = key;
    if (place_ == Place::tensor && key != "dtype" && key != "shape" && key != "data_offsets")
        return text(tensor_text(), " has the unknown field ", in_quotes(key));
    return {};
}

JsonEvents::Complaint SafetensorsHeader::scalar(const JsonScalar& value) {
    switch (place_) {
        case Place::outside: return "the header is not an object";
        case Place::file: return text(tensor_text(), " is not an object");
        case Place::metadata:
            if (value.kind != JsonScalar::Kind::string)
                return text("the metadata ", in_quotes(field_), " is not a string");
            metadata.emplace(field_, value.text);
            return {};
        case Place::tensor:
            if (field_ != "dtype") return text(tensor_text(), ": '", field_, "' is not an array");
            if (value.kind != JsonScalar::Kind::string)
                return text(tensor_text(), ": 'dtype' is not a string");
            type_ = value.text;
            has_type_ = true;
            return {};
        case Place::shape:
        case Place::offsets: return number(value);
    }
    return {};
}

JsonEvents::Complaint SafetensorsHeader::number(const JsonScalar& value) {
    if (value.kind == JsonScalar::Kind::number)
        return text(tensor_text(), ": '", field_, "' holds ", in_quotes(value.text),
                    ", not a plain non-negative integer below 2^64");
    if (value.kind != JsonScalar::Kind::integer)
        return text(tensor_text(), ": '", field_, "' holds something that is not a number");
    const auto fitting = checked_cast<std::size_t>(value.integer);
    if (!fitting)
        return text(tensor_text(), ": ", value.integer, " in '", field_,
                    "' is more than this system can address");
    Tensor::Shape& numbers = place_ == Place::shape ? shape_ : offsets_;
    const std::size_t most = place_ == Place::shape ? max_safetensors_dimensions : 2;
    if (numbers.size() == most)
        return text(tensor_text(), ": '", field_, "' holds more than ", most, " numbers");
    numbers.push_back(*fitting);
    return {};
}

}  // namespace fewbit::inline v0::io::detail
