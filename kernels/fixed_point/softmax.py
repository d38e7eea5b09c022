"""int8 softmax in integers alone, bit for bit as TFLite's reference: exponentials from a table, one reciprocal a row.

Source: TFLite's reference softmax over gemmlowp's fixed-point exponential and reciprocal (beta 1).
"""

from __future__ import annotations

from functools import lru_cache
from math import floor
from typing import Any

import numpy as np
from tvm import tirx
from tvm.tirx.script import builder

from edgeprune.kernels import script
from edgeprune.kernels.abi import Format, Kernel, Machine, View
from edgeprune.kernels.epilogue import element
from edgeprune.kernels.fixed_point.arithmetic import multiplier_of, rescaled
from edgeprune.kernels.fixed_point.exponential import (
    MINUS_32_OVER_17,
    RATIO_48_OVER_17,
    exp_of_negative,
    halved,
    one_over_one_plus,
    product,
)
from edgeprune.kernels.fixed_point.gather import hidden, rolled
from edgeprune.kernels.fixed_point.gather_assembly import HIDE_FUNCTION
from edgeprune.kernels.fixed_point.rescaling import kept, whole
from edgeprune.kernels.script import Memory

_INPUT_BITS = 5
_SUM_BITS = 12
_LARGEST = 2**31 - 1
_LEAST = 1 << (_SUM_BITS - 1)
"""Exponentials below add nothing to a sum, and are nothing of any sum."""

_MOST = 1 << _SUM_BITS
"""Elements of a row below which the sum of exponentials fits int32."""


def softmax_exponentials(x: Format) -> np.ndarray:
    """int32: exp of minus each difference to a row's maximum, no integer bits; 0 where TFLite leaves it out.

    The last stands for all that follow, which are too small to matter.
    """
    scaled = min(float(np.float32(x.scale)) * (1 << (31 - _INPUT_BITS)), _LARGEST)
    factor = multiplier_of(scaled)
    radius = floor(((1 << _INPUT_BITS) - 1) * (1 << (31 - _INPUT_BITS)) / 2.0**factor.shift)
    differences = np.arange(256, dtype=np.int64)
    seen = differences <= radius
    values = rescaled(np.where(seen, -differences, 0), factor.value, factor.shift).astype(np.int64)
    found = np.where(seen, exp_of_negative(values, _INPUT_BITS), 0).astype(np.int32)
    return found[: max(1, int((found >= _LEAST).sum())) + 1]


def fixed_softmax(x: np.ndarray, format: Format) -> np.ndarray:
    """int8 softmax of int8 `x` along its last axis, on the grid of scale 1/256 and zero -128."""
    wide = x.astype(np.int64)
    table = softmax_exponentials(format).astype(np.int64)
    exponentials = table[np.minimum(wide.max(axis=-1, keepdims=True) - wide, len(table) - 1)]
    sums = halved(exponentials, _SUM_BITS).sum(axis=-1, keepdims=True)
    headroom = 32 - np.frexp(sums.astype(np.float64))[1]
    reciprocal = one_over_one_plus((sums << headroom) - (1 << 31))
    results = halved(product(reciprocal, exponentials), _SUM_BITS - headroom + 31 - 8) - 128
    return np.clip(results, -128, 127).astype(np.int8)


def build_fixed_softmax(x: View, y: View, machine: Machine) -> Kernel:
    """The kernel of y = softmax of each row of x, matrices as images of one row; y may take the place of x.

    A unit is a row. Raises ValueError where rows do not lie together, are too long for an int32 sum, or y has
    another grid than scale 1/256 and zero -128.
    """
    if x.channel_stride != 1 or y.channel_stride != 1 or (x.width, x.channels) != (y.width, y.channels):
        raise ValueError("a softmax of integers needs two matrices of one size whose rows lie together")
    if x.channels >= _MOST:
        raise ValueError(f"a softmax of integers takes rows of less than {_MOST} elements, not {x.channels}")
    if y.format.zero != -128 or abs(y.format.scale * 256 - 1) > 1e-6:
        raise ValueError("a softmax of integers gives results of scale 1/256 and zero -128")
    table = softmax_exponentials(x.format)
    func = _function(x, y, len(table) - 1)
    return Kernel(func, x.width, (table,), "fixed softmax", overlaps=(_overlap(x, y),))


def _overlap(x: View, y: View) -> int:
    """Rows are read before they are written; the first and the last row bind."""
    first = x.offset - y.offset
    return min(first, first + (x.width - 1) * (x.pixel_stride - y.pixel_stride))


@lru_cache(maxsize=256)
def _function(x: View, y: View, last: int) -> Any:
    """The function over (x, exponentials up to the difference `last`, y)."""

    def body(memories: list[Memory], begin: Any, end: Any) -> None:
        hide = builder.attr(whole(0), "pragma_import_llvm", HIDE_FUNCTION)
        with hide, script.serial(begin, end) as row:
            source, target = script.let(element(x, 0, 0, 0, row)), script.let(element(y, 0, 0, 0, row))
            _row(memories, source, target, x.channels, last)

    return script.kernel_function(["int8", "int32", "int8"], body)


def _row(memories: list[Memory], source: Any, target: Any, size: int, last: int) -> None:
    x, table, y = memories
    held = script.local_array(2, "int32")
    held.store(0, whole(-128))

    def element_of(each: Any) -> Any:
        return hidden(tirx.Cast("int32", x.load(source + each)))

    with rolled(size) as each:
        held.store(0, tirx.max(held.load(0), element_of(each)))
    largest = kept(held.load(0))

    def exponential(each: Any) -> Any:
        difference = largest - element_of(each)
        return script.let(table.load(tirx.min(difference, whole(last))))

    held.store(1, whole(0))
    with rolled(size) as each:
        held.store(1, held.load(1) + (((exponential(each) >> (_SUM_BITS - 1)) + 1) >> 1))
    total = kept(held.load(1))
    headroom = kept(tirx.Cast("int32", tirx.clz(total)))
    reciprocal = _one_over_one_plus(kept((total << headroom) & whole(_LARGEST)))
    shift = kept(tirx.min(whole(_SUM_BITS + 31 - 8 - 1) - headroom, whole(31)))
    with rolled(size) as each:
        fraction = script.let(_product(reciprocal, exponential(each)))
        result = (((fraction >> shift) + 1) >> 1) - 128
        y.store(target + each, tirx.Cast("int8", tirx.min(result, whole(127))))


def _product(left: Any, right: Any) -> Any:
    """The product of two int32 expressions as a fraction of 2**31, to the nearest, halves upward."""
    wide = tirx.Cast("int64", left) * tirx.Cast("int64", right) + tirx.IntImm("int64", 1 << 30)
    return kept(tirx.Cast("int32", wide >> tirx.IntImm("int64", 31)))


def _one_over_one_plus(value: Any) -> Any:
    """1 / (1 + value) of an int32 expression in [0, 1) without integer bits, by Newton's steps."""
    half = kept((value >> 1) + whole(1 << 30))
    held = script.local_array(1, "int32")
    held.store(0, _product(half, whole(MINUS_32_OVER_17)) + whole(RATIO_48_OVER_17))
    with rolled(3):
        x = kept(hidden(held.load(0)))
        held.store(0, x + (_product(x, whole(1 << 29) - _product(half, x)) << 2))
    x = kept(held.load(0))
    return kept(tirx.Select(x > whole((1 << 30) - 1), whole(_LARGEST), x << 1))
