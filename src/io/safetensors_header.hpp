// The JSON header of a safetensors file, read into entries: syntax and vocabulary are checked here, sizes
// against the file by the reader.
#pragma once

#include <cstdint>
#include <string>

#include "fewbit/io/safetensors.hpp"
#include "src/io/json_events.hpp"

namespace fewbit::inline v0::io::detail {

/// Deepest nesting of a valid header: the file, a tensor, its shape.
inline constexpr std::size_t safetensors_depth = 3;

class SafetensorsHeader final : public JsonEvents {
public:
    SafetensorsFile::Entries entries;  ///< offset and size as declared
    Metadata metadata;

    Complaint object_begins() override;
    Complaint object_ends() override;
    Complaint array_begins() override;
    Complaint array_ends() override;
    Complaint key(std::string_view key) override;
    Complaint scalar(const JsonScalar& value) override;

private:
    enum class Place { outside, file, metadata, tensor, shape, offsets };

    Complaint tensor_ends();
    Complaint number(const JsonScalar& value);
    [[nodiscard]] std::string tensor_text() const;

    Place place_ = Place::outside;
    std::string name_;   // the tensor or __metadata__ that is open
    std::string field_;  // the key inside it
    std::string type_;
    Tensor::Shape shape_;
    Tensor::Shape offsets_;
    bool has_type_ = false, has_shape_ = false, has_offsets_ = false;
};

}  // namespace fewbit::inline v0::io::detail
