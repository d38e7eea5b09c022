"""Keeps some units of a model and removes the others: smaller tensors, no masks; or puts units in another order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgeprune.ir.canonical_fold import remove_unused
from edgeprune.ir.copy import copy_model
from edgeprune.ir.dependency.branches import remove_branch
from edgeprune.ir.dependency.cut import Cut
from edgeprune.ir.dependency.groups import Resolved, resolve
from edgeprune.ir.dependency.rewrite import Rewriter
from edgeprune.ir.dependency.stored import holders, stored
from edgeprune.ir.edit import constant, new_constant
from edgeprune.ir.ports import static_shape


@dataclass(frozen=True)
class SelectUnits:
    """Keep of every group in `kept`, by name, the units whose numbers are given, in the order given.

    A subset makes the model smaller, a permutation of all units only moves them; groups that are not named stay.
    A residual branch (kind "layer") goes where no unit of it is kept.
    """

    kept: Mapping[str, np.ndarray]

    def __call__(self, model: ir.Model) -> ir.Model:
        """The smaller model, canonical as `model` is, every shape known.

        Raises EdgepruneError (group-unknown, group-unresolved, units-invalid, group-empty).
        """
        selected = copy_model(model)
        resolved = resolve(selected)
        cut = Cut(resolved, self.kept)
        _cut_constants(selected.graph, resolved, cut)
        rewriter = Rewriter(selected.graph, resolved.trace, cut)
        for node in list(selected.graph):
            rewriter.rewrite(node)
        for branch in resolved.branches:
            if branch.name in self.kept and not len(self.kept[branch.name]):
                remove_branch(branch)
        remove_unused(selected)
        rewriter.reshape()
        for node in selected.graph:
            _set_attributes(node)
        return selected


def _cut_constants(graph: ir.Graph, resolved: Resolved, cut: Cut) -> None:
    """Cut every constant along the axes that follow units; nodes that shared a constant share what is left of it."""
    orders: dict[tuple[ir.Node, int], dict[int, np.ndarray]] = {}
    for use in resolved.trace.uses:
        if use.role == "product":
            continue
        order = cut.order(resolved.trace.use_vector(use), f"input {use.index} of node '{use.node.name}'")
        if order is not None:
            for each in holders(use.node, use.index, use.axis):
                orders.setdefault((each.node, each.index), {})[each.axis] = order
    made: dict[tuple[object, ...], ir.Value] = {}
    for (node, index), axes in orders.items():
        value = node.inputs[index]
        array = constant(value)
        assert value is not None and array is not None
        key = (id(value), *((axis, axes[axis].tobytes()) for axis in sorted(axes)))
        if key not in made:
            for axis, order in axes.items():
                array = array.take(order, axis)
            made[key] = new_constant(graph, f"{value.name}_cut", array)
        node.replace_input_with(index, made[key])


def _set_attributes(node: ir.Node) -> None:
    """Sizes that a node states besides its constants' shapes."""
    if node.domain:
        return
    if node.op_type in ("Conv", "ConvTranspose") and node.attributes.get_int("group", 1) > 1:
        data, weight = node.inputs[0] if node.op_type == "Conv" else node.outputs[0], stored(node.inputs[1])
        assert data is not None and weight is not None
        node.attributes.add(ir.AttrInt64("group", static_shape(data)[1] // weight.shape[1]))
    elif node.op_type in ("LSTM", "GRU", "RNN"):
        recurrent = constant(node.inputs[2])
        if recurrent is not None:
            node.attributes.add(ir.AttrInt64("hidden_size", recurrent.shape[2]))
