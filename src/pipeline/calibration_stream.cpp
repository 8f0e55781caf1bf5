// Definitions of calibration_stream.hpp.
#include "src/pipeline/calibration_stream.hpp"

#include <algorithm>
#include <utility>

#include "fewbit/core/text.hpp"

namespace fewbit::inline v0::pipeline {

Result<CalibrationStream> CalibrationStream::create(std::span<const std::size_t> tokens, std::size_t dim,
                                                    std::size_t budget_bytes,
                                                    const std::filesystem::path& folder) {
    CalibrationStream stream(dim);
    const std::size_t budget = budget_bytes / sizeof(float);
    std::size_t kept = 0;
    std::uint64_t spilled = 0;
    for (const std::size_t count : tokens) {
        const std::size_t numbers = count * dim;
        // Once one is in the file all later ones are: a scan of the windows then reads it from front to end.
        if (spilled == 0 && numbers <= budget - kept) {
            stream.places_.push_back({count, kept, false});
            kept += numbers;
        } else {
            stream.places_.push_back({count, spilled, true});
            spilled += numbers;
        }
    }
    auto memory = Buffer<float>::zeros(kept, "calibration windows");
    if (!memory) return Unexpected{std::move(memory).error()};
    stream.memory_ = *std::move(memory);
    if (spilled != 0) {
        auto file = io::ScratchFile::create(folder);
        if (!file) return Unexpected{std::move(file).error()};
        stream.file_.emplace(*std::move(file));
    }
    return stream;
}

Result<Matrix> CalibrationStream::load(std::size_t window) const {
    const Place& place = places_[window];
    Matrix x(place.tokens, dim_);
    if (!place.spilled) {
        std::copy_n(memory_.data() + place.first, x.values().size(), x.values().data());
        return x;
    }
    auto done = file_->read(place.first * sizeof(float), std::as_writable_bytes(x.values()));
    if (!done) return Unexpected{done.error().within(text("calibration window ", window))};
    return x;
}

Result<void> CalibrationStream::store(std::size_t window, const Matrix& x) {
    const Place& place = places_[window];
    if (!place.spilled) {
        std::copy_n(x.values().data(), x.values().size(), memory_.data() + place.first);
        return {};
    }
    auto done = file_->write(place.first * sizeof(float), std::as_bytes(x.values()));
    if (!done) return Unexpected{done.error().within(text("calibration window ", window))};
    return {};
}

}  // namespace fewbit::inline v0::pipeline
