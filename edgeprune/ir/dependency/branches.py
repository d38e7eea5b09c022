"""Residual branches: sums of a value and something computed from it, which can go whole."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgeprune.ir.cost import node_macs
from edgeprune.ir.dependency.slices import Role, UnitSlice
from edgeprune.ir.dependency.stored import stored
from edgeprune.ir.edit import bypass, constant
from edgeprune.ir.ports import static_shape


@dataclass(frozen=True)
class Branch:
    """`node` adds a branch to its input number `stays`; without the branch, `nodes` are not needed."""

    node: ir.Node
    stays: int
    nodes: tuple[ir.Node, ...]

    @property
    def name(self) -> str:
        """The name of the sum."""
        return str(self.node.name)

    @property
    def end(self) -> ir.Value:
        """What the branch adds."""
        value = self.node.inputs[1 - self.stays]
        assert value is not None
        return value

    def slices(self) -> tuple[UnitSlice, ...]:
        """All weights of the branch, as the one unit that it is."""
        return tuple(each for node in self.nodes if node_macs(node) for each in _owned(node))


def _owned(node: ir.Node) -> list[UnitSlice]:
    """All weights of `node` as one unit; its operands where it multiplies activations."""
    arrays = [stored(value) for value in node.inputs]
    weights = [index for index, array in enumerate(arrays) if array is not None and array.ndim > 1]
    sizes = {index: (*static_shape(value), 1)[0] for index, value in enumerate(node.inputs) if value is not None}
    role: Role = "out" if weights else "product"
    name = str(node.name)
    return [UnitSlice(name, index, 0, role, np.zeros(sizes[index], np.int64)) for index in weights or range(2)]


def find_branches(model: ir.Model) -> list[Branch]:
    """Every x + f(x) whose f multiplies, in graph order; x may be moved, padded or pooled."""
    nodes = list(model.graph)
    before = _ancestors(nodes)
    found = []
    for node in nodes:
        if node.op_type != "Add" or node.domain:
            continue
        for stays in (0, 1):
            kept, end = node.inputs[stays], node.inputs[1 - stays]
            if kept is None or end is None or not _comes_from(kept, before.get(id(end), frozenset())):
                continue
            unneeded = _unneeded(node, end, nodes)
            if _can_go(node, kept) and any(node_macs(each) for each in unneeded):
                found.append(Branch(node, stays, unneeded))
    return found


def _comes_from(value: ir.Value, sources: frozenset[int]) -> bool:
    """Whether `value` is one of `sources`, or one of them moved or padded (a shortcut without weights)."""
    while id(value) not in sources:
        node = value.producer()
        source = node.inputs[0] if node is not None and _is_shortcut(node) else None
        if source is None:
            return False
        value = source
    return True


def _is_shortcut(node: ir.Node) -> bool:
    """Whether `node` only thins out, pools, pads or turns an image; taking one part of it is no shortcut."""
    if node.op_type != "Slice":
        return node.op_type in ("AveragePool", "MaxPool", "Pad", "Transpose")
    steps = constant(node.inputs[4]) if len(node.inputs) > 4 else None
    return steps is not None and bool(np.any(steps > 1))


def remove_branch(branch: Branch) -> None:
    """Let what follows the sum read the value that stays, in place; unneeded nodes are left to others."""
    kept = branch.node.inputs[branch.stays]
    assert kept is not None
    bypass(branch.node, kept)


def _ancestors(nodes: list[ir.Node]) -> dict[int, frozenset[int]]:
    """For every computed value, the ids of the data it is computed from."""
    found: dict[int, frozenset[int]] = {}
    for node in nodes:
        data = [value for value in node.inputs if value is not None and stored(value) is None]
        known = frozenset(id(value) for value in data).union(*(found.get(id(value), ()) for value in data))
        found.update((id(value), known) for value in node.outputs)
    return found


def _can_go(node: ir.Node, kept: ir.Value) -> bool:
    """Whether the sum can be left out: shapes agree, and no model output would become an input or another output."""
    port = node.outputs[0].is_graph_output() and (kept.producer() is None or kept.is_graph_output())
    return static_shape(kept) == static_shape(node.outputs[0]) and not port


def _unneeded(node: ir.Node, end: ir.Value, nodes: list[ir.Node]) -> tuple[ir.Node, ...]:
    """The nodes that only `end`, as an input of `node`, needs."""
    gone: set[ir.Node] = set()
    for each in reversed(nodes):
        for value in each.outputs:
            others = any(use.node not in gone and not (value is end and use.node is node) for use in value.uses())
            if others or value.is_graph_output():
                break
        else:
            if any(value.uses() for value in each.outputs):
                gone.add(each)
    return tuple(each for each in nodes if each in gone)
