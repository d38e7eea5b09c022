"""Gives powers operands of one type."""

from __future__ import annotations

import onnx_ir as ir

from edgeprune.ir.edit import constant, new_constant, new_node


def align_exponents(model: ir.Model) -> None:
    """Let the exponent of every real-valued Pow have the type of its base, in place."""
    for node in list(model.graph):
        if node.op_type != "Pow" or node.domain:
            continue
        base, exponent = node.inputs
        assert base is not None and exponent is not None
        if base.dtype is None or not base.dtype.is_floating_point() or exponent.dtype in (None, base.dtype):
            continue
        known = constant(exponent)
        if known is not None:
            aligned = new_constant(model.graph, f"{exponent.name}_real", known.astype(base.dtype.numpy()))
        else:
            cast = new_node("Cast", [exponent], {"to": int(base.dtype)}, name=f"{node.name}_exponent", like=exponent)
            cast.outputs[0].type = ir.TensorType(base.dtype)
            model.graph.insert_before(node, cast)
            aligned = cast.outputs[0]
        node.replace_input_with(1, aligned)
