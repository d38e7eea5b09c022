"""A model on ONNX Runtime that remembers: its states go from one inference to the next without the caller."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from edgeprune.data.samples import Samples
from edgeprune.ir.execute import Session
from edgeprune.ir.ports import input_specs
from edgeprune.ir.states import state_specs, states_of, visible_specs


class Stream:
    """`model` with `threads` threads; inputs and outputs that are states are its own, zero at first.

    Without states it is what `Session` is.
    """

    def __init__(self, model: ir.Model, threads: int = 1) -> None:
        self.specs = visible_specs(model)
        self._session = Session(model, threads)
        self._states = states_of(model)
        self._zeros = {spec.name: np.zeros(spec.shape, spec.dtype) for spec in state_specs(model)}
        self.held: dict[str, np.ndarray] = {}
        self.reset()

    def reset(self) -> None:
        """Forget what was remembered."""
        self.held = dict(self._zeros)

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The next inference: arrays by name, with their batch axis, both ways. Raises as `Session.run` does."""
        outputs = self._session.run({**inputs, **self.held})
        self.held |= {state.input: outputs.pop(state.output) for state in self._states}
        return outputs


def with_held(model: ir.Model, samples: Samples) -> Samples:
    """`samples` with the states that `model` meets each row with, left by the rows before, as inputs of their own."""
    specs = state_specs(model)
    if not specs:
        return samples
    rows: dict[str, np.ndarray] = {spec.name: np.zeros((samples.count, *spec.row_shape), spec.dtype) for spec in specs}
    stream = Stream(model)
    for index in range(samples.count):
        if samples.begins(index):
            stream.reset()
        for spec in specs:
            rows[spec.name][index] = stream.held[spec.name].reshape(spec.row_shape)
        stream.run(samples.row(index))
    return Samples(samples.inputs | rows, samples.labels, tuple(input_specs(model)), samples.reset_every)
