"""Weights that a model stores as integers, as the real numbers that they stand for."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgeprune.ir.copy import copy_model
from edgeprune.ir.edit import bypass, constant, new_constant


def with_real_weights(model: ir.Model) -> ir.Model:
    """A model whose constants that go through DequantizeLinear are float32; `model` itself where there are none.

    The quantization of what is computed stays.
    """
    if not any(_stored(node) for node in model.graph):
        return model
    model = copy_model(model)
    for node in list(model.graph):
        if _stored(node):
            bypass(node, new_constant(model.graph, f"{node.inputs[0].name}_real", _real(node)))  # type: ignore[union-attr]
    return model


def _stored(node: ir.Node) -> bool:
    return (
        node.op_type == "DequantizeLinear"
        and not node.domain
        and not node.outputs[0].is_graph_output()
        and all(value is None or constant(value) is not None for value in node.inputs)
    )


def _real(node: ir.Node) -> np.ndarray:
    stored, scale, *rest = (constant(value) for value in node.inputs)
    assert stored is not None and scale is not None
    zero = rest[0] if rest and rest[0] is not None else np.zeros_like(scale)
    if scale.ndim:
        axis = node.attributes.get_int("axis", 1)
        places = tuple(place for place in range(stored.ndim) if place != axis % stored.ndim)
        scale, zero = (np.expand_dims(array, places) for array in (scale, zero))
    whole = stored.astype(np.float32) - zero.astype(np.float32)
    return np.asarray(whole * scale, np.float32)
