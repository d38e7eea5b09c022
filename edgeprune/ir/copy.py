"""Copies of models, so that a pass never changes the model it was given."""

from __future__ import annotations

import onnx_ir as ir


def copy_model(model: ir.Model) -> ir.Model:
    """A model with its own graph, nodes, values and metadata.

    Weight tensors are shared: they are never changed in place, a pass gives a value a new tensor instead.
    """
    return model.clone(deep_copy=False)
