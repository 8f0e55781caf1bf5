// `fewbit quantize` into GGUF and between containers: the reference encoder's bytes, kept metadata, the plan, the
// same logits after every way around, and nothing left behind when it fails.
#include <algorithm>
#include <cmath>
#include <filesystem>

#include "cli/cli_support.hpp"
#include "fewbit/formats/ggml/blocks.hpp"
#include "fewbit/formats/ggml/encode.hpp"
#include "fewbit/io/gguf.hpp"
#include "fewbit/io/imatrix.hpp"

using namespace fewbit;
using namespace fewbit::testing;

namespace {

/// Tensors of a toy transformer in GGUF, f16 but for the norms, with some metadata that fewbit has no use for.
struct Toy {
    std::size_t k = 512;
    io::GgufMetadata metadata;
    std::vector<std::pair<std::string, Matrix>> tensors;

    explicit Toy(std::uint64_t seed) {
        metadata.emplace_back("general.architecture", io::GgufValue::of_text("wonder"));
        metadata.emplace_back("wonder.block_count", io::GgufValue::of_u32(2));
        metadata.emplace_back("wonder.attention.head_count", io::GgufValue::of_u32(8));
        metadata.emplace_back("wonder.attention.head_count_kv", io::GgufValue::of_u32(8));
        metadata.emplace_back("general.file_type", io::GgufValue::of_u32(1));
        const std::vector<std::string> words{"ä", "日本"};
        metadata.emplace_back("wonder.words", io::GgufValue::of_texts(words));
        const auto add = [&](const std::string& name, std::size_t n) {
            tensors.emplace_back(name, gaussian_matrix(n, k, ++seed, 0.02));
        };
        add("token_embd.weight", 40);
        for (int i = 0; i < 2; ++i) {
            const std::string block = text("blk.", i, ".");
            add(block + "attn_norm.weight", 1);
            for (const char* part : {"attn_q", "attn_v", "attn_output", "ffn_down", "ffn_up"})
                add(block + part + ".weight", 24);
        }
        add("output.weight", 40);
    }
    /// Writes f16, or what `type` says for all matrices.
    void write(const std::string& path, const char* type = "f16") const {
        std::vector<io::GgufSource> sources;
        for (const auto& [name, w] : tensors) {
            const bool norm = w.rows() == 1;
            const auto* stored = io::gguf_tensor_type(norm ? "f32" : type);
            const std::vector<std::size_t> sizes =
                norm ? std::vector<std::size_t>{k} : std::vector<std::size_t>{k, w.rows()};
            sources.push_back({name, stored, sizes, [&w = w, scalar = *stored->scalar](auto sink) {
                                   std::vector<std::byte> bytes(w.values().size() * size_bytes(scalar));
                                   for (std::size_t i = 0; i < w.values().size(); ++i)
                                       store_float(scalar, w.values()[i],
                                                   bytes.data() + i * size_bytes(scalar));
                                   return sink(std::span<const std::byte>(bytes));
                               }});
        }
        REQUIRE(io::write_gguf(path, metadata, sources));
    }
};

io::GgufFile opened(const std::string& path) {
    auto file = io::open_gguf(path);
    INFO((file ? "" : file.error().message));
    REQUIRE(file);
    return *std::move(file);
}

std::vector<std::uint8_t> encoded(ggml::BlockType type, const Matrix& w, std::span<const float> importance) {
    std::vector<std::uint8_t> out(w.rows() * ggml::row_bytes(type, w.cols()));
    std::vector<float> row(w.cols());
    for (std::size_t r = 0; r < w.rows(); ++r) {
        for (std::size_t c = 0; c < w.cols(); ++c)  // as the input file holds it
            row[c] = float_from_f16(f16_from_float(w(r, c)));
        const std::size_t bytes = ggml::row_bytes(type, w.cols());
        ggml::encode_row(type, row, importance, std::span(out).subspan(r * bytes, bytes));
    }
    return out;
}

bool same_bytes(std::span<const std::byte> a, const std::vector<std::uint8_t>& b) {
    return std::ranges::equal(a, std::as_bytes(std::span(b)));
}

}  // namespace

TEST_CASE("quantize GGUF: the reference encoder's bytes, the metadata and everything else as they were") {
    const Folder folder;
    const Toy toy(1);
    toy.write(folder / "toy.gguf");
    check_done(run({"quantize", folder / "toy.gguf", "-o", folder / "out.gguf", "--format", "q4_k",
                    "--tensor-format", "ffn=q8_0", "--tensor-format", "blk.1.ffn_up=q5_1", "--threads", "3",
                    "--json", folder / "out.json"}));
    const io::GgufFile in = opened(folder / "toy.gguf"), out = opened(folder / "out.gguf");
    REQUIRE(in.tensors.size() == out.tensors.size());
    for (std::size_t i = 0; i < out.tensors.size(); ++i) {
        const io::GgufTensor& tensor = out.tensors[i];
        const auto& [name, w] = toy.tensors[i];
        INFO(name);
        CHECK(tensor.name == name);
        CHECK(tensor.sizes == in.tensors[i].sizes);
        const bool kept = w.rows() == 1 || name == "token_embd.weight" || name == "output.weight";
        const char* type = kept                            ? in.tensors[i].type->name.data()
                           : name == "blk.1.ffn_up.weight" ? "q5_1"  // matches one tensor: the most specific
                           : name.find("ffn") != name.npos ? "q8_0"
                                                           : "q4_k";
        REQUIRE(tensor.type->name == type);
        if (kept)
            CHECK(std::ranges::equal(tensor.bytes, in.tensors[i].bytes));
        else
            CHECK(same_bytes(tensor.bytes, encoded(*tensor.type->blocks, w, {})));
    }
    for (const auto& [key, value] : in.metadata) {
        INFO(key);
        const io::GgufValue* now = io::find(out.metadata, key);
        REQUIRE(now != nullptr);
        if (key != "general.file_type") CHECK(*now == value);
    }
    // 6 of q4_k against 3 of q8_0.
    CHECK(io::find(out.metadata, "general.file_type")->as_unsigned() == 14);
    CHECK(io::find(out.metadata, "general.quantization_version")->as_unsigned() == 2);
    const Json json = read_json(folder / "out.json");
    CHECK(json["file_bytes"] == std::filesystem::file_size(folder / "out.gguf"));
    CHECK(json["layers"][0]["because"] == "--keep");
    CHECK(json["layers"].size() == toy.tensors.size());
}

TEST_CASE("quantize GGUF: general.file_type is the number that llama.cpp has for the type") {
    const Folder folder;
    Toy(3).write(folder / "toy.gguf");
    // From its enumeration llama_ftype, where types of super-blocks without a mix are called "small".
    const std::vector<std::pair<const char*, std::uint64_t>> numbers{
        {"bf16", 32}, {"q4_1", 3}, {"q5_0", 8}, {"q3_k", 11}, {"mxfp4", 38}, {"nvfp4", 39}, {"q1_0", 40}};
    for (const auto& [type, number] : numbers) {
        INFO(type);
        check_done(run({"quantize", folder / "toy.gguf", "-o", folder / "out.gguf", "--format", type}));
        CHECK(io::find(opened(folder / "out.gguf").metadata, "general.file_type")->as_unsigned() == number);
    }
    // It has none for this one.
    check_done(run({"quantize", folder / "toy.gguf", "-o", folder / "out.gguf", "--format", "q8_k"}));
    CHECK(io::find(opened(folder / "out.gguf").metadata, "general.file_type") == nullptr);
}

TEST_CASE("quantize GGUF: a mix, an importance matrix and an exact dry run") {
    const Folder folder;
    const Toy toy(2);
    toy.write(folder / "toy.gguf");
    io::ImportanceMatrix importance;
    importance.chunks = 9;
    importance.datasets = {"words.txt"};
    for (const auto& [name, w] : toy.tensors) {
        if (w.rows() == 1 || name.find("attn_q") != name.npos) continue;  // unknown: encoded without
        io::ImportanceEntry entry;
        for (std::size_t c = 0; c < toy.k; ++c) entry.sums.push_back(static_cast<float>(c % 17));
        entry.counts = {4.0f};
        importance.entries[name] = entry;
    }
    for (const char* file : {"i.dat", "i.gguf"}) {
        REQUIRE(io::write_imatrix(folder / file, importance));
        std::filesystem::remove(folder / "out.gguf");
        const auto command = [&](std::initializer_list<std::string> more) {
            std::string words = "\"$FEWBIT\" quantize " + quoted(folder / "toy.gguf") + " -o " +
                                quoted(folder / "out.gguf") + " --format q4_k_m --imatrix " +
                                quoted(folder / file) + " --json " + quoted(folder / "out.json");
            for (const std::string& word : more) words += " " + word;
            return run_shell(words);
        };
        const Outcome dry = command({"--dry-run"});
        check_done(dry);
        CHECK_FALSE(std::filesystem::exists(folder / "out.gguf"));
        const Json planned = read_json(folder / "out.json");
        check_done(command({}));
        CHECK(planned["file_bytes"] == std::filesystem::file_size(folder / "out.gguf"));
        CHECK(planned["bits_per_weight"] == read_json(folder / "out.json")["bits_per_weight"]);
        const io::GgufFile out = opened(folder / "out.gguf");
        CHECK(io::find(out.metadata, "general.file_type")->as_unsigned() == 15);
        CHECK(io::find(out.metadata, "quantize.imatrix.file")->as_text() == file);
        for (std::size_t i = 0; i < out.tensors.size(); ++i) {
            const auto& [name, w] = toy.tensors[i];
            if (w.rows() == 1) continue;
            INFO(name);
            // Of two layers the last is of the last eighth (7 * 2 / 8 = 1), and the head is larger.
            const bool more =
                name == "output.weight" || name == "blk.1.attn_v.weight" || name == "blk.1.ffn_down.weight";
            REQUIRE(out.tensors[i].type->name == (more ? "q6_k" : "q4_k"));
            const auto entry = importance.entries.find(name);
            const std::vector<float> v =
                entry == importance.entries.end() ? std::vector<float>() : entry->second.mean();
            CHECK(same_bytes(out.tensors[i].bytes, encoded(*out.tensors[i].type->blocks, w, v)));
        }
    }
}

TEST_CASE("quantize: what the reports say about requantizing, formats and names") {
    const Folder folder;
    const Toy toy(3);
    toy.write(folder / "toy.gguf");
    const auto quantize = [&](std::initializer_list<std::string> more, const std::string& from = "toy.gguf") {
        std::string words =
            "\"$FEWBIT\" quantize " + quoted(folder / from) + " -o " + quoted(folder / "out.gguf");
        for (const std::string& word : more) words += " " + quoted(word);
        return run_shell(words);
    };
    check_failure(quantize({"--format", "int4-g128"}), {"int4-g128", "nearest is q4_0"});
    check_failure(quantize({"--format", "q4_0", "--tensor-format", "nothing=q8_0"}), {"nothing=q8_0"});
    Toy odd(4);
    odd.k = 96;
    for (auto& [name, w] : odd.tensors) w = gaussian_matrix(w.rows(), 96, 9, 1.0);
    odd.write(folder / "odd.gguf");
    check_failure(quantize({"--format", "q4_k"}, "odd.gguf"),
                  {"'blk.0.attn_q.weight': K = 96: q4_k is stored in blocks of 256", "--tensor-format"});
    check_done(quantize({"--format", "q4_k_m"}, "odd.gguf"));  // whose rules know types of smaller blocks
    CHECK(opened(folder / "out.gguf").find("blk.0.attn_q.weight")->type->name == "q5_0");
    std::filesystem::rename(folder / "out.gguf", folder / "small.gguf");
    check_failure(quantize({"--format", "q8_0"}, "small.gguf"),
                  {"is q5_0 already", "start from the float model"});
    CHECK(folder.names().size() == 3);
}

TEST_CASE("quantize: a weight that is not finite, a full disk and a kill leave nothing behind") {
    const Folder folder;
    Toy toy(5);
    toy.write(folder / "toy.gguf");
    toy.tensors[3].second(7, 11) = std::numeric_limits<float>::infinity();
    toy.write(folder / "bad.gguf", "f32");
    check_failure(run({"quantize", folder / "bad.gguf", "-o", folder / "out.gguf", "--format", "q4_0"}),
                  {"tensor 'blk.0.attn_v.weight': weight [7, 11] is inf"});
    const std::string command = "\"$FEWBIT\" quantize " + quoted(folder / "toy.gguf") + " -o " +
                                quoted(folder / "out.gguf") + " --format q8_0";
    // A file may have 16 blocks of 1 KiB; the signal that comes with the limit is ignored.
    const Outcome full = run_shell("trap '' XFSZ; ulimit -f 16; " + command);
    CHECK(full.status == 2);
    CHECK(full.err.find("out.gguf") != std::string::npos);
    CHECK(folder.names().size() == 2);  // toy.gguf, bad.gguf
    // An old file stays what it was.
    folder.write("out.gguf", std::string("precious"));
    CHECK(run_shell("trap '' XFSZ; ulimit -f 16; " + command).status == 2);
    CHECK(read_text(folder / "out.gguf") == "precious");
}

TEST_CASE("quantize between containers: the same loss after every way around") {
    const std::string gguf = shared_file("models/stories260K/stories260K.gguf").string();
    const std::string bin = shared_file("models/stories260K/stories260K.bin").string();
    const std::string tokenizer = shared_file("models/stories260K/tok512.bin").string();
    const std::string story = shared_file("text/tinystories.txt").string();
    if (gguf.empty() || story.empty()) FEWBIT_SKIP("stories260K is not in FEWBIT_SHARED_DIR");
    const Folder folder;
    const auto nll = [&](const std::string& model) {
        check_done(run({"evaluate", model, "--tokenizer", tokenizer, "--text", story, "--split",
                        "<|endoftext|>", "--max-documents", "2", "--activations", "f32", "--fallback",
                        "allow", "--json", folder / "e.json"}));
        return read_json(folder / "e.json")["nll"].get<double>();
    };
    const double truth = nll(bin);
    CHECK(std::fabs(nll(gguf) - truth) <= 1e-6);
    const auto convert = [&](const std::string& from, const std::string& to, const std::string& format) {
        check_done(format.empty()
                       ? run({"quantize", from, "-o", folder / to, "--tokenizer", tokenizer})
                       : run({"quantize", from, "-o", folder / to, "--format", format, "--tokenizer",
                              tokenizer, "--tensor-format", "down_proj|ffn_down=f16"}));
        return nll(folder / to);
    };
    // Floats, from container to container.
    CHECK(convert(bin, "a.gguf", "") == truth);
    CHECK(convert(folder / "a.gguf", "b.safetensors", "") == truth);
    CHECK(convert(folder / "b.safetensors", "c.gguf", "") == truth);
    if (fewbit_test::sampled()) return;
    // A grid that both hold: the same weights, so the same products of the same f32 activations but for the
    // order of sums in two kernels.
    const double grouped = convert(bin, "d.safetensors", "int4-g32");
    CHECK(std::fabs(convert(folder / "d.safetensors", "e.gguf", "") - grouped) <= 1e-5);
    CHECK(opened(folder / "e.gguf").find("blk.0.attn_q.weight")->type->name == "q4_0");
    CHECK(std::fabs(convert(bin, "f.gguf", "int4-g32") - grouped) <= 1e-5);
    CHECK(grouped > truth + 1e-4);
    // Blocks lie in both as they are.
    const double blocks = convert(gguf, "g.gguf", "q5_1");
    CHECK(convert(folder / "g.gguf", "h.safetensors", "") == blocks);
    CHECK(convert(gguf, "i.safetensors", "q5_1") == blocks);
}
