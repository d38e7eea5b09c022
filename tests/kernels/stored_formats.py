"""Formats of stored integers for kernel tests, and buffers of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from edgeprune.kernels.abi import FLOAT32, Format, View

STORAGE = ("pairs", "vnni")


def drawn(random: np.random.Generator, storage: str, spread: float = 4.0) -> Format:
    """A format of a machine whose dot products are of "pairs" (int16 about 0), "vnni" (uint8) or "signed" (int8).

    "float" has none. Real numbers up to about `spread` fit in.
    """
    if storage == "float":
        return FLOAT32
    scale = float(np.float32(spread / 128 * random.uniform(0.7, 1.4)))
    zero = int(random.integers(90, 160))
    if storage == "pairs":
        return Format("int16", scale, 0, -zero, 255 - zero)
    if storage == "signed":
        return Format("int8", scale, zero - 128, -128, 127)
    return Format("uint8", scale, zero, 0, 254)


def held(random: np.random.Generator, size: int, format: Format) -> np.ndarray:
    """`size` random elements of a buffer, ends of the range among them."""
    if not format.quantized:
        return random.standard_normal(size, np.float32)
    values = random.integers(format.low, format.high + 1, size)
    values[random.random(size) < 0.05] = random.choice([format.low, format.high, format.zero])
    return values.astype(format.dtype)


def with_format(view: View, format: Format) -> View:
    """`view` of a buffer of `format`."""
    return replace(view, format=format)


def sentinel(size: int, format: Format) -> np.ndarray:
    """A buffer of a value that no store gives."""
    return np.full(size, 1234.5 if not format.quantized else np.iinfo(format.dtype).max, format.dtype)
