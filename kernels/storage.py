"""Loads and stores of real numbers in any storage format: in TensorIR, and in numpy as their reference."""

from __future__ import annotations

from typing import Any

import numpy as np
from tvm import tirx

from edgeprune.kernels.abi import Format
from edgeprune.kernels.vector_math import constant, lanes_of, maximum, minimum


def centred(value: Any, format: Format) -> Any:
    """The float32 expression of `stored - zero` of stored values: whole numbers, exact; float32 stays as it is."""
    if not format.quantized:
        return value
    real = tirx.Cast(_vector("float32", lanes_of(value)), value)
    return real - constant(float(format.zero), real) if format.zero else real


def real(value: Any, format: Format) -> Any:
    """The float32 expression of the numbers that stored values stand for."""
    if not format.quantized:
        return value
    whole = centred(value, format)
    return whole * constant(format.scale, whole)


def on_grid(value: Any, format: Format) -> Any:
    """`stored - zero` as float32 of a float32 expression that is stored in `format`, rounded and within bounds."""
    scaled = value * constant(reciprocal(format), value)
    low, high = float(format.low - format.zero), float(format.high - format.zero)
    return tirx.nearbyint(minimum(maximum(scaled, low), high))


def rounded(value: Any, format: Format) -> Any:
    """The nearest number to a float32 expression that `format` can store."""
    whole = on_grid(value, format)
    return whole * constant(format.scale, whole)


def stored(value: Any, format: Format) -> Any:
    """What a buffer of `format` holds of a float32 expression."""
    if not format.quantized:
        return value
    lanes = lanes_of(value)
    whole = tirx.Cast(_vector("int32", lanes), on_grid(value, format))
    if format.zero:
        zero = tirx.IntImm("int32", format.zero)
        whole = whole + (zero if lanes == 1 else tirx.Broadcast(zero, lanes))
    return tirx.Cast(_vector(format.dtype, lanes), whole)


def reciprocal(format: Format) -> float:
    """What a value is multiplied by before it is rounded: 1 / scale in float32."""
    return float(np.float32(1.0) / np.float32(format.scale))


def read_array(array: np.ndarray, format: Format) -> np.ndarray:
    """The float32 numbers that a stored array stands for."""
    if not format.quantized:
        return array.astype(np.float32)
    return (array.astype(np.float32) - np.float32(format.zero)) * np.float32(format.scale)


def written_array(array: np.ndarray, format: Format) -> np.ndarray:
    """What a buffer of `format` holds of a float32 array."""
    if not format.quantized:
        return array.astype(np.float32)
    scaled = array.astype(np.float32) * np.float32(reciprocal(format))
    whole = np.rint(np.clip(scaled, np.float32(format.low - format.zero), np.float32(format.high - format.zero)))
    return (whole.astype(np.int32) + format.zero).astype(format.dtype)


def _vector(dtype: str, lanes: int) -> str:
    return dtype if lanes == 1 else f"{dtype}x{lanes}"
