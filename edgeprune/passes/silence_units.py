"""Sets units to zero that SelectUnits would remove: the masked twin, every shape as before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgeprune.ir.copy import copy_model
from edgeprune.ir.cost import node_macs
from edgeprune.ir.dependency.branches import Branch
from edgeprune.ir.dependency.cut import Cut
from edgeprune.ir.dependency.groups import Resolved, resolve
from edgeprune.ir.dependency.masked import Masker
from edgeprune.ir.dependency.stored import holders
from edgeprune.ir.edit import constant, new_constant

_SCALES = ("Add", "Sub", "Mul", "Concat", "LayerNormalization", "InstanceNormalization")
"""Operators whose constants may be zero where their other operand is."""


@dataclass(frozen=True)
class SilenceUnits:
    """Set to zero all weights of the units that `kept`, by group name, does not hold; the order does not matter."""

    kept: Mapping[str, np.ndarray]

    def __call__(self, model: ir.Model) -> ir.Model:
        """The masked twin: what makes a removed unit and what reads it is zero; means run over what is kept.

        Raises EdgepruneError (group-unknown, group-unresolved, units-invalid).
        """
        silenced = copy_model(model)
        resolved = resolve(silenced)
        cut = Cut(resolved, self.kept)
        _clear_constants(silenced.graph, resolved, cut)
        masker = Masker(silenced.graph, resolved.trace, cut)
        for node in list(silenced.graph):
            masker.mask(node)
        for branch in resolved.branches:
            if branch.name in self.kept and not len(self.kept[branch.name]):
                _clear_branch(silenced.graph, branch, masker)
        return silenced


def _clear_constants(graph: ir.Graph, resolved: Resolved, cut: Cut) -> None:
    for use in resolved.trace.uses:
        removed = cut.removed(resolved.trace.use_vector(use))
        scales = use.role == "affine" and use.node.op_type not in _SCALES
        if use.role in ("product", "scale") or scales or not np.any(removed):
            continue
        for holder in holders(use.node, use.index, use.axis)[:1]:
            array = constant(holder.node.inputs[holder.index])
            assert array is not None
            shape = [-1 if axis == holder.axis else 1 for axis in range(array.ndim)]
            cleared = np.where(removed.reshape(shape), holder.zero.astype(array.dtype), array)
            _replace(graph, holder.node, holder.index, cleared)


def _replace(graph: ir.Graph, node: ir.Node, index: int, array: np.ndarray) -> None:
    value = node.inputs[index]
    assert value is not None
    node.replace_input_with(index, new_constant(graph, f"{value.name}_masked", array))


def _clear_branch(graph: ir.Graph, branch: Branch, masker: Masker) -> None:
    """Zero all weights of a branch, and what it adds, which may be more than its weights make."""
    for node in branch.nodes:
        for index, value in enumerate(node.inputs):
            array = constant(value)
            if array is not None and array.dtype.kind == "f" and node_macs(node):
                _replace(graph, node, index, np.zeros_like(array))
    masker.clear(branch.node, 1 - branch.stays)
