"""Does llama.cpp run fewbit's GGUF files as fewbit does: the same tokens of a text, and the same perplexity?

Through llama-cpp-python, which compiles llama.cpp when it is installed. llama.cpp rounds activations to 8 bits before it
multiplies them with blocks (and to f16 with f16 weights), fewbit is asked not to round them; so perplexities differ a
little, and may differ by 0.5 %. With f32 weights nothing is rounded: 0.01 %.
"""
import ctypes
import json
import pathlib
import random
import sys
import tempfile

from common import EMBEDDED, SHARED, Checks, fewbit, need, says_tokens, stories, version

np, llama_cpp = need("numpy", "llama_cpp")

check = Checks()
MARK, CONTEXT = "<|endoftext|>", 256
TEXTS = ["", " ", "  ", "a", "Once upon a time, there was a little girl named Lily.", " leading", "trailing ", "two  spaces",
         "line\nbreak\n\n\ttab\r\n", "3482+917=", "sort: abe ian ada|", "ÄÖÜß naïve café", "e\u0301 is not \u00e9",
         "日本語のテキスト", "русский текст", "العربية", "👩‍👩‍👧 🇩🇪 \U0010ffff", "\u2581 \u2581\u2581x", "\u00a0\u200b\ufeff",
         "<s> </s> <unk> <0x41> <0x0A>", "\u0001\u007f\u0080", "x" * 300, "the cat " * 40, "\"quotes\", it's: {1, 2}; #$%&"]


def made_documents():
    """Sums, copies and sorted names, which the embedded model knows, and a sentence that it does not."""
    draw = random.Random(1)
    names = "abe ada ana eva fred gus ian ina ivy jane kate liam lucy mark mia nina noa otto rita rosa ruth sara tom".split()
    documents = ["Perplexity of unknown words, ÄÖÜ and 日本, is high."]
    for _ in range(60):
        a, b = draw.randrange(10000), draw.randrange(10000)
        some = [draw.choice(names) for _ in range(draw.randrange(3, 9))]
        documents += [f"{a}+{b}={str(a + b)[::-1]}", f"copy: {' '.join(some)}| {' '.join(some)}",
                      f"sort: {' '.join(some)}| {' '.join(sorted(some))}"]
    return documents


def log_probabilities(logits):
    logits = logits.astype(np.float64)
    logits -= logits.max(axis=1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


def their_nll(llama, documents):
    """As `fewbit evaluate` counts: every window starts with BOS, each token after it is predicted once."""
    total, count = 0.0, 0
    for document in documents:
        tokens = llama.tokenize(document.encode(), add_bos=True, special=False)[:CONTEXT]
        if len(tokens) < 2:
            continue
        llama.reset()
        llama.eval(tokens)
        predictions = log_probabilities(llama.scores[:len(tokens) - 1])
        total -= predictions[np.arange(len(tokens) - 1), tokens[1:]].sum()
        count += len(tokens) - 1
    return total / count, count


def run(name, model, text, documents, folder, most):
    llama = llama_cpp.Llama(str(model), n_ctx=CONTEXT, n_batch=CONTEXT, n_ubatch=CONTEXT, n_threads=1, n_threads_batch=1,
                            n_gpu_layers=0, logits_all=True, type_k=0, type_v=0, verbose=False)
    samples = TEXTS + documents[:3]
    for sample, ours in zip(samples, says_tokens(model, samples)):
        check.same(ours, llama.tokenize(sample.encode(), add_bos=True, special=False), f"{name}: tokens of {sample!r}")
    out = folder / "evaluate.json"
    fewbit("evaluate", model, "--text", text, "--split", MARK, "--max-documents", len(documents), "--context", CONTEXT,
           "--activations", "f32", "--fallback", "allow", "--json", out)
    ours = json.loads(out.read_text())
    nll, count = their_nll(llama, documents)
    llama.close()
    theirs = float(np.exp(nll))
    difference = theirs / ours["perplexity"] - 1
    check.same(count, ours["tokens"], f"{name}: predictions")
    check(abs(difference) <= most, f"{name}: perplexity {theirs}, fewbit {ours['perplexity']} ({difference:+.4%})")
    print(f"{name:36} {count:7} predictions   fewbit {ours['perplexity']:10.5f}   llama.cpp {theirs:10.5f}   {difference:+.4%}",
          flush=True)


def main():
    print(f"llama-cpp-python {llama_cpp.__version__}, numpy {version('numpy')}, Python {sys.version.split()[0]}")
    # llama.cpp prints to stderr whatever it does; only errors are kept. The callback has to live as long as it does.
    quiet = llama_cpp.llama_log_callback(
        lambda level, message, _: level == 4 and sys.stderr.write(message.decode("utf-8", "replace")) and None)
    llama_cpp.llama_log_set(quiet, ctypes.c_void_p(0))
    with tempfile.TemporaryDirectory(prefix="fewbit-readers-") as temporary:
        folder = pathlib.Path(temporary)
        text = folder / "made.txt"
        documents = made_documents()
        text.write_text(MARK.join(documents), encoding="utf-8")
        every = ["--keep", ""]
        # In tq2_0 nothing is left of the model, and rounding moves what it says at random.
        exact, rounded, ruined = 1e-4, 5e-3, 0.1
        cases = [("embedded", EMBEDDED, [], text, documents,
                  [("f32", every, exact), ("f16", every, rounded), ("q8_0", every, rounded), ("q4_0", every, rounded),
                   ("q5_1", every, rounded), ("iq4_nl", every, rounded), ("mxfp4", every, rounded),
                   ("iq4_xs", every, rounded), ("q2_k", every, rounded), ("q3_k", every, rounded), ("q4_k", every, rounded),
                   ("q5_k", every, rounded), ("q6_k", every, rounded), ("tq2_0", every, ruined),
                   ("q4_k_m", [], rounded), ("q2_k_m", [], rounded)])]
        shared = stories()
        if shared:
            tales = pathlib.Path(SHARED) / "text/tinystories.txt"
            first = [d.strip(" \t\n\v\f\r") for d in tales.read_text(encoding="utf-8").split(MARK)]
            first = [d for d in first if d][:20]
            ragged = [*every, "--tensor-format", "ffn_down=f32"]  # K = 172 fills no blocks of 32
            formats = [("f32", every, exact), ("q8_0", ragged, rounded), ("q4_0", ragged, rounded), ("q4_k_m", [], rounded)]
            cases += [("stories260K.bin", shared / "stories260K.bin", ["--tokenizer", shared / "tok512.bin"], tales, first,
                       formats),
                      ("stories260K.gguf", shared / "stories260K.gguf", [], tales, first, formats)]
        for name, source, extra, text, documents, formats in cases:
            for format, arguments, most in formats:
                if sys.argv[1:] and not any(part in f"{name}-{format}" for part in sys.argv[1:]):
                    continue
                model = folder / f"{name}-{format}.gguf"
                fewbit("quantize", source, "-o", model, "--format", format, *arguments, *extra)
                run(f"{name} in {format}", model, text, documents, folder, most)
                model.unlink()
    check.finish()


main()
