"""The calibration rows on their way through the original network and the one being fitted, side by side."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgeprune.data.samples import Samples
from edgeprune.ir.segments import SegmentedRun, peak_bytes
from edgeprune.ir.weights import WeightedLayer, read_weight, weighted_layers


def rows_that_fit(original: ir.Model, count: int, memory: int) -> int:
    """How many of `count` rows are used so that `original` and the one being fitted hold theirs in `memory` bytes."""
    stops = [index + 1 for index, node in enumerate(original.graph) if node.op_type in ("Conv", "Gemm", "MatMul")]
    return min(count, max(1, memory // (2 * max(1, peak_bytes(original, [0, *stops])))))


class CalibrationRoad:
    """The rows of `rows` in `original` and in `fitted`, which have the same nodes."""

    def __init__(self, original: ir.Model, fitted: ir.Model, rows: Samples, threads: int) -> None:
        self._before = SegmentedRun(original, rows, threads)
        self._after = SegmentedRun(fitted, rows, threads)
        self._layers = {layer.name: layer for layer in weighted_layers(original)}
        self._before_positions = {node.name: index for index, node in enumerate(original.graph)}
        self._after_positions = {node.name: index for index, node in enumerate(fitted.graph)}

    def original_weight(self, layer: WeightedLayer) -> np.ndarray:
        """The weight that `layer` had in the original network."""
        return read_weight(self._layers[layer.name])

    def reach(self, layer: WeightedLayer) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """The inputs that `layer` gets in the fitted network, the outputs it should give, and their floor.

        All have rows first. Where the output goes straight into a residual sum, it should also make up for what the
        other operand lacks. Outputs at or below the floor make no difference; None where all do.
        """
        self._after.advance(self._after_positions[layer.node.name])
        self._before.advance(self._before_positions[layer.node.name] + 1)
        inputs = self._after.held(layer.node.inputs[0])
        targets = self._before.held(self._layers[layer.name].node.outputs[0])
        assert inputs is not None and targets is not None
        output = layer.node.outputs[0]
        if _rectified(output):
            return inputs, targets, np.broadcast_to(np.float32(0), targets.shape)
        sum_node = _only_use(output, "Add")
        other = None if sum_node is None else next((value for value in sum_node.inputs if value is not output), None)
        if sum_node is None or other is None or other.shape != output.shape:
            return inputs, targets, None
        before, after = self._before.held(other), self._after.held(other)
        if before is None or after is None:
            return inputs, targets, None
        return inputs, targets + (before - after), -after if _rectified(sum_node.outputs[0]) else None


def _only_use(value: ir.Value, op_type: str) -> ir.Node | None:
    """The node of `op_type` that alone reads `value`; None where there is none."""
    uses = [usage.node for usage in value.uses()]
    return uses[0] if len(uses) == 1 and uses[0].op_type == op_type and not value.is_graph_output() else None


def _rectified(value: ir.Value) -> bool:
    """Whether nothing but Relu reads `value`."""
    return _only_use(value, "Relu") is not None
