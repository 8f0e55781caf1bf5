// Definitions of statistics.hpp: the saved form.
#pragma once

#include <cmath>
#include <cstring>
#include <limits>
#include <span>
#include <utility>

#include "fewbit/calibrate/statistics_impl.hpp"

namespace fewbit::inline v0 {
namespace detail {

inline constexpr std::string_view statistics_version_key = "fewbit.statistics/version";
inline constexpr std::int64_t statistics_version = 1;

template <class T>
inline constexpr Scalar scalar_of = std::is_same_v<T, float>    ? Scalar::f32
                                    : std::is_same_v<T, double> ? Scalar::f64
                                                                : Scalar::i64;

template <class T>
[[nodiscard]] Result<Tensor> tensor_of(std::span<const T> values) {
    auto tensor = Tensor::allocate(scalar_of<T>, {values.size()});
    if (tensor && !values.empty())
        std::memcpy(tensor->mutable_bytes().data(), values.data(), values.size_bytes());
    return tensor;
}

/// The elements of a tensor that must have `expected` of them in one dimension (npos: any number).
template <class T>
[[nodiscard]] Result<std::vector<T>> elements_of(const std::string& key, const Tensor& tensor,
                                                 std::size_t expected) {
    if (tensor.type() != scalar_of<T> || tensor.shape().size() != 1 ||
        (expected != std::string::npos && tensor.shape()[0] != expected))
        return fail(ErrorKind::bad_input, "'", key, "' is ", name(tensor.type()), " ",
                    shape_text(tensor.shape()), ", not ", name(scalar_of<T>), " (",
                    expected == std::string::npos ? "K" : text(expected), ")");
    std::vector<T> values(tensor.elements());
    if (!values.empty())
        std::memcpy(values.data(), tensor.bytes().data(), tensor.size_bytes());  // may be unaligned
    for (std::size_t i = 0; i < values.size(); ++i)
        if (!std::isfinite(static_cast<double>(values[i])))
            return fail(ErrorKind::bad_input, "'", key, "' holds ", values[i], " at ", i);
    return values;
}

[[nodiscard]] inline Result<void> check_nonnegative(const std::string& key, std::span<const double> values) {
    for (std::size_t i = 0; i < values.size(); ++i)
        if (values[i] < 0)
            return fail(ErrorKind::bad_input, "'", key, "' holds a negative sum, ", values[i], ", at ", i);
    return {};
}

/// A saved (k, k): as it lies in a mapped file, which may be larger than memory, where it is aligned there; else a copy.
/// `is_gram`: no negative number on the diagonal.
[[nodiscard]] inline Result<Tensor> read_square(const std::string& key, const Tensor& saved, std::size_t k,
                                                bool is_gram) {
    if (saved.type() != Scalar::f64 || saved.shape() != Tensor::Shape{k, k})
        return fail(ErrorKind::bad_input, "'", key, "' is ", name(saved.type()), " ",
                    shape_text(saved.shape()), ", not f64 (", k, ", ", k, ")");
    Tensor square = saved;
    const bool mapped = square.mutable_bytes().empty();
    if (!mapped || reinterpret_cast<std::uintptr_t>(saved.bytes().data()) % alignof(double) != 0) {
        auto copy = Tensor::allocate(Scalar::f64, {k, k});
        if (!copy) return copy;
        if (copy->size_bytes() != 0)
            std::memcpy(copy->mutable_bytes().data(), saved.bytes().data(), saved.size_bytes());
        square = *std::move(copy);
    }
    const auto values = std::as_const(square).as<double>();
    for (std::size_t i = 0; i < values.size(); ++i)
        if (!std::isfinite(values[i]) || (is_gram && i % (k + 1) == 0 && values[i] < 0))
            return fail(ErrorKind::bad_input, "'", key, "' holds ", values[i], " at [", i / k, ", ", i % k,
                        "]");
    return square;
}

/// Reads the entries of one tensor; `find(field)` gives a saved entry or null.
template <class Find>
[[nodiscard]] Result<TensorStatistics> read_statistics(const std::string& prefix, Find&& find) {
    TensorStatistics out;
    const auto read = [&]<class T>(const char* field, std::size_t expected,
                                   std::vector<T>& values) -> Result<void> {
        const Tensor* tensor = find(field);
        if (tensor == nullptr) return fail(ErrorKind::bad_input, "'", prefix, "/", field, "' is missing");
        auto elements = elements_of<T>(text(prefix, "/", field), *tensor, expected);
        if (!elements) return Unexpected{std::move(elements).error()};
        values = *std::move(elements);
        return {};
    };
    std::vector<std::int64_t> tokens;
    std::vector<float> low, high;
    if (auto ok = read("tokens", 1, tokens); !ok) return Unexpected{std::move(ok).error()};
    if (tokens[0] < 1) return fail(ErrorKind::bad_input, "'", prefix, "/tokens' is ", tokens[0]);
    out.tokens = static_cast<std::uint64_t>(tokens[0]);
    if (auto ok = read("sum_abs", std::string::npos, out.sum_abs); !ok)
        return Unexpected{std::move(ok).error()};
    const std::size_t k = out.channels();
    if (auto ok = read("sum_square", k, out.sum_square); !ok) return Unexpected{std::move(ok).error()};
    if (auto ok = read("channel_min", k, low); !ok) return Unexpected{std::move(ok).error()};
    if (auto ok = read("channel_max", k, high); !ok) return Unexpected{std::move(ok).error()};
    if (auto ok = check_nonnegative(prefix + "/sum_abs", out.sum_abs); !ok)
        return Unexpected{std::move(ok).error()};
    if (auto ok = check_nonnegative(prefix + "/sum_square", out.sum_square); !ok)
        return Unexpected{std::move(ok).error()};
    for (std::size_t c = 0; c < k; ++c) {
        if (low[c] > high[c])
            return fail(ErrorKind::bad_input, "'", prefix, "': channel ", c, " has min ", low[c],
                        " above max ", high[c]);
        out.channel_ranges.push_back({low[c], high[c]});
    }
    for (const SquareSum& sum : square_sums)
        if (const Tensor* saved = find(sum.name); saved != nullptr) {
            auto square = read_square(text(prefix, "/", sum.name), *saved, k, sum.is_gram);
            if (!square) return Unexpected{std::move(square).error()};
            out.*sum.member = *std::move(square);
        }
    if (out.asymmetry_sum.elements() != 0 && out.hessian_sum.elements() == 0)
        return fail(ErrorKind::bad_input, "'", prefix, "/asymmetry_sum' is there without a hessian_sum");
    if (find("channel_scales") == nullptr) return out;
    if (auto ok = read("channel_scales", k, out.channel_scales); !ok)
        return Unexpected{std::move(ok).error()};
    for (std::size_t c = 0; c < k; ++c)
        if (!(out.channel_scales[c] > 0))
            return fail(ErrorKind::bad_input, "'", prefix, "/channel_scales' holds ", out.channel_scales[c],
                        " at ", c);
    return out;
}

/// Splits "model.0.wq/range/minmax" into "model.0.wq" and "range/minmax"; fields are known, tensor names are
/// not.
[[nodiscard]] inline bool split_key(std::string_view key, std::string& tensor, std::string& field) {
    const auto last = key.rfind('/');
    if (last == std::string_view::npos || last == 0) return false;
    const auto before = key.substr(0, last);
    if (before.ends_with("/range")) {
        tensor = before.substr(0, before.size() - 6);
        field = key.substr(tensor.size() + 1);
        return !tensor.empty() && field.size() > 6;
    }
    tensor = before;
    field = key.substr(last + 1);
    for (const char* known : {"tokens", "channel_min", "channel_max", "sum_abs", "sum_square", "hessian_sum",
                              "asymmetry_sum", "channel_scales"})
        if (field == known) return true;
    return false;
}

}  // namespace detail

FEWBIT_INLINE Result<std::map<std::string, Tensor>> to_tensors(const Statistics& statistics) {
    std::map<std::string, Tensor> out;
    Result<void> status;
    const auto put = [&]<class T>(const std::string& key, std::span<const T> values) {
        auto tensor = detail::tensor_of(values);
        if (!tensor)
            status = Unexpected{std::move(tensor).error()};
        else
            out[key] = *std::move(tensor);
    };
    put(std::string(detail::statistics_version_key),
        std::span<const std::int64_t>{&detail::statistics_version, 1});
    for (const auto& entry : statistics.tensors) {
        const std::string& tensor = entry.first;
        const TensorStatistics& one = entry.second;
        const std::size_t k = one.channels();
        if (one.sum_square.size() != k || one.channel_ranges.size() != k ||
            (!one.channel_scales.empty() && one.channel_scales.size() != k) ||
            std::any_of(std::begin(detail::square_sums), std::end(detail::square_sums), [&](const auto& sum) {
                const Tensor& square = one.*sum.member;
                return square.elements() != 0 && square.shape() != Tensor::Shape{k, k};
            }))
            return fail(ErrorKind::bad_input, detail::statistics_of(tensor),
                        "its parts disagree about the number of channels (", k, ")");
        const auto tokens = static_cast<std::int64_t>(one.tokens);
        std::vector<float> low, high;
        for (const Range& range : one.channel_ranges) low.push_back(range.min), high.push_back(range.max);
        put(tensor + "/tokens", std::span<const std::int64_t>{&tokens, 1});
        put(tensor + "/channel_min", std::span<const float>(low));
        put(tensor + "/channel_max", std::span<const float>(high));
        put(tensor + "/sum_abs", std::span<const double>(one.sum_abs));
        put(tensor + "/sum_square", std::span<const double>(one.sum_square));
        for (const detail::SquareSum& sum : detail::square_sums)
            if ((one.*sum.member).elements() != 0) out[text(tensor, "/", sum.name)] = one.*sum.member;
        if (!one.channel_scales.empty())
            put(tensor + "/channel_scales", std::span<const float>(one.channel_scales));
        for (const auto& [observer, range] : one.ranges) {
            const float ends[] = {range.min, range.max};
            put(text(tensor, "/range/", observer), std::span<const float>(ends));
        }
    }
    if (!status) return Unexpected{std::move(status).error()};
    return out;
}

FEWBIT_INLINE Result<Statistics> from_tensors(const std::map<std::string, Tensor>& tensors) {
    const std::string version_key(detail::statistics_version_key);
    const auto version = tensors.find(version_key);
    if (version == tensors.end())
        return fail(ErrorKind::bad_input, "'", version_key, "' is missing: these are not fewbit statistics");
    const auto number = detail::elements_of<std::int64_t>(version_key, version->second, 1);
    if (!number) return Unexpected{number.error()};
    if ((*number)[0] != detail::statistics_version)
        return fail(ErrorKind::unsupported, "statistics of version ", (*number)[0],
                    "; this library reads version ", detail::statistics_version);

    std::map<std::string, std::map<std::string, const Tensor*>> fields;
    for (const auto& [key, value] : tensors) {
        if (key == version_key) continue;
        std::string tensor, field;
        if (!detail::split_key(key, tensor, field))
            return fail(ErrorKind::bad_input, "'", key, "' is not an entry of fewbit statistics");
        fields[tensor][field] = &value;
    }
    Statistics out;
    for (const auto& [tensor, entries] : fields) {
        auto one = detail::read_statistics(tensor, [&entries = entries](const std::string& field) {
            const auto found = entries.find(field);
            return found == entries.end() ? nullptr : found->second;
        });
        if (!one) return Unexpected{std::move(one).error()};
        for (const auto& [field, value] : entries) {
            if (!field.starts_with("range/")) continue;
            const std::string key = text(tensor, "/", field);
            const auto ends = detail::elements_of<float>(key, *value, 2);
            if (!ends) return Unexpected{ends.error()};
            if ((*ends)[0] > (*ends)[1])
                return fail(ErrorKind::bad_input, "'", key, "' has min ", (*ends)[0], " above max ",
                            (*ends)[1]);
            one->ranges[field.substr(6)] = {(*ends)[0], (*ends)[1]};
        }
        out.tensors[tensor] = *std::move(one);
    }
    return out;
}

}  // namespace fewbit::inline v0
