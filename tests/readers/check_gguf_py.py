"""Does gguf-py, the reader and writer of the llama.cpp project, find in fewbit's GGUF files what fewbit put there?

Models come from safetensors, llama2.c and from gguf-py's own writer. `fewbit quantize` writes each as it is, in every
type and in every mix, and then: metadata, names, shapes, types and offsets are the same for both readers, and are those
of the input; every weight is decoded to the same bits; where gguf-py has an encoder, the bytes are the same.
"""
import json
import pathlib
import struct
import sys
import tempfile
from collections import Counter

from common import EMBEDDED, Checks, fewbit, need, says, stories, version

np, gguf = need("numpy", "gguf")
from gguf import GGMLQuantizationType as Type, GGUFValueType as Kind  # noqa: E402

check = Checks()
MIXES = ["q2_k_s", "q2_k_m", "q3_k_s", "q3_k_m", "q3_k_l", "q4_k_s", "q4_k_m", "q5_k_s", "q5_k_m"]
# Weights of a block, and the most that rounding may cost: the root of the mean squared error over that of the weights.
# A group's step is about its range / 2^b, so each bit halves the error; the bounds are about twice what Gaussian weights
# cost. Ternary and binary blocks keep little more than signs. Scrambled weights would cost 1.4.
FORMATS = {"f32": (1, 0), "f16": (1, 5e-4), "bf16": (1, 4e-3), "q8_0": (32, 0.011), "q8_k": (256, 0.02),
           "q6_k": (256, 0.042), "q5_0": (32, 0.085), "q5_1": (32, 0.085), "q5_k": (256, 0.085), "q4_0": (32, 0.17),
           "q4_1": (32, 0.17), "q4_k": (256, 0.17), "iq4_nl": (32, 0.17), "iq4_xs": (256, 0.17), "mxfp4": (32, 0.2),
           "nvfp4": (64, 0.2), "q3_k": (256, 0.34), "q2_k": (256, 0.6), "q2_0": (64, 0.9), "tq1_0": (256, 0.9),
           "tq2_0": (256, 0.9), "q1_0": (128, 0.9)}
# gguf-py's encoders follow the reference's rule for these.
SAME_BYTES = ["f32", "f16", "bf16", "q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "tq1_0", "tq2_0", "mxfp4"]
KINDS = dict(zip(Kind, "u8 i8 u16 i16 u32 i32 f32 boolean text array u64 i64 f64".split()))
# Where the number has another name than MOSTLY_ and the type or mix.
FILE_TYPES = {"f32": "ALL_F32", "q2_k_m": "MOSTLY_Q2_K", "q3_k": "MOSTLY_Q3_K_S", "q4_k": "MOSTLY_Q4_K_S",
              "q5_k": "MOSTLY_Q5_K_S", "mxfp4": "MOSTLY_MXFP4_MOE"}


def bits(values):
    return np.ascontiguousarray(values, np.float32).view(np.uint32)


class File:
    """A GGUF file as gguf-py reads it: metadata as fewbit_says prints it, tensors, floats."""

    def __init__(self, path):
        self.path, self.reader = path, gguf.GGUFReader(path)
        self.metadata = {}
        for key, field in self.reader.fields.items():
            if key.startswith("GGUF."):
                continue  # counts, which are no metadata
            kind, parts = Kind(int(field.parts[2][0])), field.parts[3:]
            element, count = kind, 1
            if kind == Kind.ARRAY:
                element, count, parts = Kind(int(parts[0][0])), int(parts[1][0]), parts[2:]
            raw = b"".join(part.tobytes() for part in parts)
            self.metadata[key] = (KINDS[kind], KINDS[element], count, raw.hex())
        self.tensors = {tensor.name: tensor for tensor in self.reader.tensors}

    def sizes(self, name):
        return [int(size) for size in self.tensors[name].shape]

    def floats(self, name):
        tensor = self.tensors[name]
        return gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float32).reshape(-1)


def compare_readers(file, what):
    """What fewbit reads in a file is what gguf-py reads there."""
    metadata, tensors = {}, []
    for line in says("file", file.path).decode().splitlines():
        kind, name, *rest = line.split("\t")
        if kind == "key":
            metadata[name] = (rest[0], rest[1], int(rest[2]), rest[3])
        else:
            tensors.append((name, rest[0].upper(), [int(size) for size in rest[1].split(",")], int(rest[2])))
    check.same(list(metadata), list(file.metadata), f"{what}: keys")
    for key in file.metadata:
        check.same(metadata.get(key), file.metadata[key], f"{what}: {key}")
    check.same(tensors, [(t.name, t.tensor_type.name, [int(s) for s in t.shape], t.data_offset)
                         for t in file.reader.tensors], f"{what}: tensors")
    alignment, end = int(file.reader.alignment), file.reader.data_offset
    for tensor in file.reader.tensors:
        check.same(tensor.data_offset, end, f"{what}: offset of {tensor.name}")
        end = -(-(tensor.data_offset + int(tensor.n_bytes)) // alignment) * alignment
    check.same(file.path.stat().st_size, end, f"{what}: bytes of the file")


def compare_values(file, what):
    """Every weight that gguf-py can decode has the bits that fewbit gives it. The types that it cannot decode."""
    said = np.frombuffer(says("values", file.path), np.float32)
    begin, unknown = 0, Counter()
    for tensor in file.reader.tensors:
        ours = said[begin:begin + int(tensor.n_elements)]
        begin += int(tensor.n_elements)
        try:
            theirs = file.floats(tensor.name)
        except NotImplementedError:
            unknown[tensor.tensor_type.name] += 1
            continue
        differ = np.flatnonzero(bits(ours) != bits(theirs))
        check(differ.size == 0, f"{what}: {tensor.name} ({tensor.tensor_type.name}): {differ.size} of {ours.size} "
              f"weights decode to other bits, first {[(i, ours[i], theirs[i]) for i in differ[:3]]}")
    check.same(begin, said.size, f"{what}: number of weights")
    return unknown


# --- inputs, read by other means than fewbit's ------------------------------------------------------------------------

def safetensors_floats(path):
    """Tensors of a llama in safetensors under the names and in the order of rows that GGUF has."""
    data = path.read_bytes()
    size, = struct.unpack_from("<Q", data)
    header = json.loads(data[8:8 + size])
    model = {key.removeprefix("fewbit.model."): value for key, value in header.pop("__metadata__").items()}
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, int(model["layers"]))
    tensors = {}
    for name, entry in header.items():
        begin, end = (8 + size + offset for offset in entry["data_offsets"])
        values = np.frombuffer(data[begin:end], {"F32": np.float32, "F16": np.float16}[entry["dtype"]])
        values = values.reshape(entry["shape"]).astype(np.float32)
        if name.endswith(("q_proj.weight", "k_proj.weight")):  # halves of a head become neighbours
            half = int(model["head_dim"]) // 2
            values = values.reshape(-1, 2, half, values.shape[1]).swapaxes(1, 2).reshape(values.shape)
        tensors[names.get_name(name, try_suffixes=(".weight",))] = values
    expected = {f"llama.{key}": int(model[ours]) for key, ours in {
        "embedding_length": "dim", "feed_forward_length": "hidden", "block_count": "layers", "context_length": "context",
        "attention.head_count": "heads", "attention.head_count_kv": "kv_heads", "vocab_size": "vocabulary"}.items()}
    return tensors, expected


def llama2c_floats(path):
    """The same of a llama2.c file of version 0 with a head of its own or a tied one."""
    data = path.read_bytes()
    dim, hidden, layers, heads, kv_heads, vocabulary, context = struct.unpack_from("<7i", data)
    tied, vocabulary, at = vocabulary > 0, abs(vocabulary), 28
    kv, tensors = dim // heads * kv_heads, {}

    def take(*shape):
        nonlocal at
        values = np.frombuffer(data, np.float32, int(np.prod(shape)), at).reshape(shape)
        at += values.nbytes
        return values

    tensors["token_embd.weight"] = take(vocabulary, dim)
    for part, *shape in [("attn_norm", dim), ("attn_q", dim, dim), ("attn_k", kv, dim), ("attn_v", kv, dim),
                         ("attn_output", dim, dim), ("ffn_norm", dim), ("ffn_gate", hidden, dim),
                         ("ffn_down", dim, hidden), ("ffn_up", hidden, dim)]:
        for layer in range(layers):
            tensors[f"blk.{layer}.{part}.weight"] = take(*shape)
    tensors["output_norm.weight"] = take(dim)
    at += context * (dim // heads) * 4  # rotary tables, which nobody needs
    if not tied:
        tensors["output.weight"] = take(vocabulary, dim)
    check.same(at, len(data), "bytes of the llama2.c file")
    return tensors, {"llama.embedding_length": dim, "llama.feed_forward_length": hidden, "llama.block_count": layers,
                     "llama.attention.head_count": heads, "llama.attention.head_count_kv": kv_heads,
                     "llama.context_length": context, "llama.vocab_size": vocabulary}


def llama2c_tokens(path, count):
    data, at, tokens = path.read_bytes(), 4, []
    for _ in range(count):
        score, length = struct.unpack_from("<fi", data, at)
        tokens.append((data[at + 8:at + 8 + length], score))
        at += 8 + length
    check.same(at, len(data), "bytes of the tokenizer")
    return tokens


def write_synthetic(path):
    """A file by gguf-py's writer: metadata of every kind, f32, f16 and bf16, rows that are hard to quantize."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_custom_alignment(64)
    writer.add_block_count(2)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    for kind, value in {Kind.UINT8: 255, Kind.INT8: -128, Kind.UINT16: 65535, Kind.INT16: -32768, Kind.UINT32: 2**32 - 1,
                        Kind.INT32: -2**31, Kind.FLOAT32: 0.1, Kind.UINT64: 2**64 - 1, Kind.INT64: -2**63,
                        Kind.FLOAT64: 0.1, Kind.BOOL: True, Kind.STRING: "ä 日本 \u200b\n\t"}.items():
        writer.add_key_value(f"synthetic.{kind.name.lower()}", value, kind)
        writer.add_key_value(f"synthetic.array.{kind.name.lower()}", [value, value], Kind.ARRAY, kind)
    writer.add_string("synthetic.empty", "")
    random = np.random.default_rng(1)

    def matrix(n, k):
        w = random.standard_normal((n, k)).astype(np.float32)
        w[0], w[1], w[2] = 0, 0.25, np.abs(w[2])
        w[3] *= np.float32(1e-4)
        w[4, ::7] *= 30  # outliers
        w[5] = np.round(w[5] * 2) / 2  # ties
        return w

    types = [np.float32, np.float16, None]
    for layer in range(2):
        writer.add_tensor(f"blk.{layer}.attn_norm.weight", np.ones(512, np.float32))
        for i, (part, n, k) in enumerate([("attn_q", 64, 512), ("attn_v", 48, 512), ("attn_output", 56, 768),
                                          ("ffn_down", 40, 1024), ("ffn_up", 37, 256)]):
            w, stored = matrix(n, k), types[i % 3]
            if stored is None:
                writer.add_tensor(f"blk.{layer}.{part}.weight", gguf.quants.quantize(w, Type.BF16), raw_dtype=Type.BF16)
            else:
                writer.add_tensor(f"blk.{layer}.{part}.weight", w.astype(stored))
    writer.add_tensor("blk.0.ffn_gate_exps.weight", np.stack([matrix(8, 256) for _ in range(3)]))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


# --- the check --------------------------------------------------------------------------------------------------------

def check_input(name, floats, tensors, keys):
    """The float file holds what the input holds, by a reader of the input that is not fewbit's."""
    check.same(sorted(floats.tensors), sorted(tensors), f"{name}: names of tensors")
    for tensor, values in tensors.items():
        if tensor in floats.tensors:
            check.same(floats.sizes(tensor), list(values.shape[::-1]), f"{name}: sizes of {tensor}")
            check(np.array_equal(bits(floats.floats(tensor)), bits(values).reshape(-1)), f"{name}: values of {tensor}")
    for key, value in keys.items():
        check.same(floats.reader.get_field(key).contents(), value, f"{name}: {key}")


def check_tokens(name, floats, tokens):
    """The vocabulary is that of tokenizer.bin, spelled as GGUF spells it."""
    field = {key: floats.reader.get_field(f"tokenizer.ggml.{key}").contents() for key in ("tokens", "scores", "token_type")}
    for i, (text, score) in enumerate(tokens):
        spelled = text.decode("utf-8", "replace").replace(" ", "\u2581")
        spelled = {0: "<unk>", 1: "<s>", 2: "</s>"}.get(i, spelled)
        check.same((field["tokens"][i], field["scores"][i]), (spelled, score), f"{name}: token {i}")
        kind = {0: 2, 1: 3, 2: 3}.get(i, 6 if i < 259 else 1)
        check.same(field["token_type"][i], kind, f"{name}: kind of token {i}")


def check_encoded(floats, out, format, what):
    """Types, sizes, error, and bytes where gguf-py can encode. How many tensors were of the type that was asked for."""
    block, most = FORMATS.get(format, (1, 0.6))
    of_type = 0
    for tensor in out.reader.tensors:
        source = floats.tensors[tensor.name]
        check.same(list(tensor.shape), list(source.shape), f"{what}: sizes of {tensor.name}")
        if tensor.tensor_type == source.tensor_type:
            check(tensor.data.tobytes() == source.data.tobytes(), f"{what}: {tensor.name} was to stay as it is")
            of_type += tensor.tensor_type.name == format.upper()
            continue
        if format in FORMATS:
            check.same(tensor.tensor_type.name, format.upper(), f"{what}: type of {tensor.name}")
        of_type += 1
        values = floats.floats(tensor.name).astype(np.float32)
        if format in SAME_BYTES:
            rows = values.reshape(-1, int(tensor.shape[0]))
            theirs = np.ascontiguousarray(gguf.quants.quantize(rows, tensor.tensor_type)).tobytes()
            check(theirs == tensor.data.tobytes(), f"{what}: bytes of {tensor.name} are not gguf-py's")
        try:
            decoded = out.floats(tensor.name).astype(np.float64)
        except NotImplementedError:
            continue
        error = np.sqrt(np.sum((decoded - values)**2) / np.sum(values.astype(np.float64)**2))
        check(error <= most, f"{what}: {tensor.name} has a relative error of {error:.3f}, expected at most {most}")
    return of_type


def check_outputs(name, source, extra, floats, folder):
    ks = {int(tensor.shape[0]) for tensor in floats.reader.tensors if len(tensor.shape) > 1}
    unread, undecoded, done = [], Counter(), 0
    for format in [*FORMATS, *MIXES]:
        out = folder / f"{name}-{format}.gguf"
        arguments = ["quantize", source, "-o", out, "--format", format, "--keep", "", *extra]
        block = FORMATS.get(format, (1,))[0]
        bad = sorted(k for k in ks if k % block)
        if len(bad) == len(ks):
            continue  # no matrix fits; the mixes have rules of their own for that
        for k in bad:
            for tensor in floats.reader.tensors:
                if len(tensor.shape) > 1 and int(tensor.shape[0]) == k:
                    arguments += ["--tensor-format", f"^{tensor.name}$={floats.tensors[tensor.name].tensor_type.name.lower()}"]
        fewbit(*arguments)
        what = f"{name} in {format}"
        try:
            file = File(out)
        except ValueError as error:
            check(format in ("q1_0", "q2_0"), f"{what}: gguf-py cannot read it: {error}")
            unread.append(format)
            continue
        done += 1
        compare_readers(file, what)
        undecoded += compare_values(file, what)
        check(check_encoded(floats, file, format, what) > 0, f"{what}: no tensor is of that type")
        changed = {"general.file_type", "general.quantization_version"}
        for key in set(floats.metadata) | set(file.metadata):
            if key not in changed:
                check.same(file.metadata.get(key), floats.metadata.get(key), f"{what}: {key}")
        file_type = file.reader.get_field("general.file_type")
        expected = FILE_TYPES.get(format, f"MOSTLY_{format.upper()}")
        known = getattr(gguf.LlamaFileType, expected, None)
        if format in MIXES or not bad:
            check.same(file_type and file_type.contents(), known, f"{what}: general.file_type")
        out.unlink()
    print(f"{name}: {done} files in {done} types and mixes"
          + (f"; gguf-py has no type {', '.join(unread)}" if unread else "")
          + (f"; it does not decode {', '.join(sorted(undecoded))}" if undecoded else ""))


def main():
    print(f"gguf {version('gguf')}, numpy {version('numpy')}, Python {sys.version.split()[0]}")
    with tempfile.TemporaryDirectory(prefix="fewbit-readers-") as temporary:
        folder = pathlib.Path(temporary)
        synthetic = folder / "synthetic.gguf"
        write_synthetic(synthetic)
        sources = [("synthetic", synthetic, [], None, None), ("embedded", EMBEDDED, [], safetensors_floats, None)]
        shared = stories()
        if shared:
            tokenizer = shared / "tok512.bin"
            sources += [("stories260K.bin", shared / "stories260K.bin", ["--tokenizer", tokenizer], llama2c_floats, tokenizer),
                        ("stories260K.gguf", shared / "stories260K.gguf", [], None, None)]
        for name, source, extra, other_reader, tokenizer in sources:
            as_is = folder / f"{name}-as-it-is.gguf"
            fewbit("quantize", source, "-o", as_is, *extra)
            floats = File(as_is)
            compare_readers(floats, f"{name} as it is")
            compare_values(floats, f"{name} as it is")
            if other_reader:
                check_input(name, floats, *other_reader(source))
            else:
                before = File(source)
                check.same(floats.metadata, {**before.metadata, "general.file_type": floats.metadata["general.file_type"]},
                           f"{name}: metadata")
                check.same([(t.name, t.tensor_type, list(t.shape), t.data.tobytes()) for t in floats.reader.tensors],
                           [(t.name, t.tensor_type, list(t.shape), t.data.tobytes()) for t in before.reader.tensors],
                           f"{name}: tensors")
            if tokenizer:
                check_tokens(name, floats, llama2c_tokens(tokenizer, floats.sizes("token_embd.weight")[1]))
            check_outputs(name, source, extra, floats, folder)
    check.finish()


main()
