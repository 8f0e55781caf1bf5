// Activation formats: names there and back, what is refused, codes and grids, and the table of
// docs/formats.md.
#include "fewbit/formats/activation_format.hpp"

#include <cmath>
#include <cstdlib>
#include <fstream>
#include <limits>
#include <sstream>
#include <string>
#include <vector>

#include "support/catch.hpp"
#include "support/random.hpp"

using namespace fewbit;

namespace {

std::vector<ActivationFormat> all_activations() {
    std::vector<ActivationFormat> all;
    for (int bits = 2; bits <= 8; ++bits)
        for (const Granularity shared : {Granularity::channel, Granularity::group, Granularity::tensor})
            for (const bool asymmetric : {false, true})
                for (const bool is_static : {false, true}) {
                    const ActivationFormat format{
                        ActivationElement::int8, shared, 32, bits, asymmetric, is_static};
                    if (validate(format)) all.push_back(format);
                }
    return all;
}

}  // namespace

TEST_CASE("activation formats: every name is read back") {
    CHECK(all_activations().size() == 7 * (2 + 1 + 4));
    CHECK(*parse_activation_format("f32") == exact_activations());
    CHECK(*parse_activation_format("bf16") == bf16_activations());
    CHECK(name(bf16_activations()) == "bf16");
    CHECK_FALSE(bf16_activations() == exact_activations());
    CHECK(*parse_activation_format("int8-row") == int8_row_activations());
    CHECK(*parse_activation_format("int8-g32") == int8_group_activations(32));
    CHECK(name(int8_row_activations()) == "int8-row");
    CHECK(name(int8_group_activations(128)) == "int8-g128");
    std::vector<std::string> names;
    for (const ActivationFormat& format : all_activations()) {
        const auto read = parse_activation_format(name(format));
        INFO(name(format));
        REQUIRE(read);
        CHECK(*read == format);
        for (const std::string& other : names) CHECK(name(format) != other);
        for (std::size_t i = 0; i < names.size(); ++i) CHECK(!(*parse_activation_format(names[i]) == format));
        names.push_back(name(format));
    }
}

TEST_CASE("activation formats: what is refused says why") {
    const auto why = [](const char* word) {
        const auto read = parse_activation_format(word);
        return read ? std::string() : read.error().message;
    };
    for (const char* word :
         {"", "int8", "int8-", "int8-row-", "int8-channel", "int08-row", "f32-row", "int8-g", "int8-g-8",
          "int8-row-static-asym", "int8-tensor-asym-asym", "int8-row-asym-static-x", "INT8-row",
          "int8-row -asym", "f16", "int8-g99999999999999999999", "int8-asym"}) {
        INFO(word);
        CHECK(why(word).find(text("'", word, "'")) != std::string::npos);
    }
    CHECK(why("int1-row").find("activations of 1 bits") != std::string::npos);
    CHECK(why("int9-row").find("2 to 8") != std::string::npos);
    CHECK(why("int8-g7").find("at least 8 elements, not 7") != std::string::npos);
    CHECK(why("int8-g32-asym").find("groups are symmetric") != std::string::npos);
    CHECK(why("int8-row-static").find("one range per tensor") != std::string::npos);
    CHECK(why("int8-g32-static").find("one range per tensor") != std::string::npos);
}

TEST_CASE("activation formats: codes never reach -128, and asymmetric ones are 2^b but 255 at 8 bits") {
    for (const ActivationFormat& format : all_activations()) {
        INFO(name(format));
        CHECK(format.min_code() >= -127);
        CHECK(format.max_code() == (1 << (format.bits - 1)) - 1);
        const int codes = format.max_code() - format.min_code() + 1;
        CHECK(codes == (format.asymmetric && format.bits < 8 ? 1 << format.bits : (1 << format.bits) - 1));
    }
}

TEST_CASE("grids: 0 is a code, no end of the range is farther than half a step from one") {
    testing::Random random(9);
    for (const ActivationFormat& format : all_activations())
        for (int i = 0; i < 200; ++i) {
            const double size = std::exp2(random.uniform(-100, 100));
            const auto low = static_cast<float>(-size * random.uniform(0, 1) * (i % 5 == 0 ? 0 : 1)),
                       high = static_cast<float>(size * random.uniform(0, 1) * (i % 7 == 0 ? 0 : 1));
            const ActivationGrid grid = activation_grid(low, high, format);
            INFO(name(format) << " [" << low << ", " << high << "] scale " << grid.scale << " zero "
                              << grid.zero);
            CHECK(grid.zero >= format.min_code());
            CHECK(grid.zero <= format.max_code());
            if (!format.asymmetric) CHECK(grid.zero == 0);
            // The scale is rounded once, which moves the last code by codes * 2^-24 steps.
            const double s = grid.scale, slack = 0.5 + 256 * 0x1p-23;
            CHECK(s * (format.min_code() - grid.zero) <= static_cast<double>(low) + slack * s);
            CHECK(s * (format.max_code() - grid.zero) >= static_cast<double>(high) - slack * s);
        }
}

TEST_CASE("grids at the edges of f32") {
    const float most = std::numeric_limits<float>::max(), least = std::numeric_limits<float>::denorm_min();
    for (const ActivationFormat& format : all_activations()) {
        INFO(name(format));
        const ActivationGrid wide = activation_grid(-most, most, format);
        CHECK(std::isfinite(wide.scale));
        CHECK(wide.scale > 0);
        CHECK(activation_grid(0, 0, format) == ActivationGrid{0, 0});
        CHECK(static_grid({0, 0}, format)->scale == 0);
        for (const StaticRange& range :
             {StaticRange{0, least}, StaticRange{-least, 0}, StaticRange{-least, 3 * least}}) {
            const auto grid = static_grid(range, format);
            REQUIRE(grid);
            CHECK(grid->scale >= least);
            CHECK(grid->zero >= format.min_code());
            CHECK(grid->zero <= format.max_code());
            CHECK((range.max <= 0 || grid->zero < format.max_code()));
            CHECK((range.min >= 0 || grid->zero > format.min_code()));
        }
        CHECK(static_grid({2, 5}, format).has_value());
        CHECK(*static_grid({2, 5}, format) == activation_grid(0, 5, format));  // widened to contain 0
        CHECK(*static_grid({-5, -2}, format) == activation_grid(-5, 0, format));
        for (const StaticRange& bad : {StaticRange{1, -1}, StaticRange{NAN, 1}, StaticRange{0, INFINITY}})
            CHECK(static_grid(bad, format).error().message.find("is not a range") != std::string::npos);
    }
}

TEST_CASE("docs/formats.md: the table of activations") {
    const char* root = std::getenv("FEWBIT_SOURCE_DIR");
    std::ifstream file(std::string(root == nullptr ? "." : root) + "/docs/formats.md");
    std::string line;
    while (std::getline(file, line) && line != "<!-- activations:begin -->") continue;
    std::size_t rows = 0;
    for (; std::getline(file, line) && line != "<!-- activations:end -->"; ++rows) {
        const std::string word = line.substr(3, line.find('`', 3) - 3);
        const auto format = parse_activation_format(word);
        INFO(line);
        REQUIRE(format);
        if (format->element != ActivationElement::int8) continue;
        CHECK(line.find(text("| ", format->min_code(), " .. ", format->max_code(), " |")) !=
              std::string::npos);
        CHECK(line.find(text(
                  "/ ", format->asymmetric ? format->max_code() - format->min_code() : format->max_code(),
                  " |")) != std::string::npos);
        CHECK(line.ends_with(format->asymmetric ? "| z |" : "| 0 |"));
    }
    CHECK(rows == 11);
}
