"""OpenBLAS' sgemm, from the system or as numpy brings it, and oneDNN's u8 x s8 product from the system.

oneDNN's product takes x as codes: quantizing x and scaling y are not in its time.
"""

from __future__ import annotations

import ctypes
import ctypes.util
from ctypes import c_char, c_float, c_int, c_int32, c_int64, c_void_p
from pathlib import Path

import numpy as np

from subject import Missing, Offer, quantize_rows

ROW_MAJOR, NO_TRANSPOSE, TRANSPOSE = 101, 111, 112


def find_openblas():
    """(sgemm, set_num_threads) of the first OpenBLAS there is."""
    system = ctypes.util.find_library("openblas")
    bundled = sorted((Path(np.__file__).parent.parent / "numpy.libs").glob("libscipy_openblas*"))
    for path, prefix, suffix, integer in ((system, "", "", c_int),
                                          (bundled[0] if bundled else None, "scipy_", "64_", c_int64)):
        if path is None:
            continue
        library = ctypes.CDLL(str(path))
        sgemm = getattr(library, f"{prefix}cblas_sgemm{suffix}", None)
        threads = getattr(library, f"{prefix}openblas_set_num_threads{suffix}", None)
        if sgemm is None or threads is None:
            continue
        sgemm.restype = None
        sgemm.argtypes = [c_int] * 3 + [integer] * 3 + [c_float, c_void_p, integer, c_void_p, integer, c_float,
                                                        c_void_p, integer]
        threads.restype, threads.argtypes = None, [c_int]
        return sgemm, threads
    raise Missing("OpenBLAS: neither Debian's libopenblas nor numpy's copy is here")


class OpenblasProduct:
    def __init__(self, w: np.ndarray, copies: int, threads: int):
        self.sgemm, self.set_threads = find_openblas()
        self.threads = threads
        self.weights = [w.copy() for _ in range(copies)]
        self.weight_bytes = w.nbytes
        self.n, self.k = w.shape

    def bind(self, x: np.ndarray) -> None:
        self.set_threads(self.threads)
        self.x = np.ascontiguousarray(x)
        self.y = np.zeros((x.shape[0], self.n), np.float32)

    def run(self, copy: int) -> None:
        w = self.weights[copy % len(self.weights)]
        self.sgemm(ROW_MAJOR, NO_TRANSPOSE, TRANSPOSE, len(self.x), self.n, self.k, 1.0, self.x.ctypes.data, self.k,
                   w.ctypes.data, self.k, 0.0, self.y.ctypes.data, self.n)

    def answer(self) -> np.ndarray:
        return self.y

    def rest(self) -> None:
        pass


class OnednnProduct:
    def __init__(self, w: np.ndarray, copies: int, threads: int):
        path = ctypes.util.find_library("dnnl")
        if path is None:
            raise Missing("oneDNN: Debian's libdnnl is not installed")
        self.gemm = ctypes.CDLL(path).dnnl_gemm_u8s8s32
        self.gemm.restype = c_int
        self.gemm.argtypes = [c_char] * 3 + [c_int64] * 3 + [
            c_float, c_void_p, c_int64, ctypes.c_uint8, c_void_p, c_int64, ctypes.c_int8, c_float, c_void_p, c_int64,
            c_void_p]
        self.omp, self.threads = ctypes.CDLL(ctypes.util.find_library("gomp")), threads
        codes, self.scales = quantize_rows(w)
        self.weights = [codes.copy() for _ in range(copies)]
        self.weight_bytes = codes.nbytes + self.scales.nbytes
        self.n, self.k = w.shape

    def bind(self, x: np.ndarray) -> None:
        self.omp.omp_set_num_threads(self.threads)
        codes, self.x_scales = quantize_rows(x)
        self.x = (codes.astype(np.int16) + 128).astype(np.uint8)
        self.y = np.zeros((x.shape[0], self.n), np.int32)
        self.offset = c_int32(0)

    def run(self, copy: int) -> None:
        w = self.weights[copy % len(self.weights)]
        self.gemm(b"N", b"T", b"F", len(self.x), self.n, self.k, 1.0, self.x.ctypes.data, self.k, 128, w.ctypes.data,
                  self.k, 0, 0.0, self.y.ctypes.data, self.n, ctypes.addressof(self.offset))

    def answer(self) -> np.ndarray:
        return self.y * self.x_scales[:, None] * self.scales[None, :]

    def rest(self) -> None:
        pass


def offers() -> list[Offer]:
    return [Offer("f32", "OpenBLAS sgemm", OpenblasProduct), Offer("int8-channel", "oneDNN u8s8s32", OnednnProduct)]
