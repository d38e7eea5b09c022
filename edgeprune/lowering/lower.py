"""The canonical IR to a plan: groups, layout, kernels, in the layout that is estimated faster."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import numpy as np
import onnx_ir as ir

from edgeprune.ir.weights import read_weight
from edgeprune.lowering.emit import emit
from edgeprune.lowering.groups import Group, find_groups, shape_of
from edgeprune.lowering.layout import Mode, input_buffer, output_buffer, plan_layout
from edgeprune.lowering.operands import copy, places_of
from edgeprune.lowering.plan import Plan, Port
from edgeprune.lowering.program import Program
from edgeprune.lowering.regions import emit_region
from edgeprune.lowering.strided import dense
from edgeprune.lowering.trace import trace_movements
from edgeprune.mask import stored_share
from edgeprune.pattern import Pattern
from edgeprune.progress import Progress, silent
from edgeprune.target import Target

_SCATTERED = 0.9
"""Zeros count as scattered when the weights kept fill less than this share of the vectors that hold them."""


def lower(model: ir.Model, target: Target, mode: Mode | None = None, progress: Progress = silent) -> Plan:
    """Lower canonical `model` for `target`; without `mode`, in the layout whose kernels are estimated faster.

    Raises EdgepruneError (op-unsupported, move-unsupported) naming the node.
    """
    groups = find_groups(model)
    modes: tuple[Mode, ...] = ("channels", "pixels") if _has_single_zeros(groups, target.lanes) else ("channels",)
    if mode is not None:
        modes = (mode,)
    programs = [_program(model, groups, target, choice, progress) for choice in modes]
    best = min(programs, key=lambda program: program.cycles)
    inputs = tuple(
        Port(_name(value), shape_of(value), _dtype(value), input_buffer(value)) for value in model.graph.inputs
    )
    outputs = tuple(
        Port(_name(value), shape_of(value), _dtype(value), output_buffer(index))
        for index, value in enumerate(model.graph.outputs)
    )
    return best.plan(inputs, outputs)


def _program(model: ir.Model, groups: Sequence[Group], target: Target, mode: Mode, progress: Progress) -> Program:
    trace = trace_movements(groups)
    program = Program(target, plan_layout(model, groups, trace, mode), trace)
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
    _finish_outputs(program, model)
    return program


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


def _has_single_zeros(groups: Sequence[Group], lanes: int) -> bool:
    """Whether the convolutions hold many zeros that vectors of `lanes` output channels do not share."""
    kept = stored = 0.0
    for group in groups:
        if group.kind == "conv2d" and group.layer is not None:
            weights = read_weight(group.layer)
            kept += float(np.count_nonzero(weights))
            stored += weights.size * stored_share(weights, Pattern(1, lanes))
    return kept < _SCATTERED * stored


def _name(value: ir.Value) -> str:
    assert value.name is not None
    return value.name


def _dtype(value: ir.Value) -> str:
    assert value.dtype is not None
    return str(value.dtype.numpy())
