"""The LSTM in integers against LiteRT's reference, bit for bit, and its kernels against it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from forms import check, int8, litert, machine, on_board
from hypothesis import given, settings
from hypothesis import strategies as st
from integer_lstm import IntegerLstm, integer_lstm

from edgeprune.kernels.fixed_point.lstm import LstmNumbers, LstmScales, fixed_lstm
from edgeprune.kernels.fixed_point.lstm_kernel import Lstm, build_fixed_lstm


def parts(made: IntegerLstm, steps: int, batch: int, cell: int) -> tuple[Lstm, LstmNumbers]:
    formats = int8(*made.input_grid), int8(*made.hidden_grid)
    scales = LstmScales.of(formats[0], made.scales, made.recurrent_scales, formats[1], cell, made.clip)
    _, units, inputs = made.weights.shape
    numbers = LstmNumbers(made.weights, made.recurrent, made.bias)
    return Lstm(steps, batch, inputs, units, (0, 0), *formats, scales), numbers


def some(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(-128, 128, shape).astype(np.int8)


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 9), st.integers(1, 3), st.integers(1, 9), st.integers(1, 9), st.integers(-12, -11),
       st.sampled_from([0.4, 3.0, 10.0]), st.integers(-9, 9), st.integers(0, 99))  # fmt: skip
def test_as_litert(
    steps: int, batch: int, inputs: int, units: int, cell: int, clip: float, zero: int, seed: int
) -> None:
    made = integer_lstm(steps, batch, inputs, units, cell=cell, clip=clip, zero=zero, time_major=True, seed=seed)
    x = some(seed, steps, batch, inputs)
    lstm, numbers = parts(made, steps, batch, cell)
    found = fixed_lstm(x, numbers, lstm.scales, (lstm.x, lstm.y))
    np.testing.assert_array_equal(found, litert(made.content, [x]))


@pytest.mark.parametrize("sizes", [(1, 1, 1, 1), (3, 2, 5, 7), (4, 1, 8, 4), (2, 1, 28, 20)])
def test_kernels(sizes: tuple[int, int, int, int]) -> None:
    lstm, numbers = parts(integer_lstm(*sizes), *sizes[:2], -12)
    x = some(1, *sizes[:3])
    check(lambda m: build_fixed_lstm(lstm, numbers, m), [x], fixed_lstm(x, numbers, lstm.scales, (lstm.x, lstm.y)))


@pytest.mark.parametrize("cpu", ["cortex-m0plus", "cortex-m3"])
def test_kernel_without_pairs(cpu: str) -> None:
    lstm, numbers = parts(integer_lstm(2, 1, 5, 3), 2, 1, -12)
    x = some(2, 2, 1, 5)
    want = fixed_lstm(x, numbers, lstm.scales, (lstm.x, lstm.y))
    on_board(build_fixed_lstm(lstm, numbers, machine("mla")), [x], want, cpu)


def test_what_it_does_not_take_is_refused() -> None:
    lstm, numbers = parts(integer_lstm(2, 1, 5, 3), 2, 1, -12)
    coarse = replace(lstm, scales=replace(lstm.scales, cell=-9))
    huge = replace(numbers, bias=np.full_like(numbers.bias, 2**30))
    for bad in ((coarse, numbers), (lstm, huge)):
        with pytest.raises(ValueError, match="sums and factors that fit 32 bits, on fine grids"):
            build_fixed_lstm(*bad, machine("mla"))
