"""Computes what does not depend on the inputs, and removes what does nothing."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as common
from onnxscript import optimizer, rewriter
from onnxscript.rewriter.rules import common as rules

from edgeprune.ir.edit import constant, new_constant

FOLD_LIMIT = 1 << 26
"""Elements of the largest tensor that folding may create."""

_KEPT = {"QuantizeLinear", "DequantizeLinear"}
_TIDY = (
    *rules.mul_by_1_rule.commute(),
    rules.div_by_1_rule,
    *rules.add_0_rule.commute(),
    rules.sub_0_rule,
    rules.dropout_zero_rule,
    rules.dropout_inference_rule,
    rules.no_op_cast_rule,
    rules.no_op_transpose_rule,
    rules.no_op_expand_rule,
    rules.transpose_transpose_rule,
    rules.reshape_reshape_rule,
    rules.unsqueeze_unsqueeze_rule,
    rules.collapse_slice_rule,
    rules.fuse_pad_into_conv_rule,
)


def fold_constants(model: ir.Model) -> None:
    """Replace every node with constant inputs by its value and inline every If with a constant condition, in place."""
    common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    fold = optimizer.fold_constants
    fold(
        model,
        onnx_shape_inference=True,
        input_size_limit=FOLD_LIMIT,
        output_size_limit=FOLD_LIMIT,
        should_fold=_should_fold,
    )
    common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    _fold_splits(model)
    remove_unused(model)


def remove_no_ops(model: ir.Model) -> None:
    """Drop identities, casts to the same type, pairs of transposes and the like, and share equal nodes, in place."""
    rewriter.RewritePass(_TIDY)(model)
    common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    common.IdentityEliminationPass()(model)
    common.CommonSubexpressionEliminationPass()(model)
    remove_unused(model)


def remove_unused(model: ir.Model) -> None:
    """Drop nodes, initializers and functions that no output needs, in place."""
    common.RemoveUnusedNodesPass()(model)
    common.RemoveUnusedFunctionsPass()(model)


def _fold_splits(model: ir.Model) -> None:
    """Cut split constants up: the folding above leaves nodes with several outputs."""
    for node in list(model.graph):
        whole = constant(node.inputs[0]) if node.op_type == "Split" and not node.domain else None
        axis = node.attributes.get_int("axis", 0)
        open_ends = any(value.is_graph_output() or not _is_static(value) for value in node.outputs)
        if whole is None or open_ends:
            continue
        sizes = [int(value.shape.numpy()[axis]) for value in node.outputs if value.shape is not None]
        pieces = np.split(whole, np.cumsum(sizes)[:-1], axis=axis)
        for output, piece in zip(node.outputs, pieces, strict=True):
            folded = new_constant(model.graph, f"{output.name}_folded", piece)
            ir.convenience.replace_all_uses_with(output, folded)
        model.graph.remove(node, safe=True)


def _is_static(value: ir.Value) -> bool:
    return value.shape is not None and value.shape.is_static()


def _should_fold(node: ir.Node) -> bool | None:
    if node.op_type in _KEPT:
        return False
    shapes = [value.shape for value in node.outputs]
    if any(shape is None or not shape.is_static() for shape in shapes):
        return None
    return all(math.prod(shape.numpy()) <= FOLD_LIMIT for shape in shapes if shape is not None)
