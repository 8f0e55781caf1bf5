"""What is timed: one library's product with one matrix, and the arithmetic that all of them share."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Callable, Iterator, Protocol

import numpy as np


class Missing(Exception):
    """A library, or something in it, is not here; the text says what."""


class Subject(Protocol):
    """y = x W^T with `copies` equal matrices W at different places in memory."""

    weight_bytes: int  # of one copy, as the library keeps it

    def bind(self, x: np.ndarray) -> None:
        """Takes x (m, k), f32. Not timed: libraries get x in the type in which they want it."""

    def run(self, copy: int) -> None:
        """One product. This is what is timed."""

    def answer(self) -> np.ndarray:
        """y (m, n) of the last run."""

    def rest(self) -> None:
        """Threads stop spinning, so that the next subject has the machine to itself."""


# (w, copies, threads) -> Subject
Factory = Callable[[np.ndarray, int, int], Subject]


@dataclass
class Offer:
    """A library's product for one kind of work."""

    work: str
    label: str
    make: Factory


@dataclass
class Work:
    """What fewbit computes, and how far an answer may be from the product of the float matrices."""

    name: str
    activations: str
    bits_per_weight: float
    peak: tuple[str, ...]  # limits of arithmetic; the fastest that is there counts
    # Errors of rounding W to its grid and x to 8 bits, normal data, with room for the worst grid in use: one step of
    # absmax scaling is 2 * 2.2 sigma / 2^b for 32 weights, 2 * 2.7 for 128, 2 * 4.1 for a row; NMSE = step^2 / 12.
    nmse_most: float


WORKS = {
    work.name: work
    for work in (
        Work("int4-g32", "int8-g32", 4.5, ("dot-int8", "dot-int4"), 2e-2),
        Work("int4-g128", "int8-g128", 4.125, ("dot-int8", "dot-int4"), 2e-2),
        Work("q4_0", "int8-g32", 4.5, ("dot-int8", "dot-int4"), 2e-2),
        Work("q4_k", "int8-g256", 4.5, ("dot-int8", "dot-int4"), 2e-2),
        Work("q8_0", "int8-g32", 8.5, ("dot-int8",), 5e-4),
        Work("int8-channel", "int8-row", 8.0, ("dot-int8",), 5e-4),
        Work("bf16", "f32", 16.0, ("fma-f32", "dot-bf16"), 2e-5),
        Work("f32", "f32", 32.0, ("fma-f32",), 1e-10),
    )
}


def nmse(y: np.ndarray, expected: np.ndarray) -> float:
    """Mean squared error over mean square; infinite for NaN or another shape."""
    if y.shape != expected.shape:
        return math.inf
    error = np.square(y.astype(np.float64) - expected).sum() / np.square(expected).sum()
    return float(error) if np.isfinite(error) else math.inf


def blocks_of(rows: int, most: int = 1024) -> Iterator[slice]:
    for begin in range(0, rows, most):
        yield slice(begin, min(rows, begin + most))


def quantize_groups(w: np.ndarray, group: int) -> tuple[np.ndarray, np.ndarray]:
    """Codes -8..7 (n, k) as int8 and scales (n, k / group) in f32: w = scale * code, all 16 codes in use."""
    n, k = w.shape
    codes = np.empty((n, k), np.int8)
    scales = np.empty((n, k // group), np.float32)
    for rows in blocks_of(n):
        part = w[rows].reshape(-1, k // group, group)
        place = np.abs(part).argmax(axis=2, keepdims=True)
        scale = np.take_along_axis(part, place, axis=2) / np.float32(-8)
        scale[scale == 0] = 1
        codes[rows] = np.clip(np.rint(part / scale), -8, 7).reshape(-1, k)
        scales[rows] = scale[:, :, 0]
    return codes, scales


def quantize_rows(w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Codes -127..127 (n, k) as int8 and scales (n,) in f32."""
    scales = (np.abs(w).max(axis=1) / np.float32(127)).astype(np.float32)
    scales[scales == 0] = 1
    codes = np.empty(w.shape, np.int8)
    for rows in blocks_of(w.shape[0]):
        codes[rows] = np.rint(w[rows] / scales[rows, None])
    return codes, scales


def nibbles(codes: np.ndarray) -> np.ndarray:
    """Unsigned codes (code + 8) of 4 bits, two in a byte, the first in the low half."""
    unsigned = (codes + 8).astype(np.uint8)
    return unsigned[:, 0::2] | (unsigned[:, 1::2] << 4)
