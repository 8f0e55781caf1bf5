"""fewbit, and the limits of the machine, through libfewbit_peer.so (fewbit_peer.cpp)."""

from __future__ import annotations

import ctypes
from ctypes import c_char_p, c_double, c_size_t, c_void_p
from pathlib import Path

import numpy as np

from subject import Missing


def address(array: np.ndarray) -> c_void_p:
    assert array.flags.c_contiguous and array.dtype == np.float32
    return c_void_p(array.ctypes.data)


class Library:
    def __init__(self, path: Path):
        if not path.exists():
            raise Missing(f"there is no {path}; build the target fewbit_peer")
        self.c = ctypes.CDLL(str(path))
        for name, result, arguments in (
            ("error", c_char_p, []),
            ("threads", None, [c_size_t]),
            ("weights", c_void_p, [c_char_p, c_char_p, c_void_p, c_size_t, c_size_t, c_size_t]),
            ("free", None, [c_void_p]),
            ("bytes", c_size_t, [c_void_p]),
            ("multiply", c_char_p, [c_void_p, c_size_t, c_void_p, c_size_t, c_void_p]),
            ("limits", c_size_t, [c_size_t]),
            ("limit_name", c_char_p, [c_size_t]),
            ("limit_how", c_char_p, [c_size_t]),
            ("limit", c_double, [c_size_t]),
        ):
            function = getattr(self.c, f"fewbit_peer_{name}")
            function.restype, function.argtypes = result, arguments
            setattr(self, name, function)

    def complaint(self) -> str:
        return self.error().decode()


class FewbitProduct:
    def __init__(self, library: Library, work: str, activations: str, w: np.ndarray, copies: int):
        self.library = library
        self.n, self.k = w.shape
        self.handle = library.weights(work.encode(), activations.encode(), address(w), self.n, self.k, copies)
        if not self.handle:
            raise Missing(f"fewbit: {library.complaint()}")
        self.weight_bytes = library.bytes(self.handle)
        self.kernel = ""

    def bind(self, x: np.ndarray) -> None:
        self.x = np.ascontiguousarray(x)
        self.y = np.zeros((x.shape[0], self.n), np.float32)
        self.x_at, self.y_at, self.m = address(self.x), address(self.y), x.shape[0]

    def run(self, copy: int) -> None:
        name = self.library.multiply(self.handle, copy, self.x_at, self.m, self.y_at)
        if name is None:
            raise Missing(f"fewbit: {self.library.complaint()}")
        self.kernel = name.decode()

    def answer(self) -> np.ndarray:
        return self.y

    def rest(self) -> None:
        pass  # its threads sleep between products

    def __del__(self) -> None:
        if getattr(self, "handle", None):
            self.library.free(self.handle)


class Limits:
    """The best way of each kind for the number of threads in use, measured again whenever it is asked for."""

    def __init__(self, library: Library, cache_bytes: int):
        self.library = library
        self.count = library.limits(8 * cache_bytes)
        self.chosen: dict[str, int] = {}

    def choose(self) -> None:
        best: dict[str, float] = {}
        for i in range(self.count):
            value = sorted(self.library.limit(i) for _ in range(3))[1]
            name = self.library.limit_name(i).decode()
            if value > best.get(name, 0):
                best[name], self.chosen[name] = value, i

    def fastest(self, names: tuple[str, ...]) -> str:
        there = [name for name in names if name in self.chosen]
        return max(there, key=self.once) if there else ""

    def once(self, name: str) -> float:
        return self.library.limit(self.chosen[name]) if name in self.chosen else 0.0

    def how(self, name: str) -> str:
        return self.library.limit_how(self.chosen[name]).decode() if name in self.chosen else ""
