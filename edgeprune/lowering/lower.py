"""The canonical IR to a plan: groups, layout, kernels, in the layout that is estimated faster."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import partial
from itertools import groupby

import numpy as np
import onnx_ir as ir

from edgeprune.errors import EdgepruneError
from edgeprune.ir.states import states_of
from edgeprune.kernels.abi import Format
from edgeprune.lowering.bands import Banded, split_into_bands
from edgeprune.lowering.copying import copy
from edgeprune.lowering.emit import emit
from edgeprune.lowering.fixed_point import fixed_point_numbers
from edgeprune.lowering.groups import HALF_KINDS, Group, find_groups, shape_of
from edgeprune.lowering.keeping import keep_in_place
from edgeprune.lowering.layout import Layout, Mode, input_buffer, output_buffer, plan_layout, stored_format
from edgeprune.lowering.lstm import join_lstms
from edgeprune.lowering.modes import Modes, choose_modes, named_modes, noted_modes
from edgeprune.lowering.operands import places_of
from edgeprune.lowering.plain_pools import make_pools_plain
from edgeprune.lowering.plan import Kept, Plan, Port
from edgeprune.lowering.pool_grids import read_in_place
from edgeprune.lowering.program import Program, machine_of
from edgeprune.lowering.quantization import LSTM_OP, Quantized, store_after, without_quantization
from edgeprune.lowering.regions import emit_region
from edgeprune.lowering.stored_kind import stored_kind
from edgeprune.lowering.stored_ports import copy_outputs, store_ports
from edgeprune.lowering.strided import dense
from edgeprune.lowering.trace import Trace, trace_movements
from edgeprune.progress import Progress, silent
from edgeprune.target import Target


def lower(
    model: ir.Model,
    target: Target,
    mode: Mode | Mapping[str, Mode] | None = None,
    progress: Progress = silent,
) -> Plan:
    """Lower canonical `model` for `target`.

    `mode` forces one layout on every image, or one by node name (channels-last where it names none). Without it,
    layouts that are noted on nodes count, and where there are none the mix that is estimated fastest.

    States that are noted on the model are no ports of the plan, which keeps them. Raises EdgepruneError:
    op-unsupported, naming the op, the node and the stage; shape-empty.
    """
    _refuse_empty(model)
    plan = _lowered(model, prepared(model, target), target, mode, progress)
    unlike = {state.source.name for state in plan.kept if state.source.format != state.result.format}
    if not unlike:
        return keep_in_place(plan)
    return keep_in_place(_lowered(model, prepared(model, target, unlike), target, mode, progress))


def _lowered(
    given: ir.Model, quantized: Quantized, target: Target, mode: Mode | Mapping[str, Mode] | None, progress: Progress
) -> Plan:
    """The plan of the model `given`, which was prepared to `quantized`."""
    fixed_point = target.arithmetic == "fixed"
    bands = split_into_bands(quantized) if fixed_point else []
    model, groups = quantized.model, settled_groups(quantized, fixed_point)
    trace = trace_movements(groups)
    if target.real == "float16":
        quantized.halves = {id(value) for group in groups if group.kind in HALF_KINDS for value in group.outputs}
    modes = _modes(groups, trace, target, mode, _integer_groups(quantized, groups, trace))
    fixed = fixed_point_numbers(quantized, groups, trace) if fixed_point else {}
    layout = plan_layout(model, groups, trace, modes, quantized, fixed)
    program = Program(target, layout, trace, quantized, fixed, _banded_buffers(layout, trace, bands, target))
    _emit_all(program, model, groups, progress)
    _finish_outputs(program, model)
    inputs = {_name(value): _port(program, value, input_buffer(value)) for value in model.graph.inputs}
    outputs = {
        _name(value): _port(program, value, output_buffer(index)) for index, value in enumerate(model.graph.outputs)
    }
    kept = tuple(Kept(inputs.pop(state.input), outputs.pop(state.output)) for state in states_of(given))
    return program.plan(tuple(inputs.values()), tuple(outputs.values()), kept)


def prepared(model: ir.Model, target: Target, real_states: Collection[str] = ()) -> Quantized:
    """`model` without quantization, its ports and pools as `target` has them, before anything is grouped.

    States whose inputs are in `real_states` are held in real numbers.
    """
    quantized = without_quantization(join_lstms(model), target.dot)
    if target.bare:
        store_ports(quantized, [state for state in states_of(model) if state.input in real_states])
    if target.arithmetic != "fixed":
        read_in_place(quantized)
        copy_outputs(quantized, LSTM_OP)
        return quantized
    make_pools_plain(quantized)
    if not target.bare:
        copy_outputs(quantized)
    return quantized


def _banded_buffers(layout: Layout, trace: Trace, bands: Sequence[Banded], target: Target) -> set[str]:
    """The buffers whose parts are arguments of kernels: those of a microcontroller, where code must be shared."""
    values = [value for banded in bands for value in (banded.source, banded.result)] if target.bare else []
    return {layout.homes[id(trace.origin(value).root)].place.buffer for value in values}


def settled_groups(quantized: Quantized, fixed_point: bool) -> list[Group]:
    """The groups of the model, where what cannot store integers itself is followed by a store."""
    kind = partial(stored_kind, constants=quantized.integers) if fixed_point else None
    groups = find_groups(quantized.model, quantized.grids, kind)
    wanting = [
        value
        for group in groups
        for value in group.outputs
        if (group.kind == "region" and id(value) in quantized.grids)
        or (group.kind == "upsample" and quantized.rounding(value) is not None)
    ]
    for value in wanting:
        store_after(quantized, value, quantized.grids.pop(id(value)))
    return find_groups(quantized.model, quantized.grids, kind) if wanting else groups


def _integer_groups(quantized: Quantized, groups: Sequence[Group], trace: Trace) -> set[int]:
    """The anchors of the groups that read or write integers, which are channels-last."""
    return {
        id(group.anchor)
        for group in groups
        for value in (*group.reads, *group.outputs)
        if value.const_value is None
        and value.dtype == ir.DataType.FLOAT
        and stored_format(trace, quantized, trace.origin(value).root).quantized
    }


def _modes(
    groups: Sequence[Group],
    trace: Trace,
    target: Target,
    mode: Mode | Mapping[str, Mode] | None,
    integer: Collection[int],
) -> Modes:
    mode = mode or noted_modes(groups)
    if not mode:
        return choose_modes(groups, trace, machine_of(target), integer, Format(target.real))
    modes = {id(group.anchor): mode for group in groups} if isinstance(mode, str) else named_modes(groups, mode)
    return {anchor: "channels" if anchor in integer else chosen for anchor, chosen in modes.items()}


def _refuse_empty(model: ir.Model) -> None:
    for value in (*model.graph.inputs, *model.graph.outputs):
        if 0 in shape_of(value):
            raise EdgepruneError(
                "shape-empty",
                f"'{value.name}' of shape {list(shape_of(value))} holds no value",
                where=f"input or output '{value.name}', stage lowering",
                hint="export the model without it",
            )


def _emit_all(program: Program, model: ir.Model, groups: Sequence[Group], progress: Progress) -> None:
    work = [group for group in groups if group.kind != "movement"]
    done = 0
    for index, (is_region, run) in enumerate(groupby(work, key=lambda group: group.kind == "region")):
        members = list(run)
        if is_region:
            emit_region(program, members, _read_outside(model, groups, members), index)
        else:
            for group in members:
                emit(program, group)
        done += len(members)
        progress("lowering", done, len(work), members[-1].anchor.name or "")


def _read_outside(model: ir.Model, groups: Sequence[Group], run: Sequence[Group]) -> set[int]:
    """The values of `run` that another group, a movement or the user reads."""
    inside = {id(group) for group in run}
    read = {id(value) for group in groups if id(group) not in inside for value in group.reads}
    return read | {id(value) for value in model.graph.outputs}


def _finish_outputs(program: Program, model: ir.Model) -> None:
    """Copy the outputs that no kernel wrote in place."""
    for index, value in enumerate(model.graph.outputs):
        target = dense(output_buffer(index), shape_of(value))
        buffer, places = places_of(program, value)
        if buffer != target.buffer or not np.array_equal(places, target.places()):
            copy(program, buffer, places, target, _name(value))


def _port(program: Program, value: ir.Value, buffer: str) -> Port:
    return Port(_name(value), shape_of(value), _dtype(value), buffer, program.layout.format_of(buffer))


def _name(value: ir.Value) -> str:
    assert value.name is not None
    return value.name


def _dtype(value: ir.Value) -> str:
    assert value.dtype is not None
    return str(value.dtype.numpy())
