"""The kernel of the int8 LSTM: sums of all gates of a unit at once, then the gates, the cell and the hidden state.

Inputs of a step and the hidden state lie in scratch as 16 bits; cores that multiply pairs find elements 0 and 2,
then 1 and 3 of each four in one word. Weights lie in the order in which they are read.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from tvm import tirx
from tvm.tirx.script import builder

from edgeprune.kernels import script
from edgeprune.kernels.abi import Format, Kernel, Machine
from edgeprune.kernels.fixed_point.arithmetic import Multiplier
from edgeprune.kernels.fixed_point.curves import half_away, sigmoid16, tanh16
from edgeprune.kernels.fixed_point.gather import rolled
from edgeprune.kernels.fixed_point.gather_assembly import HIDE_FUNCTION
from edgeprune.kernels.fixed_point.lstm import CURVE_BITS, GATE_INTEGER_BITS, GATES, LstmNumbers, LstmScales
from edgeprune.kernels.fixed_point.rescaling import bounded, intrinsic, kept, rotated, whole, word
from edgeprune.kernels.script import Memory

BLOCK = 4
"""Elements along a reduction that lie together."""

_SIDES = 2
_PAIRED = ("smlad", "mve")
_PAIR_ORDER = (0, 2, 1, 3)
_SHORT = (-(1 << 15), (1 << 15) - 1)
_LARGEST = 2**31 - 1
_MOST_RIGHT = 31


@dataclass(frozen=True)
class Lstm:
    """Sizes and formats of x [steps, batch, inputs] and y [steps, batch, units], dense from `offsets`; factors."""

    steps: int
    batch: int
    inputs: int
    units: int
    offsets: tuple[int, int]
    x: Format
    y: Format
    scales: LstmScales

    @property
    def blocks(self) -> tuple[int, int]:
        """Blocks of inputs and of the hidden state."""
        return -(-self.inputs // BLOCK), -(-self.units // BLOCK)

    @property
    def places(self) -> tuple[int, int, int, int]:
        """Where inputs, hidden state, gates and cell begin in scratch, in elements of 16 bits."""
        first, second = (blocks * BLOCK for blocks in self.blocks)
        return 0, first, first + second, first + second + GATES * self.units

    @property
    def scratch_bytes(self) -> int:
        """Bytes of scratch."""
        return 2 * (self.places[3] + self.units)

    @property
    def macs(self) -> int:
        """Multiplications of one run."""
        return self.steps * self.batch * GATES * self.units * (self.inputs + self.units)


def build_fixed_lstm(lstm: Lstm, numbers: LstmNumbers, machine: Machine) -> Kernel:
    """The kernel of y = hidden states of all steps of `lstm`, from a state of zero; there is one unit.

    Raises ValueError where sums or factors leave what 32 bits hold.
    """
    if not possible(lstm, numbers):
        raise ValueError("an LSTM of integers needs sums and factors that fit 32 bits, on fine grids")
    starts = numbers.starts(lstm.x, lstm.y)
    weights = np.concatenate([_blocks(array) for array in (numbers.weights, numbers.recurrent)], axis=1)
    dense = lstm.macs
    return Kernel(
        func=_function(lstm, machine.dot in _PAIRED),
        units=1,
        constants=(weights.ravel(), np.ascontiguousarray(starts.transpose(2, 0, 1)).astype(np.int32).ravel()),
        label="fixed lstm",
        macs=dense,
        dense_macs=dense,
        scratch_bytes=lstm.scratch_bytes,
        overlaps=(None,),
    )


def _blocks(weights: np.ndarray) -> np.ndarray:
    """int8 [units, blocks, gates, BLOCK] of [gates, units, size]."""
    gates, units, size = weights.shape
    padded = np.zeros((gates, units, -(-size // BLOCK) * BLOCK), np.int8)
    padded[:, :, :size] = weights
    return padded.reshape(gates, units, -1, BLOCK).transpose(1, 2, 0, 3)


def possible(lstm: Lstm, numbers: LstmNumbers) -> bool:
    """Whether 32 bits hold all sums and factors."""
    scales, starts = lstm.scales, numbers.starts(lstm.x, lstm.y)
    for side, (array, format) in enumerate(((numbers.weights, lstm.x), (numbers.recurrent, lstm.y))):
        largest = max(abs(format.low), abs(format.high))
        reach = np.abs(starts[side]).max() + largest * np.abs(array.astype(np.int64)).sum(axis=2).max()
        for factor in (scales.input, scales.recurrent)[side]:
            if int(reach) << (1 + max(factor.shift, 0)) > _LARGEST or not factor.shift > -_MOST_RIGHT:
                return False
    return -_MOST_RIGHT < scales.hidden.shift <= 0 and 0 <= scales.cell_integer_bits <= GATE_INTEGER_BITS + 1


@dataclass(frozen=True)
class _Memories:
    x: Memory
    weights: Memory
    starts: Memory
    scratch: Memory
    y: Memory


@lru_cache(maxsize=64)
def _function(lstm: Lstm, paired: bool) -> Any:
    """The function over (x, weights, starts, scratch, y)."""

    def body(memories: list[Memory], begin: Any, end: Any) -> None:
        own = _Memories(*memories)
        hide = builder.attr(whole(0), "pragma_import_llvm", HIDE_FUNCTION)
        with hide, script.serial(begin * lstm.batch, end * lstm.batch) as row:
            _clear(lstm, own)
            with script.serial(0, lstm.steps) as step:
                line = script.let(step * lstm.batch + row)
                _spread(lstm, own, line, paired)
                with script.serial(0, lstm.units) as unit:
                    _gates(lstm, own, unit, paired)
                _curves(lstm, own)
                with rolled(lstm.units) as unit:
                    _state(lstm, own, unit, line, paired)

    return script.kernel_function([lstm.x.dtype, "int8", "int32", "int16", lstm.y.dtype], body)


def _clear(lstm: Lstm, own: _Memories) -> None:
    """The state before the first step."""
    _, hidden, gates, cell = lstm.places
    with rolled(lstm.blocks[0] * BLOCK) as element:
        own.scratch.store(element, tirx.const(0, "int16"))
    with rolled(gates - hidden) as element:
        own.scratch.store(hidden + element, tirx.const(lstm.y.zero, "int16"))
    with rolled(lstm.units) as unit:
        own.scratch.store(cell + unit, tirx.const(0, "int16"))


def _spread(lstm: Lstm, own: _Memories, line: Any, paired: bool) -> None:
    """The inputs of one step as 16 bits."""
    first = script.let(lstm.offsets[0] + line * lstm.inputs)
    words = lstm.inputs // BLOCK if paired and lstm.x.dtype == "int8" else 0
    if words:
        with rolled(words) as block:
            loaded = word(own.x, first + block * BLOCK)
            for half, value in enumerate((loaded, rotated(loaded, 8))):
                pair = tirx.reinterpret("int16x2", intrinsic("sxtb16", value))
                own.scratch.store(block * BLOCK + half * 2, pair, 2)
    if lstm.inputs > words * BLOCK:
        with rolled(lstm.inputs - words * BLOCK) as rest:
            element = script.let(rest + words * BLOCK)
            own.scratch.store(_place(element, paired), tirx.Cast("int16", own.x.load(first + element)))


def _place(element: Any, paired: bool) -> Any:
    """Where an element lies among those of 16 bits."""
    return (element & ~3) | ((element & 1) << 1) | ((element >> 1) & 1) if paired else element


def _gates(lstm: Lstm, own: _Memories, unit: Any, paired: bool) -> None:
    """The sums of all gates of a unit, on the grid of gates."""
    _, _, gates, _ = lstm.places
    totals: list[Any] = []
    for side in range(_SIDES):
        sums = _sums(lstm, own, unit, side, paired)
        factors = (lstm.scales.input, lstm.scales.recurrent)[side]
        terms = [_twice_rounded(total, factor) for total, factor in zip(sums, factors, strict=True)]
        both = [before + term for before, term in zip(totals, terms, strict=True)] if side else terms
        totals = [kept(bounded(value, *_SHORT)) for value in both]
    for gate, total in enumerate(totals):
        own.scratch.store(gates + gate * lstm.units + unit, tirx.Cast("int16", total))


def _sums(lstm: Lstm, own: _Memories, unit: Any, side: int, paired: bool) -> list[Any]:
    """Of each gate of a unit the sum over inputs (side 0) or the hidden state (side 1)."""
    sums, each = script.local_array(GATES, "int32"), sum(lstm.blocks) * GATES * BLOCK
    for gate in range(GATES):
        sums.store(gate, own.starts.load(unit * (_SIDES * GATES) + (side * GATES + gate)))
    first = script.let(unit * each + side * lstm.blocks[0] * GATES * BLOCK)
    with rolled(lstm.blocks[side]) as block:
        add = _paired_block if paired else _plain_block
        add(own, sums, script.let(first + block * (GATES * BLOCK)), script.let(lstm.places[side] + block * BLOCK))
    return [kept(sums.load(gate)) for gate in range(GATES)]


def _paired_block(own: _Memories, sums: Memory, weights: Any, values: Any) -> None:
    pairs = [script.let(tirx.reinterpret("int32", own.scratch.load(values + 2 * half, 2))) for half in (0, 1)]
    for gate in range(GATES):
        loaded, total = word(own.weights, weights + gate * BLOCK), sums.load(gate)
        for pair, turned in zip(pairs, (loaded, rotated(loaded, 8)), strict=True):
            total = intrinsic("smlad", intrinsic("sxtb16", turned), pair, total)
        sums.store(gate, total)


def _plain_block(own: _Memories, sums: Memory, weights: Any, values: Any) -> None:
    elements = [script.let(tirx.Cast("int32", own.scratch.load(values + i))) for i in range(BLOCK)]
    for gate in range(GATES):
        total = sums.load(gate)
        for i, value in enumerate(elements):
            total = total + value * tirx.Cast("int32", own.weights.load(weights + (gate * BLOCK + i)))
        sums.store(gate, total)


def _twice_rounded(total: Any, factor: Multiplier) -> Any:
    """As `lstm.twice_rounded`, of an int32 expression."""
    raised = tirx.Cast("int64", total << whole(1 + max(factor.shift, 0)))
    product = raised * tirx.IntImm("int64", factor.value) + tirx.IntImm("int64", 1 << 31)
    high = tirx.Cast("int32", product >> tirx.IntImm("int64", 32))
    return half_away(high, -factor.shift) if factor.shift < 0 else high


def _curves(lstm: Lstm, own: _Memories) -> None:
    """Sigmoid of three gates and tanh of the candidate, in place."""
    first = lstm.places[2]
    last = first + (GATES - 1) * lstm.units
    for start, count, curve in ((first, (GATES - 1) * lstm.units, sigmoid16), (last, lstm.units, tanh16)):
        with rolled(count) as place:
            value = curve(tirx.Cast("int32", own.scratch.load(start + place)), GATE_INTEGER_BITS)
            own.scratch.store(start + place, tirx.Cast("int16", value))


def _state(lstm: Lstm, own: _Memories, unit: Any, line: Any, paired: bool) -> None:
    """The cell and the hidden state of a unit after a step."""
    _, hidden, gates, cell = lstm.places
    scales, y = lstm.scales, lstm.y
    opened, forgotten, shown, candidate = (
        kept(tirx.Cast("int32", own.scratch.load(gates + gate * lstm.units + unit))) for gate in range(GATES)
    )
    before = tirx.Cast("int32", own.scratch.load(cell + unit))
    total = half_away(forgotten * before, CURVE_BITS) + half_away(opened * candidate, 2 * CURVE_BITS + scales.cell)
    state = bounded(total, *_SHORT)
    if scales.clip:
        state = bounded(state, -scales.clip, scales.clip)
    state = kept(state)
    own.scratch.store(cell + unit, tirx.Cast("int16", state))
    curve = tanh16(state, scales.cell_integer_bits)
    value = kept(bounded(_twice_rounded(shown * curve, scales.hidden) + y.zero, y.low, y.high))
    own.scratch.store(hidden + _place(unit, paired), tirx.Cast("int16", value))
    own.y.store(lstm.offsets[1] + line * lstm.units + unit, tirx.Cast(y.dtype, value))
