"""LSTMs of integers: one node for what is written out step by step, and the kernel call of it."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgeprune.ir.canonical_fold import remove_unused
from edgeprune.ir.copy import copy_model
from edgeprune.ir.edit import constant, new_constant, new_node
from edgeprune.ir.written_lstm import WrittenLstm, written_lstms
from edgeprune.kernels.abi import Format, Kernel
from edgeprune.kernels.fixed_point.lstm import LstmNumbers, LstmScales
from edgeprune.kernels.fixed_point.lstm_kernel import Lstm, build_fixed_lstm, possible
from edgeprune.lowering.groups import Group, shape_of
from edgeprune.lowering.operands import dense_operand, format_of
from edgeprune.lowering.program import Program
from edgeprune.lowering.quantization import LSTM_OP, STORE_DOMAIN, insert_after, replace_output

_CONSTANTS = ("weights", "recurrent", "bias")


def join_lstms(model: ir.Model) -> ir.Model:
    """`model` with one node for each LSTM that is written out and that the kernel takes; itself where it has none."""
    if not written_lstms(model):
        return model
    model = copy_model(model)
    for written in written_lstms(model):
        formats = _format(written.input_grid), _format(written.hidden_grid)
        numbers = LstmNumbers(written.weights, written.recurrent, written.bias)
        lstm = _sized(written.data, written.steps, numbers, formats, _scales(written, formats))
        if possible(lstm, numbers):
            _join(model.graph, written)
    remove_unused(model)
    return model


def emit_lstm(program: Program, group: Group) -> tuple[Kernel, list[str]]:
    """The kernel of such a node, and the buffer that it reads."""
    node, data = group.anchor, group.inputs[0]
    buffer = dense_operand(program, data, format_of(program, data))
    place = program.layout.homes[id(group.output)].place
    formats = program.layout.format_of(buffer), program.layout.format_of(place.buffer)
    weights, recurrent, bias = (constant(value) for value in node.inputs[1:])
    assert weights is not None and recurrent is not None and bias is not None
    numbers = LstmNumbers(weights, recurrent, bias)
    ends = [np.array(node.attributes.get_floats(name)) for name in ("scales", "recurrent_scales")]
    cell, clip, steps = (node.attributes.get_int(name, 0) for name in ("cell", "clip", "steps"))
    scales = LstmScales.of(formats[0], ends[0], ends[1], formats[1], cell, clip)
    lstm = _sized(data, steps, numbers, formats, scales, place.offset)
    return build_fixed_lstm(lstm, numbers, program.machine), [buffer]


def _sized(
    data: ir.Value,
    steps: int,
    numbers: LstmNumbers,
    formats: tuple[Format, Format],
    scales: LstmScales,
    offset: int = 0,
) -> Lstm:
    inputs = numbers.weights.shape[2]
    batch = int(np.prod(shape_of(data))) // (steps * inputs)
    return Lstm(steps, batch, inputs, numbers.units, (0, offset), *formats, scales)


def _format(grid: tuple[float, int]) -> Format:
    return Format("int8", grid[0], grid[1], -128, 127)


def _scales(written: WrittenLstm, formats: tuple[Format, Format]) -> LstmScales:
    return LstmScales.of(formats[0], written.scales, written.recurrent_scales, formats[1], written.cell, written.clip)


def _join(graph: ir.Graph, written: WrittenLstm) -> None:
    """Put the node, and the rounding to its grid, in the place of what `written` is made of."""
    constants = [new_constant(graph, f"{written.name}_{name}", getattr(written, name)) for name in _CONSTANTS]
    attributes = {
        "scales": [float(scale) for scale in written.scales],
        "recurrent_scales": [float(scale) for scale in written.recurrent_scales],
        "cell": written.cell,
        "clip": written.clip,
        "steps": written.steps,
    }
    node = new_node(LSTM_OP, [written.data, *constants], attributes, name=written.name, like=written.result)
    node.domain = STORE_DOMAIN
    parts: dict[str, np.ndarray] = {
        "scale": np.array(written.hidden_grid[0], np.float32),
        "zero": np.array(written.hidden_grid[1], np.int8),
    }
    grid = [new_constant(graph, f"{written.name}_hidden_{part}", array) for part, array in parts.items()]
    stored = new_node("QuantizeLinear", [node.outputs[0], *grid], name=f"{written.name}_store", like=written.result)
    stored.outputs[0].type = ir.TensorType(ir.DataType.INT8)
    loaded = new_node("DequantizeLinear", [stored.outputs[0], *grid], name=f"{written.name}_load", like=written.result)
    uses = list(written.result.uses())
    insert_after(graph, written.result, loaded)
    graph.insert_before(loaded, [node, stored])
    for use in uses:
        use.node.replace_input_with(use.idx, loaded.outputs[0])
    if written.result.is_graph_output():
        replace_output(graph, written.result, loaded.outputs[0])
        written.result.name = f"{written.name}_written"
