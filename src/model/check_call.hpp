// What every model asks of a shape, and of each call.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>

#include "fewbit/core/checked.hpp"
#include "fewbit/core/tensor.hpp"
#include "fewbit/core/text.hpp"
#include "fewbit/io/model_file.hpp"

namespace fewbit::inline v0::model {

[[nodiscard]] inline Result<void> check_shape(const io::ModelShape& s) {
    const auto bad = [](const auto&... why) {
        return fail(ErrorKind::bad_input, "the model's shape cannot be right: ", why...);
    };
    if (s.dim == 0 || s.hidden == 0 || s.heads == 0 || s.kv_heads == 0 || s.head_dim == 0 ||
        s.vocabulary == 0 || s.context == 0)
        return bad("dim ", s.dim, ", hidden ", s.hidden, ", heads ", s.heads, ", kv_heads ", s.kv_heads,
                   ", head_dim ", s.head_dim, ", vocabulary ", s.vocabulary, ", context ", s.context);
    if (s.heads % s.kv_heads != 0)
        return bad(s.kv_heads, " key-value heads do not divide ", s.heads, " query heads");
    if (s.head_dim % 2 != 0) return bad("heads of ", s.head_dim, " elements cannot be rotated in pairs");
    if (!checked_product({s.heads, s.head_dim}))
        return bad(s.heads, " heads of ", s.head_dim, " elements overflow");
    if (s.vocabulary > INT32_MAX) return bad("a vocabulary of ", s.vocabulary, " is beyond 32-bit token ids");
    if (!(std::isfinite(s.rope_base) && s.rope_base > 0)) return bad("rotary base ", s.rope_base);
    if (!(std::isfinite(s.norm_epsilon) && s.norm_epsilon >= 0)) return bad("norm epsilon ", s.norm_epsilon);
    return {};
}

/// Of Transformer::forward, behind `length` of `capacity` positions.
[[nodiscard]] inline Result<void> check_call(const io::ModelShape& shape, std::span<const int> tokens,
                                             std::size_t length, std::size_t capacity,
                                             MatrixView<float> logits) {
    if (tokens.empty()) return fail(ErrorKind::bad_input, "there are no tokens to evaluate");
    for (std::size_t i = 0; i < tokens.size(); ++i)
        if (tokens[i] < 0 || static_cast<std::size_t>(tokens[i]) >= shape.vocabulary)
            return fail(ErrorKind::bad_input, "token ", i, " is ", tokens[i], ", outside the vocabulary of ",
                        shape.vocabulary);
    if (tokens.size() > capacity - length)
        return fail(ErrorKind::bad_input, tokens.size(), " tokens after ", length, " do not fit into ",
                    capacity, " positions (the model's context is ", shape.context, ")");
    if (logits.rows != 0 &&
        (logits.cols != shape.vocabulary || (logits.rows != 1 && logits.rows != tokens.size())))
        return fail(ErrorKind::bad_input, "logits of ", logits.rows, " x ", logits.cols, " do not fit ",
                    tokens.size(), " tokens: they are (all tokens, or the last one) x vocabulary of ",
                    shape.vocabulary);
    return {};
}

}  // namespace fewbit::inline v0::model
