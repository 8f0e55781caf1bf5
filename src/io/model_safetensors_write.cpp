#include <utility>

#include "fewbit/core/text.hpp"
#include "fewbit/io/mapped_file.hpp"
#include "fewbit/io/model_safetensors.hpp"
#include "src/io/file_text.hpp"
#include "src/io/model_metadata.hpp"
#include "src/io/model_rules.hpp"
#include "src/io/tensor_plan.hpp"

namespace fewbit::inline v0::io {
namespace {

using detail::in_quotes;
using detail::RowOrder;
using Plan = detail::TensorPlan;

Result<void> plan_weights(Plan& plan, const std::string& name, const QuantizedMatrix& w,
                          const RowOrder& order, Metadata& metadata) {
    if (w.format().is_float()) return plan.add_float_matrix(name + ".weight", w, order);
    metadata[text(detail::format_prefix, name)] = fewbit::name(w.format());
    metadata[text(detail::k_prefix, name)] = text(w.k());
    if (w.format().is_block()) return plan.add(name + ".weight.blocks", w.blocks, order);
    const RowOrder parameter_order =
        w.format().granularity == Granularity::tensor || w.scale_rows() == 0 ? RowOrder{} : order;
    if (auto done = plan.add(name + ".weight.codes", w.codes.bytes(), order); !done) return done;
    if (auto done = plan.add(name + ".weight.scales", w.scales, parameter_order); !done) return done;
    if (w.format().double_quantized())
        if (auto done = plan.add(name + ".weight.row_scales", w.row_scales, parameter_order); !done)
            return done;
    if (w.format().offset == Offset::integer)
        return plan.add(name + ".weight.zeros", w.zeros.bytes(), parameter_order);
    if (w.format().offset == Offset::real)
        return plan.add(name + ".weight.offsets", w.offsets, parameter_order);
    return {};
}

Result<void> plan_linear(Plan& plan, const std::string& name, const Linear& linear, const ModelShape& shape,
                         Metadata& metadata) {
    auto order = detail::rotary_row_order(shape, name, linear.n());
    if (!order) return Unexpected{std::move(order).error()};
    if (auto done = plan_weights(plan, name, linear.weights, *order, metadata); !done) return done;
    if (!linear.bias.empty())
        if (auto done = plan.add(name + ".bias", SafetensorsType::f32, linear.bias, *order); !done)
            return done;
    if (linear.transform.hadamard != 0)
        if (auto done = plan.add(name + ".hadamard", SafetensorsType::u32, {1},
                                 std::as_bytes(std::span(&linear.transform.hadamard, 1)));
            !done)
            return done;
    if (!linear.transform.channel_scales.empty())
        if (auto done =
                plan.add(name + ".channel_scales", SafetensorsType::f32, linear.transform.channel_scales);
            !done)
            return done;
    if (!linear.transform.permutation.empty())
        if (auto done = plan.add(name + ".permutation", SafetensorsType::u32, linear.transform.permutation);
            !done)
            return done;
    if (linear.columns.empty()) return {};
    if (auto done = plan.add(name + ".float_columns.channels", SafetensorsType::u32, linear.columns.channels);
        !done)
        return done;
    return plan.add_float_matrix(name + ".float_columns.values", linear.columns.values, *order);
}

Result<Metadata> own_metadata(const ModelFile& model) {
    Metadata metadata = model.metadata;
    if (const auto own = metadata.lower_bound(std::string(detail::own_prefix));
        own != metadata.end() && own->first.starts_with(detail::own_prefix))
        return fail(ErrorKind::bad_input, "the metadata key ", in_quotes(own->first), " begins with '",
                    detail::own_prefix, "', which the file keeps for itself");
    metadata[std::string(detail::foreign_format_key)] = detail::foreign_format;
    metadata[std::string(detail::version_key)] = detail::layout_version;
    detail::put_shape(model.shape, metadata);
    return metadata;
}

Result<void> write_model(const std::filesystem::path& path, const ModelFile& model,
                         const std::string& writing) {
    const auto within = [&writing](Error error) { return Unexpected{error.within(writing)}; };
    if (auto fine = detail::check_model(model); !fine) return within(std::move(fine).error());
    auto metadata = own_metadata(model);
    if (!metadata) return within(std::move(metadata).error());
    Plan plan;
    for (const auto& [name, linear] : model.linears)
        if (auto done = plan_linear(plan, name, linear, model.shape, *metadata); !done)
            return within(std::move(done).error());
    for (const auto& [name, values] : model.vectors)
        if (auto done = plan.add(name + ".weight", SafetensorsType::f32, values); !done)
            return within(std::move(done).error());
    return write_safetensors(path, plan.tensors, *metadata);
}

}  // namespace

Result<void> write_safetensors_model(const std::filesystem::path& path, const ModelFile& model) {
    return detail::without_exceptions(
        [&] { return write_model(path, model, text("writing '", path_text(path), "'")); });
}

}  // namespace fewbit::inline v0::io
