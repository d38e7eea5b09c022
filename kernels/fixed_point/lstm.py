"""The int8 LSTM in integers alone, bit for bit as TFLite's reference: gates and cell of 16 bits, hidden state of 8.

Gates are on the grid of 2**-12, what sigmoid and tanh give on that of 2**-15, the cell on one of a power of two.
Source: TFLite's integer LSTM (activations of 8 bits, cell of 16), which rescales sums in double rounding.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgeprune.kernels.abi import Format
from edgeprune.kernels.fixed_point.arithmetic import Multiplier, multiplier_of
from edgeprune.kernels.fixed_point.exponential import halved, logistic, tanh

GATES = 4
"""Input, forget, output and candidate, in this order."""

CURVE_BITS = 15
GATE_INTEGER_BITS = 3
LONG = 15
"""Integer bits of the cell and bits of fraction together."""

_HALF_WORD = 16
_LEAST, _MOST = -(1 << 15), (1 << 15) - 1


@dataclass(frozen=True)
class LstmScales:
    """Factors of sums of the input and of the hidden state for each gate, of the hidden state; where results end.

    The cell is on the grid of 2**`cell`, kept to [-`clip`, `clip`] where `clip` is above 0.
    """

    input: tuple[Multiplier, ...]
    recurrent: tuple[Multiplier, ...]
    hidden: Multiplier
    cell: int
    clip: int

    @classmethod
    def of(cls, x: Format, weights: np.ndarray, recurrent: np.ndarray, y: Format, cell: int, clip: int) -> LstmScales:
        """From the formats and the real scales of both weights, float [GATES]."""
        unit = 2.0 ** (LONG - GATE_INTEGER_BITS)
        of_input, of_hidden = (
            tuple(multiplier_of(float(scale) * format.scale * unit) for scale in scales)
            for scales, format in ((weights, x), (recurrent, y))
        )
        return cls(of_input, of_hidden, multiplier_of(2.0 ** (-2 * CURVE_BITS) / y.scale), cell, clip)

    @property
    def cell_integer_bits(self) -> int:
        """Integer bits of the cell."""
        return LONG + self.cell


@dataclass(frozen=True)
class LstmNumbers:
    """int8 `weights` [GATES, units, inputs] and `recurrent` [GATES, units, units], int32 `bias` [GATES, units]."""

    weights: np.ndarray
    recurrent: np.ndarray
    bias: np.ndarray

    @property
    def units(self) -> int:
        """Units of the hidden state."""
        return int(self.weights.shape[1])

    def starts(self, x: Format, y: Format) -> np.ndarray:
        """Where the sums of stored inputs and hidden states begin, int64 [2, GATES, units]: zeros are taken off."""
        first = self.bias - np.int64(x.zero) * self.weights.sum(axis=2, dtype=np.int64)
        return np.stack([first, -np.int64(y.zero) * self.recurrent.sum(axis=2, dtype=np.int64)])


def twice_rounded(sums: np.ndarray, factor: Multiplier) -> np.ndarray:
    """`sums` times `factor`: the upper bits rounded half upward, then these half away from zero."""
    raised = sums.astype(np.int64) << max(factor.shift, 0)
    return halved((raised * factor.value + (1 << 30)) >> 31, max(-factor.shift, 0))


def fixed_lstm(x: np.ndarray, numbers: LstmNumbers, scales: LstmScales, formats: tuple[Format, Format]) -> np.ndarray:
    """The stored hidden states [steps, batch, units] of stored `x` [steps, batch, inputs], from a state of zero.

    `formats` are those of x and of the hidden state, which has the type of its own.
    """
    source, target = formats
    start = numbers.starts(source, target)
    hidden = np.full((x.shape[1], numbers.units), target.zero, np.int64)
    cell, found = np.zeros_like(hidden), []
    for row in x.astype(np.int64):
        gates = []
        for gate in range(GATES):
            total = twice_rounded(row @ numbers.weights[gate].astype(np.int64).T + start[0, gate], scales.input[gate])
            again = hidden @ numbers.recurrent[gate].astype(np.int64).T + start[1, gate]
            gates.append(_short(_short(total) + twice_rounded(again, scales.recurrent[gate])))
        opened, kept, shown = (logistic(value, GATE_INTEGER_BITS, _HALF_WORD) for value in gates[:3])
        fresh = halved(opened * tanh(gates[3], GATE_INTEGER_BITS, _HALF_WORD), 2 * CURVE_BITS + scales.cell)
        cell = _short(halved(kept * cell, CURVE_BITS) + fresh)
        cell = np.clip(cell, -scales.clip, scales.clip) if scales.clip else cell
        curve = tanh(cell, scales.cell_integer_bits, _HALF_WORD)
        hidden = np.clip(twice_rounded(shown * curve, scales.hidden) + target.zero, target.low, target.high)
        found.append(hidden)
    return np.stack(found).astype(target.dtype)


def _short(values: np.ndarray) -> np.ndarray:
    return np.clip(values, _LEAST, _MOST)
