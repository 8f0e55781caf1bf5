"""ggml's mul_mat on the CPU, from the libraries that llama-cpp-python brings.

Weights of 4 bits are measured twice: as they lie in files, and repacked as ggml does it when it loads a model.
"""

from __future__ import annotations

import ctypes
import importlib.util
from ctypes import POINTER, Structure, byref, c_bool, c_char_p, c_int, c_int64, c_size_t, c_uint32, c_void_p
from functools import cache
from pathlib import Path

import numpy as np

from subject import Factory, Missing, Offer

# ggml.h: enum ggml_type
TYPES = {"f32": 0, "f16": 1, "q4_0": 2, "q8_0": 8, "q4_K": 12, "bf16": 30}
F32 = TYPES["f32"]


class InitParams(Structure):
    _fields_ = [("mem_size", c_size_t), ("mem_buffer", c_void_p), ("no_alloc", c_bool)]


class ThreadpoolParams(Structure):
    _fields_ = [("cpumask", c_bool * 512), ("n_threads", c_int), ("prio", c_int), ("poll", c_uint32),
                ("strict_cpu", c_bool), ("paused", c_bool)]


@ctypes.CFUNCTYPE(None, c_int, c_char_p, c_void_p)
def silent(level: int, message: bytes, data: int) -> None:
    """ggml reports each matrix that it repacks."""


SIGNATURES = {
    "ggml_log_set": (None, [c_void_p, c_void_p]),
    "ggml_init": (c_void_p, [InitParams]),
    "ggml_free": (None, [c_void_p]),
    "ggml_new_tensor_2d": (c_void_p, [c_void_p, c_int, c_int64, c_int64]),
    "ggml_mul_mat": (c_void_p, [c_void_p, c_void_p, c_void_p]),
    "ggml_new_graph_custom": (c_void_p, [c_void_p, c_size_t, c_bool]),
    "ggml_build_forward_expand": (None, [c_void_p, c_void_p]),
    "ggml_row_size": (c_size_t, [c_int, c_int64]),
    "ggml_quantize_chunk": (c_size_t, [c_int, c_void_p, c_void_p, c_int64, c_int64, c_int64, c_void_p]),
    "ggml_threadpool_params_default": (ThreadpoolParams, [c_int]),
    "ggml_threadpool_new": (c_void_p, [POINTER(ThreadpoolParams)]),
    "ggml_threadpool_free": (None, [c_void_p]),
    "ggml_threadpool_pause": (None, [c_void_p]),
    "ggml_threadpool_resume": (None, [c_void_p]),
    "ggml_backend_cpu_init": (c_void_p, []),
    "ggml_backend_cpu_set_n_threads": (None, [c_void_p, c_int]),
    "ggml_backend_cpu_set_threadpool": (None, [c_void_p, c_void_p]),
    "ggml_backend_cpu_buffer_type": (c_void_p, []),
    "ggml_backend_cpu_reg": (c_void_p, []),
    "ggml_backend_reg_dev_get": (c_void_p, [c_void_p, c_size_t]),
    "ggml_backend_reg_get_proc_address": (c_void_p, [c_void_p, c_char_p]),
    "ggml_backend_buft_name": (c_char_p, [c_void_p]),
    "ggml_backend_dev_supports_op": (c_bool, [c_void_p, c_void_p]),
    "ggml_backend_alloc_ctx_tensors_from_buft": (c_void_p, [c_void_p, c_void_p]),
    "ggml_backend_buffer_free": (None, [c_void_p]),
    "ggml_backend_buffer_set_usage": (None, [c_void_p, c_int]),
    "ggml_backend_tensor_set": (None, [c_void_p, c_void_p, c_size_t, c_size_t]),
    "ggml_backend_tensor_get": (None, [c_void_p, c_void_p, c_size_t, c_size_t]),
    "ggml_backend_graph_compute": (c_int, [c_void_p, c_void_p]),
    "ggml_backend_free": (None, [c_void_p]),
}


class Ggml:
    def __init__(self) -> None:
        package = importlib.util.find_spec("llama_cpp")
        if package is None or package.origin is None:
            raise Missing("ggml: the package llama-cpp-python is not installed")
        folder = Path(package.origin).parent / "lib"
        loaded = []
        for stem in ("libggml-base", "libggml-cpu", "libggml"):
            found = sorted(folder.glob(f"{stem}.so")) or sorted(folder.glob(f"{stem}.so.*"))
            if not found:
                raise Missing(f"ggml: there is no {stem} in {folder}")
            loaded.append(ctypes.CDLL(str(found[0]), mode=ctypes.RTLD_GLOBAL))
        for name, (result, arguments) in SIGNATURES.items():
            holder = next((library for library in loaded if hasattr(library, name)), None)
            if holder is None:
                raise Missing(f"ggml: {name} is not in this version of llama-cpp-python")
            function = getattr(holder, name)
            function.restype, function.argtypes = result, arguments
            setattr(self, name.removeprefix("ggml_"), function)
        self.log_set(ctypes.cast(silent, c_void_p), None)
        registry = self.backend_cpu_reg()
        self.device = self.backend_reg_dev_get(registry, 0)
        self.plain = self.backend_cpu_buffer_type()
        extra = self.backend_reg_get_proc_address(registry, b"ggml_backend_dev_get_extra_bufts")
        self.repacked = None
        if extra:
            types = ctypes.CFUNCTYPE(POINTER(c_void_p), c_void_p)(extra)(self.device)
            i = 0
            while types and types[i]:
                if b"REPACK" in self.backend_buft_name(types[i]):
                    self.repacked = types[i]
                i += 1

    def context(self, bytes_: int):
        return self.init(InitParams(bytes_, None, True))


@cache
def library() -> Ggml:
    return Ggml()


class GgmlProduct:
    def __init__(self, type_name: str, repacked: bool, w: np.ndarray, copies: int, threads: int):
        self.g = g = library()
        if repacked and g.repacked is None:
            raise Missing(f"ggml {type_name}: this build does not repack")
        self.n, self.k = w.shape
        self.type = TYPES[type_name]
        self.weight_bytes = g.row_size(self.type, self.k) * self.n
        self.bound = None
        self.pool = None
        self.backend = g.backend_cpu_init()
        g.backend_cpu_set_n_threads(self.backend, threads)
        parameters = g.threadpool_params_default(threads)
        self.pool = g.threadpool_new(byref(parameters))
        g.backend_cpu_set_threadpool(self.backend, self.pool)

        self.context = g.context(1 << 20)
        self.weights = [g.new_tensor_2d(self.context, self.type, self.k, self.n) for _ in range(copies)]
        self.buffer = g.backend_alloc_ctx_tensors_from_buft(self.context, g.repacked if repacked else g.plain)
        g.backend_buffer_set_usage(self.buffer, 1)  # weights
        if repacked and not self._accepted():
            raise Missing(f"ggml {type_name}: not repacked on this CPU")
        blocks = np.empty(self.weight_bytes, np.uint8)
        if self.type == F32:
            blocks = w
        else:
            g.quantize_chunk(self.type, w.ctypes.data, blocks.ctypes.data, 0, self.n, self.k, None)
        for tensor in self.weights:
            g.backend_tensor_set(tensor, blocks.ctypes.data, 0, self.weight_bytes)

    def _accepted(self) -> bool:
        """Whether the buffer's kernels multiply with these weights; it would crash on others."""
        context = self.g.context(1 << 16)
        x = self.g.new_tensor_2d(context, F32, self.k, 1)
        accepted = self.g.backend_dev_supports_op(self.g.device, self.g.mul_mat(context, self.weights[0], x))
        self.g.free(context)
        return accepted

    def _unbind(self) -> None:
        if self.bound is not None:
            self.g.backend_buffer_free(self.bound[1])
            self.g.free(self.bound[0])
            self.bound = None

    def bind(self, x: np.ndarray) -> None:
        self._unbind()
        g, self.m = self.g, x.shape[0]
        context = g.context((1 << 20) + len(self.weights) * 32768)
        x_tensor = g.new_tensor_2d(context, F32, self.k, self.m)
        self.products = [g.mul_mat(context, w, x_tensor) for w in self.weights]
        self.graphs = []
        for product in self.products:
            graph = g.new_graph_custom(context, 16, False)
            g.build_forward_expand(graph, product)
            self.graphs.append(graph)
        buffer = g.backend_alloc_ctx_tensors_from_buft(context, g.plain)
        self.bound = (context, buffer)
        x = np.ascontiguousarray(x, np.float32)
        g.backend_tensor_set(x_tensor, x.ctypes.data, 0, x.nbytes)
        self.g.threadpool_resume(self.pool)
        self.resting = False

    def run(self, copy: int) -> None:
        self.last = copy % len(self.graphs)
        if self.resting:
            self.g.threadpool_resume(self.pool)
            self.resting = False
        if self.g.backend_graph_compute(self.backend, self.graphs[self.last]) != 0:
            raise RuntimeError("ggml: the graph failed")

    def answer(self) -> np.ndarray:
        y = np.empty((self.m, self.n), np.float32)
        self.g.backend_tensor_get(self.products[self.last], y.ctypes.data, 0, y.nbytes)
        return y

    def rest(self) -> None:
        self.g.threadpool_pause(self.pool)
        self.resting = True

    def __del__(self) -> None:
        self._unbind()
        if getattr(self, "buffer", None):
            self.g.backend_buffer_free(self.buffer)
            self.g.free(self.context)
        if getattr(self, "backend", None):
            self.g.backend_free(self.backend)
            self.g.threadpool_free(self.pool)


def offers() -> list[Offer]:
    library()

    def make(type_name: str, repacked: bool) -> Factory:
        return lambda w, copies, threads: GgmlProduct(type_name, repacked, w, copies, threads)

    return [
        *(Offer(work, f"ggml {name}{' repacked' if repacked else ''}", make(name, repacked))
          for work, name in (("int4-g32", "q4_0"), ("q4_0", "q4_0"), ("q4_k", "q4_K"), ("q8_0", "q8_0"))
          for repacked in (False, True)),
        Offer("bf16", "ggml bf16", make("bf16", False)),
        Offer("bf16", "ggml f16", make("f16", False)),
        Offer("f32", "ggml f32", make("f32", False)),
    ]
