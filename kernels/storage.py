"""Loads and stores of real numbers in any storage format: in TensorIR, and in numpy as their reference.

Expressions are float32; what takes float16 too says so.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from tvm import tirx

from edgeprune.kernels.abi import Format
from edgeprune.kernels.vector_math import constant, lanes_of, maximum, minimum, real_type


def converted(value: Any, dtype: str) -> Any:
    """An expression as another type of as many lanes."""
    return value if _scalar(value) == dtype else tirx.Cast(_vector(dtype, lanes_of(value)), value)


def centred(value: Any, format: Format) -> Any:
    """The float32 expression of `stored - zero` of stored values: whole numbers, exact; real numbers stay."""
    if not format.quantized:
        return converted(value, "float32")
    real = converted(value, "float32")
    return real - constant(float(format.zero), real) if format.zero else real


def real(value: Any, format: Format) -> Any:
    """The float32 expression of the numbers that stored values stand for."""
    if not format.quantized:
        return converted(value, "float32")
    whole = centred(value, format)
    return apart(whole * constant(format.scale, whole))


def apart(value: Any) -> Any:
    """A float32 product rounded by itself: it is not fused with a sum that it goes into."""
    return tirx.call_llvm_pure_intrin(_vector("float32", lanes_of(value)), "llvm.arithmetic.fence", value)


def added(value: Any, addend: Any, format: Format) -> Any:
    """A float32 or float16 expression plus the numbers that stored values stand for, of the type of the first.

    Integers are scaled and added with one rounding where the target has an instruction for it, with two elsewhere.
    """
    if not format.quantized:
        return value + converted(addend, real_type(value))
    whole = centred(addend, format)
    return multiplied_and_added(whole, constant(format.scale, whole), value)


def multiplied_and_added(left: Any, right: Any, addend: Any) -> Any:
    """left * right + addend of float32 expressions, with one rounding where the target can, with two elsewhere."""
    return tirx.call_llvm_pure_intrin(_vector("float32", lanes_of(addend)), "llvm.fmuladd", left, right, addend)


def on_grid(value: Any, format: Format) -> Any:
    """`stored - zero` as float32 of a float32 expression that is stored in `format`, rounded and within bounds."""
    return tirx.nearbyint(_bounded(value, format))


def rounded(value: Any, format: Format) -> Any:
    """The nearest number to a float32 expression that `format` can store on its grid; real formats change nothing."""
    if not format.quantized:
        return value
    whole = on_grid(value, format)
    return apart(whole * constant(format.scale, whole))


def stored(value: Any, format: Format) -> Any:
    """What a buffer of `format` holds of a float32 expression; of a float16 one where the format is of real numbers."""
    if not format.quantized:
        return converted(value, format.dtype)
    whole = on_grid_integer(value, format)
    return placed(_narrowed(whole, "int16") if format.itemsize == 1 else whole, format)


def on_grid_integer(value: Any, format: Format) -> Any:
    """As `on_grid`, in int32."""
    return tirx.call_llvm_pure_intrin(_vector("int32", lanes_of(value)), "llvm.lrint", _bounded(value, format))


def placed(whole: Any, format: Format) -> Any:
    """What a buffer of `format` holds of `stored - zero` in integers that are wide enough."""
    return _narrowed(_shifted(whole, format.zero), format.dtype)


def reciprocal(format: Format) -> float:
    """What a value is multiplied by before it is rounded: 1 / scale in float32."""
    return float(np.float32(1.0) / np.float32(format.scale))


def read_array(array: np.ndarray, format: Format) -> np.ndarray:
    """The float32 numbers that a stored array stands for."""
    if not format.quantized:
        return array.astype(np.float32)
    return centred_array(array, format) * np.float32(format.scale)


def centred_array(array: np.ndarray, format: Format) -> np.ndarray:
    """`stored - zero` of a stored array as float32; float32 stays as it is."""
    return array.astype(np.float32) - np.float32(format.zero)


def added_array(value: np.ndarray, addend: np.ndarray, format: Format, fused: bool = True) -> np.ndarray:
    """A float32 array plus the numbers that the stored array `addend` stands for; `fused`: with one rounding."""
    if not format.quantized or not fused:
        return value + read_array(addend, format)
    product = centred_array(addend, format).astype(np.float64) * np.float64(np.float32(format.scale))
    return (value.astype(np.float64) + product).astype(np.float32)


def written_array(array: np.ndarray, format: Format) -> np.ndarray:
    """What a buffer of `format` holds of a float32 array."""
    if not format.quantized:
        return array.astype(format.dtype)
    scaled = array.astype(np.float32) * np.float32(reciprocal(format))
    whole = np.rint(np.clip(scaled, np.float32(format.low - format.zero), np.float32(format.high - format.zero)))
    return (whole.astype(np.int32) + format.zero).astype(format.dtype)


def rounded_array(array: np.ndarray, format: Format) -> np.ndarray:
    """The nearest numbers to a float32 array that `format` can store."""
    return read_array(written_array(array, format), format)


def _bounded(value: Any, format: Format) -> Any:
    """A float32 expression in units of the scale, between the centred bounds."""
    scaled = value * constant(reciprocal(format), value)
    low, high = float(format.low - format.zero), float(format.high - format.zero)
    return minimum(maximum(scaled, low), high)


def _narrowed(value: Any, dtype: str) -> Any:
    """Integers that fit into `dtype`; the bounds let the compiler take instructions that pack with saturation."""
    lanes = lanes_of(value)
    if _scalar(value) == dtype:
        return value
    if lanes > 1:
        bounds = np.iinfo(dtype)
        low, high = (constant(int(bound), value, _scalar(value)) for bound in (bounds.min, bounds.max))
        value = tirx.min(tirx.max(value, low), high)
    return tirx.Cast(_vector(dtype, lanes), value)


def _shifted(value: Any, zero: int) -> Any:
    return value + constant(zero, value, _scalar(value)) if zero else value


def _scalar(value: Any) -> str:
    """The type of one lane, as numpy names it."""
    return str(value.ty).partition("x")[0]


def _vector(dtype: str, lanes: int) -> str:
    return dtype if lanes == 1 else f"{dtype}x{lanes}"
