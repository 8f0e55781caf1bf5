// The part of `fewbit kernels` that tells what there is for CUDA.
#include "src/cli/kernels_cuda.hpp"

#include "fewbit/cuda/device.hpp"
#include "fewbit/cuda/selection.hpp"

namespace fewbit::cli {
namespace {

std::string_view words_of(cuda::Weights weights) {
    switch (weights) {
        case cuda::Weights::integers: return "int2-8";
        case cuda::Weights::tables: return "nf4 e2m1 iq4";
        case cuda::Weights::fp8: return "fp8-e4m3";
        case cuda::Weights::floats: return "f16 bf16";
    }
    return "?";
}

/// "1-16", "17-64", "65-", by the kernel before it of the same weights and type of x.
std::string rows_of(std::size_t first, std::size_t most) {
    return most == cuda::any_rows ? fmt::format("{}-", first) : fmt::format("{}-{}", first, most);
}

/// As activation formats are called.
std::string_view rows_called(Scalar x) {
    switch (x) {
        case Scalar::i8: return "int8-row";
        case Scalar::fp8_e4m3: return "fp8-e4m3-row";
        default: return name(x);
    }
}

/// The kernels, each with the fewest rows of x that it is for.
template <class Visit>
void each_kernel(Visit&& visit) {
    for (const cuda::KernelInfo& info : cuda::kernel_table) {
        std::size_t first = 1;
        for (const cuda::KernelInfo& other : cuda::kernel_table)
            if (other.weights == info.weights && other.x == info.x && other.most_rows < info.most_rows)
                first = std::max(first, other.most_rows + 1);
        visit(info, first);
    }
}

}  // namespace

void print_cuda_kernels() {
    const auto device = cuda::current_device();
    Table table({{"kernel"}, {"weights"}, {"x"}, {"rows of x"}});
    each_kernel([&](const cuda::KernelInfo& info, std::size_t first) {
        table.add({std::string(info.name), std::string(words_of(info.weights)),
                   std::string(rows_called(info.x)),
                   rows_of(first, info.most_rows) + (info.wgmma ? ", on sm_90a" : "")});
    });
    say("\nOn CUDA, from sm_80 on; none is a fallback (docs/cuda.md)\n\n{}", table.text());
    if (device)
        say("The device is '{}', sm_{}{}.\n", device->name, device->major, device->minor);
    else
        say("{}\n", wrapped("None runs here: " + device.error().message, 80));
}

Json cuda_kernels_json(std::span<const Format> formats) {
    const auto device = cuda::current_device();
    Json kernels = Json::array();
    each_kernel([&](const cuda::KernelInfo& info, std::size_t first) {
        Json chosen = Json::array();
        for (const Format& format : formats)
            if (const auto selected = cuda::select_kernel(format, info.x, first, info.wgmma);
                selected && selected->name == info.name)
                chosen.push_back(name(format));
        kernels.push_back({{"name", info.name},
                           {"x", rows_called(info.x)},
                           {"rows_from", first},
                           {"rows_to", info.most_rows == cuda::any_rows ? Json() : Json(info.most_rows)},
                           {"chosen_for", chosen}});
    });
    return {{"built", cuda::is_built()},
            {"device", device ? Json(device->name) : Json()},
            {"why_not", device ? "" : device.error().message},
            {"kernels", kernels}};
}

}  // namespace fewbit::cli
