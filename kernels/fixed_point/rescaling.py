"""TensorIR expressions of fixed-point rescaling by a factor that is known when the kernel is made."""

from __future__ import annotations

from typing import Any

import numpy as np
from tvm import tirx

from edgeprune.kernels import script
from edgeprune.kernels.abi import View
from edgeprune.kernels.fixed_point.arithmetic import Multiplier

_LARGEST = 2**31 - 1
_MOST = 22
"""Shifts beyond the high word up to which an int8 zero can be added before the shift."""


def whole(value: int) -> Any:
    """An int32 constant."""
    return tirx.IntImm("int32", value)


def int32_of(bits: int) -> Any:
    """The int32 constant of these 32 bits."""
    return whole((bits & 0xFFFFFFFF) - ((bits & 0x80000000) << 1))


def high_word(left: Any, right: Any) -> Any:
    """The upper 32 bits of the product of two int32 expressions."""
    product = tirx.Cast("int64", left) * tirx.Cast("int64", right)
    return tirx.Cast("int32", product >> tirx.IntImm("int64", 32))


def bounded(value: Any, low: int, high: int) -> Any:
    """`value` kept to [low, high]; LLVM finds the saturating instruction where the bounds are those of int8."""
    return tirx.min(tirx.max(value, whole(low)), whole(high))


class Held:
    """int32 constants that a kernel reads from memory: LLVM multiplies by those it knows in two instructions more."""

    def __init__(self, memory: script.Memory) -> None:
        self._memory = memory
        self._values: list[int] = []

    def __call__(self, value: int) -> Any:
        """The expression of a constant."""
        if value not in self._values:
            self._values.append(value)
        return self._memory.load(self._values.index(value))

    @property
    def array(self) -> np.ndarray:
        """The constants asked for so far, as the kernel reads them; at least one."""
        return np.array(self._values or [0], np.int32)


def rescaled_by(total: Any, factor: Multiplier, reach: int, zero: int, held: Held, shared: bool = False) -> Any:
    """`zero` plus the int32 expression `total`, of at most `reach` in size, times `factor`, rounded once, half upward.

    Where code is `shared` by many factors the last shift is held too.
    Source: the TFLite 8-bit quantization specification, in its single-rounding form.
    """
    if factor.value == 0 or 31 - factor.shift >= reach.bit_length() + 32:
        return whole(zero)
    moved = max(0, factor.shift + 2)
    shift = moved - 1 - factor.shift
    if (reach << moved) > _LARGEST:
        return _wide(total, factor) + whole(zero)
    high = high_word(total << whole(moved) if moved else total, held(factor.value))
    if shift <= _MOST:
        return (high + held((1 << (shift - 1)) + (zero << shift))) >> (held(shift) if shared else shift)
    return ((high + held(1 << (shift - 1))) >> shift) + whole(zero)


def _wide(total: Any, factor: Multiplier) -> Any:
    shift = 31 - factor.shift
    product = tirx.Cast("int64", total) * tirx.IntImm("int64", factor.value)
    return tirx.Cast("int32", (product + tirx.IntImm("int64", 1 << (shift - 1))) >> tirx.IntImm("int64", shift))


def kept(value: Any) -> Any:
    """An int32 expression computed here and held in a register; see `script.keep`."""
    memory = script.local_array(1, "int32")
    memory.store(0, value)
    return memory.load(0)


def intrinsic(name: str, *arguments: Any) -> Any:
    """An int32 instruction of Arm's DSP extension by its name."""
    return tirx.call_llvm_pure_intrin("int32", f"llvm.arm.{name}", *arguments)


def one_line(view: View) -> bool:
    """Whether the elements of `view` lie together in memory, in the order of its coordinates or one image's."""
    strides = {1: view.channel_stride, view.channels: view.pixel_stride, view.channels * view.width: view.row_stride}
    sizes = {1: view.channels, view.channels: view.width, view.channels * view.width: view.height}
    return all(sizes[step] == 1 or stride == step for step, stride in strides.items())


def elements(view: View) -> int:
    """How many elements `view` has."""
    return view.batch * view.channels * view.height * view.width


def word(memory: script.Memory, index: Any) -> Any:
    """Four int8 from `index` on as one int32."""
    return script.let(tirx.reinterpret("int32", memory.load(index, 4)))


def rotated(value: Any, bits: int) -> Any:
    """A word rotated right."""
    return tirx.call_llvm_pure_intrin("int32", "llvm.fshr.i32", value, value, whole(bits)) if bits else value
