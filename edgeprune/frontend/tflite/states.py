"""What a streaming model keeps from one inference to the next, as inputs and outputs of the graph."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from edgeprune.frontend.tflite.graph import GraphBuilder

NEXT = "_next"
"""What an output adds to the name of the input that it is for in the next inference."""


class States:
    """Variables by name: the value that was assigned last, and the inputs and outputs that stand for them."""

    def __init__(self, builder: GraphBuilder) -> None:
        self._builder = builder
        self._handles: dict[int, str] = {}
        self._inputs: dict[str, ir.Value] = {}
        self._values: dict[str, ir.Value] = {}

    def name_handle(self, index: int, name: str) -> None:
        """Tensor `index` is a handle of variable `name`."""
        self._handles[index] = name

    def handle(self, index: int) -> str | None:
        """The variable that tensor `index` is a handle of."""
        return self._handles.get(index)

    def open(self, name: str, shape: Sequence[int]) -> ir.Value:
        """A new input for what `name` holds from the inference before."""
        if name in self._inputs:
            raise ValueError(f"two operators remember under the name '{name}'")
        value = self._builder.input(name, np.dtype(np.float32), shape)
        self._inputs[name] = self._values[name] = value
        return value

    def assigned(self, name: str) -> ir.Value | None:
        """What `name` holds now; None before anything is known."""
        return self._values.get(name)

    def assign(self, name: str, value: ir.Value) -> None:
        """`name` holds `value` from now on."""
        self._values[name] = value

    def outputs(self) -> dict[str, ir.Value]:
        """The output for every input, by the input's name; what is never read before it is assigned needs none."""
        return {str(port.name): self._values[name] for name, port in self._inputs.items()}
