"""What constant channels add to the sums of the layers that read them, in stored integers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgeprune.ir.dependency.trace import Use
from edgeprune.ir.ports import static_shape
from edgeprune.ir.quantization import StoredTensor, grid_of, read_stored, write_stored
from edgeprune.passes.intervals.products import is_padded, product_steps
from edgeprune.passes.intervals.propagate import Bounds, known

_SAME = 1e-6
"""How far the step of a bias may be from the product of the steps of input and weight."""


@dataclass(frozen=True)
class Contribution:
    """What each place along the summed axis of `node`'s input adds to its sums, where that is a constant.

    `foldable` [places]; `added` int64 [places, outputs] in steps of input times weight, 0 where nothing is added.
    """

    node: ir.Node
    foldable: np.ndarray
    added: np.ndarray

    def only(self, places: np.ndarray) -> Contribution | None:
        """The part of `places`, a mask; None where that adds nothing."""
        added = np.where(places[:, None], self.added, 0)
        return Contribution(self.node, self.foldable, added) if np.any(added) else None


def contribution(use: Use, bounds: Bounds) -> Contribution | None:
    """What the channels that `use` reads add; None where its node is no layer whose sums are known.

    A place can be folded where it always holds one value or all its weights are zero. Anything but zero also needs a
    layer in stored integers that never reads outside its image, with a bias on the grid of its products or none.
    """
    node = use.node
    weight = _by_place(node, known(node.inputs[1]))
    if weight is None:
        return None
    places = static_shape(use.value)[use.value_axis]
    data = bounds.of(use.value).over(axis for axis in range(bounds.of(use.value).low.ndim) if axis != use.value_axis)
    low, high = (each.reshape(-1) for each in (data.low, data.high))
    low, high = np.broadcast_to(low, (places,)), np.broadcast_to(high, (places,))
    silent = ((low == 0) & (high == 0)) | ~np.any(weight, axis=(1, 2))
    added = np.zeros((places, weight.shape[1]), np.int64)
    steps, whole = _steps(use), _stored_by_place(node)
    if steps is None or whole is None or not _takes_bias(node):
        return Contribution(node, silent, added)
    stored = np.rint(np.where(np.isfinite(low), low, 0) / steps)
    constant = (low == high) & np.isfinite(low) & (np.abs(stored) < 1 << 16)
    loud = constant & ~silent
    added[loud] = (whole[loud].sum(axis=2) * stored[loud, None]).astype(np.int64)
    return Contribution(node, silent | (constant & _fits(node, added)), added)


def _by_place(node: ir.Node, weight: np.ndarray | None) -> np.ndarray | None:
    """The weight as [input places, outputs, taps]; zero between channels of different groups."""
    if weight is None:
        return None
    if node.op_type == "Gemm":
        plain = not node.attributes.get_int("transA", 0) and node.attributes.get_float("alpha", 1.0) == 1.0
        matrix = weight.T if node.attributes.get_int("transB", 0) else weight
        return matrix[:, :, None] if plain else None
    if node.op_type == "MatMul":
        return weight[:, :, None] if weight.ndim == 2 else None
    if node.op_type != "Conv":
        return None
    groups, (outputs, inputs) = node.attributes.get_int("group", 1), weight.shape[:2]
    taps = weight.reshape(groups, outputs // groups, inputs, -1)
    spread = np.zeros((groups, inputs, groups, outputs // groups, taps.shape[3]), weight.dtype)
    for group in range(groups):
        spread[group, :, group] = taps[group].transpose(1, 0, 2)
    return spread.reshape(groups * inputs, outputs, -1)


def _stored_by_place(node: ir.Node) -> np.ndarray | None:
    stored = read_stored(node.inputs[1])
    if stored is None:
        return None
    return _by_place(node, stored.integers.astype(np.int64) - stored.starts.astype(np.int64))


def _steps(use: Use) -> float | None:
    grid = grid_of(use.value)
    return None if grid is None else grid.scale


def _takes_bias(node: ir.Node) -> bool:
    """Whether a constant can be added to the sums of `node` everywhere: it reads no border, and has room for it."""
    if node.op_type == "MatMul" or (node.op_type == "Conv" and is_padded(node)):
        return False
    if node.op_type == "Gemm" and node.attributes.get_float("beta", 1.0) != 1.0:
        return False
    product, bias = product_steps(node), node.inputs[2] if len(node.inputs) > 2 else None
    if product is None or bias is None:
        return product is not None
    stored = read_stored(bias)
    if stored is None or stored.integers.dtype != np.int32 or np.any(stored.zero):
        return False
    outputs = static_shape(node.outputs[0])[1]
    whole = stored.integers.size == outputs and stored.scale.size in (1, outputs)
    return whole and np.allclose(np.broadcast_to(stored.scale, (outputs,)), product, rtol=_SAME, atol=0)


def _fits(node: ir.Node, added: np.ndarray) -> np.ndarray:
    """Whether all that may be added, [places], stays within int32 with the bias there is."""
    bias = read_stored(node.inputs[2]) if len(node.inputs) > 2 else None
    present = 0 if bias is None else np.abs(bias.integers.astype(np.int64).reshape(-1))
    return np.broadcast_to(np.all(np.abs(added).sum(axis=0) + present < 1 << 30), (len(added),))


def fold(graph: ir.Graph, part: Contribution) -> None:
    """Add what `part` says to the bias of its node, which gets one where it has none."""
    node, added = part.node, part.added.sum(axis=0)
    present = node.inputs[2] if len(node.inputs) > 2 else None
    steps = product_steps(node)
    assert steps is not None
    stored = read_stored(present)
    if stored is None:
        bias = StoredTensor(added.astype(np.int32), steps.astype(np.float32), np.zeros(steps.shape, np.int32), 0)
    else:
        total = stored.integers.astype(np.int64) + added.reshape(stored.integers.shape)
        bias = StoredTensor(total.astype(np.int32), stored.scale, stored.zero, stored.axis)
    value = write_stored(graph, f"{node.name}_bias_folded", bias, node)
    node.resize_inputs(max(3, len(node.inputs)))
    node.replace_input_with(2, value)
