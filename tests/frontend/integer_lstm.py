"""Writes .tflite files of one LSTM of integers, with random weights."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from tflite_writer import Writer

TANH = schema.ActivationFunctionType.TANH


@dataclass(frozen=True)
class IntegerLstm:
    """The file; what is in it, gates as input, forget, output and candidate. Grids are (scale, zero)."""

    content: bytes
    weights: np.ndarray
    recurrent: np.ndarray
    bias: np.ndarray
    scales: np.ndarray
    recurrent_scales: np.ndarray
    input_grid: tuple[float, int]
    hidden_grid: tuple[float, int]
    clip: int


def integer_lstm(
    steps: int, batch: int, inputs: int, units: int, *, cell: int = -12, clip: float = 10.0, zero: int = 5,
    time_major: bool = False, last: bool = False, seed: int = 0,
) -> IntegerLstm:  # fmt: skip
    """An LSTM over [batch, steps, inputs], or [steps, batch, inputs] where `time_major`.

    The cell is on the grid of 2**`cell`; `zero` is that of the hidden state; of which the file gives the `last` alone.
    """
    generator, writer = np.random.default_rng(seed), Writer()
    grids = (float(np.float32(1 / 60)), -17), (float(np.float32(0.0079)), zero)
    scales, recurrent_scales = (generator.uniform(0.004, 0.02, 4).astype(np.float32) for _ in range(2))
    weights = generator.integers(-127, 128, (4, units, inputs)).astype(np.int8)
    recurrent = generator.integers(-127, 128, (4, units, units)).astype(np.int8)
    bias = generator.integers(-4000, 4000, (4, units)).astype(np.int32)
    shape = (steps, batch) if time_major else (batch, steps)
    source, result = writer.tensor((*shape, inputs), "INT8", grids[0]), writer.tensor((*shape, units), "INT8", grids[1])

    def constants(arrays: np.ndarray, steps_of: np.ndarray) -> list[int]:
        order = (0, 1, 3, 2)
        return [writer.constant(arrays[gate], (float(steps_of[gate]), 0)) for gate in order]

    reads = [source, *constants(weights, scales), *constants(recurrent, recurrent_scales), -1, -1, -1]
    reads += constants(bias, np.float32(grids[0][0]) * scales)
    state = writer.tensor((batch, units), "INT8", grids[1], variable=True)
    reads += [-1, -1, state, writer.tensor((batch, units), "INT16", (2.0**cell, 0), variable=True), -1, -1, -1, -1]
    fields = {"fusedActivationFunction": TANH, "cellClip": clip, "projClip": 0.0, "timeMajor": time_major}
    between = [*(writer.tensor((0,)) for _ in range(4)), writer.tensor((0,), "INT8", grids[1])]
    name = "UNIDIRECTIONAL_SEQUENCE_LSTM"
    writer.node(name, reads, [result], "UnidirectionalSequenceLSTMOptions", fields, between)
    output = _last_step(writer, result, (batch, units), steps, grids[1]) if last else result
    bound = int(min(clip / 2.0**cell, 32767))
    content = writer.finish([source], [output])
    return IntegerLstm(content, weights, recurrent, bias, scales, recurrent_scales, *grids, bound)


def _last_step(writer: Writer, whole: int, shape: tuple[int, int], steps: int, grid: tuple[float, int]) -> int:
    output = writer.tensor(shape, "INT8", grid)
    bounds = [writer.constant(np.array(end, np.int32)) for end in ((0, steps - 1, 0), (0, steps, 0), (1, 1, 1))]
    fields = {"beginMask": 5, "endMask": 5, "shrinkAxisMask": 2}
    writer.node("STRIDED_SLICE", [whole, *bounds], [output], "StridedSliceOptions", fields)
    return output
