"""Labels through convolutions and pools."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgeprune.ir.dependency.labels import varying
from edgeprune.ir.dependency.stored import stored
from edgeprune.ir.dependency.trace import Rule, Trace, Use, where
from edgeprune.ir.ports import static_shape

CHANNELS = 1


def convolution(trace: Trace, node: ir.Node) -> None:
    """Output channels are new units, unless the groups of channels tie them to the input's."""
    data, weight, result = node.inputs[0], node.inputs[1], node.outputs[0]
    assert data is not None and weight is not None
    if stored(weight) is None:
        for value in (data, weight):
            trace.pin_value(value, f"{where(node)} computes its weight")
        return
    spatial = tuple(range(2, len(static_shape(data))))
    trace.clear_of(data, (0, *spatial), f"{where(node)} slides along this axis")
    groups = node.attributes.get_int("group", 1)
    trace.fresh(result, CHANNELS)
    inputs = static_shape(data)[CHANNELS] // groups
    outputs = static_shape(result)[CHANNELS] // groups
    whole = groups > 1 and _whole_groups(groups, inputs, outputs)
    if groups > 1:
        _tie_groups(trace, node, whole, groups, inputs, outputs)
    if node.op_type == "Conv":
        trace.note(Use(node, 1, 0, "out", result, CHANNELS))
    elif whole:
        trace.note(Use(node, 1, 0, "out", data, CHANNELS))
    else:
        trace.note(Use(node, 1, 1, "out", result, CHANNELS, length=outputs))
    if not whole:
        axis = 1 if node.op_type == "Conv" else 0
        trace.note(Use(node, 1, axis, "in", data, CHANNELS, length=inputs if axis == 1 else 0))
    trace.use(node, 2, 0, "out", result, CHANNELS)


def _whole_groups(groups: int, inputs: int, outputs: int) -> bool:
    """Whether to remove a group of channels whole, or as many channels of every group: what leaves more units."""
    return min(inputs, outputs) == 1 or 2 * groups > inputs + outputs


def _tie_groups(trace: Trace, node: ir.Node, whole: bool, groups: int, inputs: int, outputs: int) -> None:
    reason = f"{where(node)} has a group of channels for each"
    result = _channel_labels(trace, node.outputs[0], groups, outputs)
    source = _channel_labels(trace, node.inputs[0], groups, inputs)
    if whole:
        trace.labels.join(result, result[:, :1], reason)
        trace.labels.join(source, result[:, :1], reason)
    else:
        trace.labels.join(result, result[:1], reason)
        trace.labels.join(source, source[:1], reason)


def _channel_labels(trace: Trace, value: ir.Value | None, groups: int, size: int) -> np.ndarray:
    for layer in trace.layers(value):
        if CHANNELS in varying(layer):
            channels = np.moveaxis(layer, CHANNELS, 0).reshape(layer.shape[CHANNELS], -1)
            return channels[:, 0].reshape(groups, size)
    return np.zeros((groups, size), np.int64)


def pool(trace: Trace, node: ir.Node) -> None:
    """Channels stay as they are; nothing can be removed from the image."""
    for value in node.outputs:
        spatial = tuple(range(2, len(static_shape(value))))
        trace.put(value, trace.clear_of(node.inputs[0], spatial, f"{where(node)} slides along this axis"))


def resize(trace: Trace, node: ir.Node) -> None:
    """Axes that keep their size keep their units."""
    data, result = node.inputs[0], node.outputs[0]
    assert data is not None
    before, after = static_shape(data), static_shape(result)
    changed = tuple(axis for axis, size in enumerate(before) if size != after[axis])
    trace.put(result, trace.clear_of(data, changed, f"{where(node)} scales this axis"))
    sizes = node.inputs[3] if len(node.inputs) > 3 else None
    crops = node.attributes.get_string("coordinate_transformation_mode", "") == "tf_crop_and_resize"
    if crops or "axes" in node.attributes or (sizes is not None and stored(sizes) is None):
        trace.pin_value(result, f"{where(node)} crops it, or is given computed sizes")


RULES: dict[str, Rule] = {
    "Conv": convolution,
    "ConvTranspose": convolution,
    "MaxPool": pool,
    "AveragePool": pool,
    "LpPool": pool,
    "GlobalAveragePool": pool,
    "GlobalMaxPool": pool,
    "Resize": resize,
}
