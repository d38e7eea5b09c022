"""How the inputs and outputs of a quantized model are held: as they are stored, or in real numbers."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from edgeprune.ir.edit import new_node
from edgeprune.ir.states import State
from edgeprune.lowering.movement import is_movement
from edgeprune.lowering.quantization import (
    STORE_DOMAIN,
    STORE_OP,
    Quantized,
    insert_after,
    is_store,
    replace_output,
)


def store_ports(found: Quantized, real_states: Sequence[State] = ()) -> None:
    """Let outputs on a grid be stored on it, and inputs that are quantized before anything else be given so.

    The inputs and outputs of `real_states` are real numbers.
    """
    found.stored_ports = True
    for value in found.model.graph.inputs:
        if value.name not in {state.input for state in real_states}:
            _store_input(found, value)
    results = {state.output for state in real_states}
    for value in [value for value in found.model.graph.outputs if value.name in results]:
        _copy_output(found, value)


def copy_outputs(found: Quantized, computed_by: str = "") -> None:
    """Let every output on a grid, or of one op alone, be a copy in real numbers of what is stored on it."""
    graph = found.model.graph
    for value in [value for value in graph.outputs if id(value) in found.grids]:
        producer = value.producer()
        if computed_by and (producer is None or producer.op_type != computed_by):
            continue
        _copy_output(found, value)


def _copy_output(found: Quantized, value: ir.Value) -> None:
    """Let the output `value` be a copy in real numbers of what is computed."""
    graph, name = found.model.graph, value.name
    node = new_node(STORE_OP, [value], name=f"{name}_real", like=value)
    node.domain = STORE_DOMAIN
    insert_after(graph, value, node)
    replace_output(graph, value, node.outputs[0])
    value.name = f"{name}_stored"


def _store_input(found: Quantized, value: ir.Value) -> None:
    """Put the input `value` on the grid that every reader of its elements stores them on, if there is one."""
    stores = _readers_of_elements(value)
    grids = {found.grids[id(node.outputs[0])] for node in stores if is_store(node)}
    if len(grids) != 1 or not all(is_store(node) and not node.outputs[0].is_graph_output() for node in stores):
        return
    for store in stores:
        source = store.inputs[0]
        assert source is not None
        ir.convenience.replace_all_uses_with(store.outputs[0], source)
        found.model.graph.remove(store, safe=True)
    found.grids[id(value)] = grids.pop()


def _readers_of_elements(value: ir.Value) -> list[ir.Node]:
    """The nodes that read `value`, or what nodes that only move its elements make of it."""
    readers: list[ir.Node] = []
    for use in value.uses():
        moves = is_movement(use.node) and use.node.op_type != "Concat"
        found = (
            [other for output in use.node.outputs for other in _readers_of_elements(output)] if moves else [use.node]
        )
        readers += [node for node in found if node not in readers]
    return readers
