"""Runs of nodes that no kernel family computes, cut out as small ONNX models for TVM's own front end."""

from __future__ import annotations

from collections.abc import Sequence

import onnx
import onnx_ir as ir

from edgeprune.ir.canonical_version import CANONICAL_OPSET
from edgeprune.lowering.groups import Group, shape_of
from edgeprune.lowering.movement import is_movement
from edgeprune.lowering.operands import dense_operand
from edgeprune.lowering.plan import Layer
from edgeprune.lowering.program import Program
from edgeprune.lowering.region import lower_region


def emit_region(program: Program, run: Sequence[Group], outputs: set[int], index: int) -> None:
    """Append the kernels of a run of region groups; `outputs` holds the values that something outside reads."""
    nodes = _with_movements(run)
    made = {id(value) for node in nodes for value in node.outputs}
    wanted = [value for group in run for value in group.outputs if id(value) in outputs]
    inputs, constants = _external(nodes, made)
    region = lower_region(_model(nodes, inputs, wanted, constants, index), program.target, f"edge_region_{index}")
    names = {region.inputs[_name(value)]: dense_operand(program, value) for value in inputs}
    for value in wanted:
        names[region.outputs[_name(value)]] = program.layout.homes[id(value)].place.buffer
    program.add_region(region, names, Layer(run[0].anchor.name or "", "region", "tvm"))


def _with_movements(run: Sequence[Group]) -> list[ir.Node]:
    """The nodes of the run, with the movement nodes that stand between them, in running order."""
    inside = {id(group.anchor) for group in run}
    ordered: list[ir.Node] = []
    done: set[int] = set()

    def visit(node: ir.Node) -> None:
        if id(node) in done:
            return
        done.add(id(node))
        for value in node.inputs:
            producer = value.producer() if value is not None else None
            if producer is not None and _reaches(producer, inside):
                visit(producer)
        ordered.append(node)

    for group in run:
        visit(group.anchor)
    return ordered


def _reaches(node: ir.Node, inside: set[int]) -> bool:
    """Whether `node` is one of `inside` or moves elements of what they compute."""
    if id(node) in inside:
        return True
    sources = (value.producer() for value in node.inputs if value is not None)
    return is_movement(node) and any(_reaches(source, inside) for source in sources if source is not None)


def _external(nodes: Sequence[ir.Node], made: set[int]) -> tuple[list[ir.Value], list[ir.Value]]:
    """What the nodes read from outside: computed values, and constants."""
    inputs: dict[int, ir.Value] = {}
    constants: dict[int, ir.Value] = {}
    for node in nodes:
        for value in node.inputs:
            if value is None or id(value) in made:
                continue
            (inputs if value.const_value is None else constants)[id(value)] = value
    return list(inputs.values()), list(constants.values())


def _model(
    nodes: Sequence[ir.Node],
    inputs: Sequence[ir.Value],
    outputs: Sequence[ir.Value],
    constants: Sequence[ir.Value],
    index: int,
) -> onnx.ModelProto:
    graph = onnx.helper.make_graph(
        [ir.to_proto(node) for node in nodes],
        f"region_{index}",
        [_value_info(value) for value in inputs],
        [_value_info(value) for value in outputs],
        [_initializer(value) for value in constants],
    )
    version = max((node.version or 0 for node in nodes), default=0) or CANONICAL_OPSET
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", version)])


def _name(value: ir.Value) -> str:
    assert value.name is not None
    return value.name


def _value_info(value: ir.Value) -> onnx.ValueInfoProto:
    assert value.dtype is not None
    return onnx.helper.make_tensor_value_info(_name(value), int(value.dtype), shape_of(value))


def _initializer(value: ir.Value) -> onnx.TensorProto:
    assert value.const_value is not None
    return onnx.numpy_helper.from_array(value.const_value.numpy(), value.name)
