"""Recurrent layers without lengths of sequences that are all steps."""

from __future__ import annotations

import onnx_ir as ir

from edgeprune.ir.canonical_movement import static_shape
from edgeprune.ir.edit import constant

_LENGTHS = 4


def drop_full_lengths(model: ir.Model) -> None:
    """Leave out the lengths of LSTM, GRU and RNN that say that every sequence has all steps, in place."""
    for node in model.graph:
        if node.op_type not in ("LSTM", "GRU", "RNN") or node.domain or len(node.inputs) <= _LENGTHS:
            continue
        lengths, shape = constant(node.inputs[_LENGTHS]), static_shape(node.inputs[0])
        if lengths is not None and shape is not None and (lengths == shape[0]).all():
            node.replace_input_with(_LENGTHS, None)
