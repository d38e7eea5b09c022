"""Which nodes become one kernel: an anchor with the bias, additions and activations that follow it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal

import numpy as np
import onnx_ir as ir

from edgeprune.ir.interpolation import node_resamplings
from edgeprune.ir.weights import WeightedLayer, weighted_layers
from edgeprune.kernels.abi import Activation, Format, Rounded
from edgeprune.lowering.activations import BINARY_OPS, activation_of, gated_activation
from edgeprune.lowering.movement import is_movement
from edgeprune.lowering.quantization import LSTM_OP, STORE_DOMAIN, is_store

Kind = Literal[
    "conv2d",
    "depthwise",
    "linear",
    "pool",
    "elementwise",
    "pointwise",
    "softmax",
    "lstm",
    "upsample",
    "store",
    "movement",
    "region",
]

IMAGE_KINDS = frozenset({"conv2d", "depthwise", "pool", "elementwise", "pointwise", "upsample"})
"""Kinds whose results are stored as images, in the layout of the graph."""

HALF_KINDS = frozenset({"conv2d", "depthwise", "linear", "pool", "elementwise", "upsample"})
"""Kinds whose kernels compute in float16, and store that, where the target's real numbers are such."""

_ALONE = ("movement", "region", "store", "upsample", "pointwise", "softmax", "lstm")
"""Kinds that take in nothing of what follows them."""

POOL_OPS = frozenset({"MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "ReduceMean"})


@dataclass(frozen=True)
class Added:
    """An epilogue step: add the group's residual number `index`."""

    index: int


@dataclass(frozen=True)
class Group:
    """Nodes that one kernel computes; a region is one node here and is joined with its neighbours later.

    `epilogue` follows the anchor's result in order. `inputs` are the anchor's data inputs.
    """

    kind: Kind
    anchor: ir.Node
    nodes: tuple[ir.Node, ...]
    inputs: tuple[ir.Value, ...]
    outputs: tuple[ir.Value, ...]
    layer: WeightedLayer | None = None
    bias: ir.Value | None = None
    residuals: tuple[ir.Value, ...] = ()
    epilogue: tuple[Activation | Added | Rounded, ...] = ()

    @property
    def output(self) -> ir.Value:
        """The only output of a kernel group."""
        return self.outputs[0]

    @property
    def reads(self) -> tuple[ir.Value, ...]:
        """Every value that must exist before the group runs."""
        return self.inputs + self.residuals


def find_groups(
    model: ir.Model,
    grids: Mapping[int, Format] = MappingProxyType({}),
    stored_kind: Callable[[Group, Mapping[int, Format]], Group] | None = None,
) -> list[Group]:
    """The groups of `model` in an order in which they can run; every node is in exactly one.

    `grids` has the values, by identity, that are rounded where they are computed. With `stored_kind` such a value
    is where a group ends, and it says of what kind a group is that works on values of grids alone.
    """
    layers = {id(layer.node): layer for layer in weighted_layers(model)}
    outputs = {id(value) for value in model.graph.outputs}
    images = {id(value) for value in model.graph.inputs if is_image(value)}
    taken: set[int] = set()
    groups = []
    for node in model.graph:
        if id(node) in taken:
            continue
        group = _anchor(node, layers.get(id(node)), images)
        if stored_kind is not None:
            group = stored_kind(group, grids)
        if group.kind not in _ALONE:
            ends = outputs if stored_kind is None else {*outputs, *grids}
            group = _extend(group, ends, taken, grids)
        taken.update(id(member) for member in group.nodes)
        groups.append(group)
        moved = group.kind in ("movement", "store") and any(id(value) in images for value in group.inputs)
        if group.kind in IMAGE_KINDS or moved or (group.kind == "store" and is_image(group.output)):
            images.update(id(value) for value in group.outputs)
    return _in_order(groups)


def is_image(value: ir.Value | None) -> bool:
    """Whether `value` is a float32 batch of images, [N, C, H, W]."""
    return value is not None and value.dtype == ir.DataType.FLOAT and value.shape is not None and len(value.shape) == 4


def shape_of(value: ir.Value) -> tuple[int, ...]:
    """The static shape of `value`."""
    assert value.shape is not None
    return tuple(int(extent) for extent in value.shape.numpy())


def _anchor(node: ir.Node, layer: WeightedLayer | None, images: set[int]) -> Group:
    kind = _kind(node, layer, images)
    inputs = tuple(value for value in node.inputs if value is not None)
    if kind in ("conv2d", "depthwise", "linear"):
        bias = node.inputs[2] if len(node.inputs) > 2 else None
        return Group(kind, node, (node,), inputs[:1], tuple(node.outputs), layer, bias)
    if kind in ("pool", "upsample", "store", "lstm"):
        inputs = inputs[:1]
    if kind == "elementwise":
        step = activation_of(node)
        if step is not None:
            return Group(kind, node, (node,), inputs[:1], tuple(node.outputs), epilogue=(step,))
    named = tuple(value for value in node.outputs if value.name)
    return Group(kind, node, (node,), inputs, named)


def _kind(node: ir.Node, layer: WeightedLayer | None, images: set[int]) -> Kind:
    output = node.outputs[0]
    if is_store(node):
        return "store"
    if node.op_type == LSTM_OP and node.domain == STORE_DOMAIN:
        return "lstm"
    if output.dtype != ir.DataType.FLOAT or node.domain not in ("", "ai.onnx"):
        return "region"
    if layer is not None and _has_constant_bias(node):
        if layer.kind == "linear":
            return "linear"
        if len(shape_of(output)) > 4:
            return "region"
        return "depthwise" if layer.kind == "depthwise" and _keeps_channels(node) else "conv2d"
    if node.op_type in POOL_OPS and _is_pool(node):
        return "pool"
    if is_movement(node):
        return "movement"
    if node.op_type == "Resize" and upsample_factors(node) is not None:
        return "upsample"
    return "elementwise" if _is_image_arithmetic(node, images) else "region"


def _is_image_arithmetic(node: ir.Node, images: set[int]) -> bool:
    """Whether `node` works elementwise on images that a kernel family computes."""
    operands = [value for value in node.inputs if value is not None]
    if activation_of(node) is not None:
        return id(operands[0]) in images and len(shape_of(node.outputs[0])) <= 4
    if node.op_type not in BINARY_OPS or len(operands) != 2 or not is_image(node.outputs[0]):
        return False
    return any(id(value) in images for value in operands) and all(
        is_image(value) or _is_broadcast_constant(value) for value in operands
    )


def _has_constant_bias(node: ir.Node) -> bool:
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    return bias is None or bias.const_value is not None


def _keeps_channels(node: ir.Node) -> bool:
    data = node.inputs[0]
    return data is not None and shape_of(data)[1] == shape_of(node.outputs[0])[1]


def _is_broadcast_constant(value: ir.Value) -> bool:
    return value.const_value is not None and value.dtype == ir.DataType.FLOAT and len(shape_of(value)) in (0, 3, 4)


def _is_pool(node: ir.Node) -> bool:
    if not is_image(node.inputs[0]) or len(node.outputs) > 1:
        return False
    if node.op_type != "ReduceMean":
        return True
    axes = node.inputs[1].const_value if len(node.inputs) > 1 and node.inputs[1] is not None else None
    return axes is not None and sorted(int(axis) % 4 for axis in axes.numpy().reshape(-1)) == [2, 3]


def upsample_factors(node: ir.Node) -> tuple[int, int] | None:
    """The whole factors of a Resize that repeats pixels, or None for any other Resize."""
    source, target = node.inputs[0], node.outputs[0]
    found = node_resamplings(node)
    if source is None or found is None or not (is_image(source) and is_image(target)):
        return None
    factors = {2: 1, 3: 1}
    for each in found:
        factor, left = divmod(each.taps.shape[1], shape_of(source)[each.axis])
        if each.axis not in factors or left or not each.copies:
            return None
        if not np.array_equal(each.taps[0], np.repeat(np.arange(shape_of(source)[each.axis]), factor)):
            return None
        factors[each.axis] = factor
    return factors[2], factors[3]


def _extend(group: Group, outputs: set[int], taken: set[int], grids: Mapping[int, Format]) -> Group:
    """Absorb the bias, residual additions and activations that alone read the group's result."""
    while id(group.output) not in outputs:
        users = [use.node for use in group.output.uses()]
        grid = grids.get(id(group.output))
        start = group if grid is None else replace(group, epilogue=(*group.epilogue, Rounded(grid)))
        longer = _with_gate(start, users, outputs) or (_with_next(start, users[0], taken) if len(users) == 1 else None)
        if longer is None:
            break
        group = longer
    return group


def _with_gate(group: Group, users: list[ir.Node], outputs: set[int]) -> Group | None:
    """Absorb x * f(x), where both nodes read the group's result."""
    if len(users) != 2:
        return None
    found = gated_activation(group.output, users)
    if found is None or id(found.inner.outputs[0]) in outputs:
        return None
    return _longer(group, (found.inner, found.product), found.activation)


def _with_next(group: Group, node: ir.Node, taken: set[int]) -> Group | None:
    if id(node) in taken or node.domain not in ("", "ai.onnx") or len(node.outputs) != 1:
        return None
    step = activation_of(node)
    if step is not None and node.inputs[0] is group.output:
        return _longer(group, (node,), step)
    if node.op_type != "Add":
        return None
    other = node.inputs[1] if node.inputs[0] is group.output else node.inputs[0]
    if other is None or other is group.output:
        return None
    if group.kind == "linear" and group.bias is None and not group.epilogue and _is_row(other, group.output):
        return replace(group, nodes=(*group.nodes, node), bias=other, outputs=tuple(node.outputs))
    if other.const_value is not None or other.shape is None or shape_of(other) != shape_of(group.output):
        return None
    if _depends_on(other, group):
        return None
    longer = _longer(group, (node,), Added(len(group.residuals)))
    return replace(longer, residuals=(*group.residuals, other))


def _longer(group: Group, nodes: tuple[ir.Node, ...], step: Activation | Added) -> Group:
    last = nodes[-1]
    return replace(group, nodes=(*group.nodes, *nodes), outputs=tuple(last.outputs), epilogue=(*group.epilogue, step))


def _is_row(value: ir.Value, result: ir.Value) -> bool:
    return value.const_value is not None and int(value.const_value.size) == shape_of(value)[-1] == shape_of(result)[-1]


def _depends_on(value: ir.Value, group: Group) -> bool:
    """Whether `value` is computed from a node of `group`, through any path."""
    members = {id(node) for node in group.nodes}
    seen: set[int] = set()
    pending = [value]
    while pending:
        producer = pending.pop().producer()
        if producer is None or id(producer) in seen:
            continue
        if id(producer) in members:
            return True
        seen.add(id(producer))
        pending.extend(source for source in producer.inputs if source is not None)
    return False


def _in_order(groups: list[Group]) -> list[Group]:
    """Sort so that every group follows what it reads; among the ready ones, stay with the last kind of work."""
    producer = {id(value): index for index, group in enumerate(groups) for value in group.outputs}
    waiting = {
        index: {producer[id(value)] for value in group.reads if id(value) in producer} - {index}
        for index, group in enumerate(groups)
    }
    ordered: list[Group] = []
    last_region = False
    while waiting:
        ready = [index for index, needs in waiting.items() if not needs]
        pick = min(ready, key=lambda index: ((groups[index].kind == "region") != last_region, index))
        ordered.append(groups[pick])
        if groups[pick].kind != "movement":
            last_region = groups[pick].kind == "region"
        del waiting[pick]
        for needs in waiting.values():
            needs.discard(pick)
    return ordered
