"""The calibration rows on their way through the float network and the one that is being quantized, side by side."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgeprune.data.samples import Samples
from edgeprune.ir.segments import SegmentedRun
from edgeprune.ir.weights import WeightedLayer


class QuantizedRoad:
    """The rows in `original` and in `rounded`, which has pairs of Q and DQ beside the nodes of the same names."""

    def __init__(self, original: ir.Model, rounded: ir.Model, rows: Samples, threads: int) -> None:
        self._before = SegmentedRun(original, rows, threads)
        self._after = SegmentedRun(rounded, rows, threads)
        self._nodes = {node.name: node for node in original.graph}
        self._before_places = {node.name: index for index, node in enumerate(original.graph)}
        self._after_places = {node.name: index for index, node in enumerate(rounded.graph)}

    def reach(self, layer: WeightedLayer) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """The inputs that `layer` gets, rounded, the outputs that it should give, and their floor; rows first.

        Where the output goes straight into a sum, it should also make up for what the other operand lacks. Outputs
        at or below the floor make no difference; None where all do.
        """
        self._after.advance(self._after_places[layer.node.name])
        self._before.advance(self._before_places[layer.node.name] + 1)
        inputs = self._after.held(layer.node.inputs[0])
        targets = self._before.held(self._nodes[layer.node.name].outputs[0])
        assert inputs is not None
        assert targets is not None
        output = layer.node.outputs[0]
        if _only_use(output, "Relu") is not None:
            return inputs, targets, np.broadcast_to(np.float32(0), targets.shape)
        total = _only_use(output, "Add")
        if total is None or total.inputs[0] is total.inputs[1]:
            return inputs, targets, None
        place = 1 if total.inputs[0] is output else 0
        before = self._before.held(self._nodes[total.name].inputs[place])
        after = self._after.held(total.inputs[place])
        if before is None or after is None or after.shape != targets.shape:
            return inputs, targets, None
        rectified = _only_use(total.outputs[0], "Relu") is not None
        return inputs, targets + (before - after), -after if rectified else None


def _only_use(value: ir.Value, op_type: str) -> ir.Node | None:
    """The node of `op_type` that alone reads `value`; None where there is none."""
    uses = [use.node for use in value.uses()]
    return uses[0] if len(uses) == 1 and uses[0].op_type == op_type and not value.is_graph_output() else None
