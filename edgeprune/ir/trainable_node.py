"""What a row of the trainable table sees of its ONNX node."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir
import torch

from edgeprune.errors import EdgepruneError

Tensor = torch.Tensor
Row = Callable[..., "Tensor | tuple[Tensor, ...]"]
"""Called as row(facts, *inputs) with tensors of the shapes the graph declares; None for an input that is left out."""


class Facts:
    """The `attributes` and the constant inputs of one node; `rank` is that of its first input, None where not known."""

    def __init__(self, node: ir.Node) -> None:
        self.name = node.name or node.op_type
        self.op = node.op_type
        self.outputs = len(node.outputs)
        self.rank = None if not node.inputs or node.inputs[0] is None else _rank(node.inputs[0])
        self.attributes = {name: attribute.value for name, attribute in node.attributes.items()}
        self._constants = [None if value is None or value.const_value is None else value for value in node.inputs]
        self._present = [value is not None for value in node.inputs]

    def get(self, name: str, default: Any = None) -> Any:
        """The attribute `name`, or `default` where the node does not set it."""
        return self.attributes.get(name, default)

    def constant(self, index: int) -> np.ndarray | None:
        """The constant input at `index`; None where the node has no such input.

        Raises EdgepruneError (op-untrainable) where the input is computed.
        """
        if index >= len(self._present) or not self._present[index]:
            return None
        value = self._constants[index]
        if value is None or value.const_value is None:
            raise self.refuse(f"input {index} must be a constant")
        return value.const_value.numpy()

    def integers(self, index: int, attribute: str = "") -> list[int] | None:
        """The integers of the constant input at `index`, or of `attribute` (older opsets); None without."""
        array = self.constant(index)
        if array is not None:
            return [int(number) for number in array.reshape(-1)]
        values = self.get(attribute) if attribute else None
        return None if values is None else [int(number) for number in np.atleast_1d(values)]

    def refuse(self, reason: str) -> EdgepruneError:
        """The error that says why this node cannot be trained through."""
        return EdgepruneError(
            "op-untrainable",
            f"{self.op} cannot be trained: {reason}",
            where=f"node {self.name}",
            hint="use --epochs 0 to prune without training",
        )


def _rank(value: ir.Value) -> int | None:
    return None if value.shape is None else value.shape.rank()
