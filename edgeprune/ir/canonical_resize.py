"""Resize without the empty tensors that stand for absent inputs in older operator sets."""

from __future__ import annotations

import onnx_ir as ir

from edgeprune.ir.edit import constant


def drop_empty_sizes(model: ir.Model) -> None:
    """Leave out what Resize is given as an empty constant: a region, scales or sizes, in place."""
    for node in model.graph:
        if node.op_type != "Resize" or node.domain:
            continue
        for index, value in enumerate(node.inputs):
            known = constant(value) if index else None
            if known is not None and known.size == 0:
                node.replace_input_with(index, None)
