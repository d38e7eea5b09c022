"""The C of a model without an operating system: one function that calls the kernels of a plan in order."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from edgeprune.lowering.aot import kept_bytes, quoted, remark
from edgeprune.lowering.arena import Arena
from edgeprune.lowering.plan import Call, ClearHalo, Plan, Port, Step
from edgeprune.target import Target

SOURCE_NAME = "model.c"
NAMES_SOURCE = "names.c"

_HEAD = """\
/* One inference: the calls in order. M is the caller's memory, W the packed weights; figures are byte offsets. */
#include "edge_program.h"

#define M(offset) ((void *)((uint8_t *)arena + (offset)))
#define W(offset) ((void *)(edge_constants + (offset)))
#define NOTE(step) tell(note, context, step)

__attribute__((noinline)) static void tell(edge_note note, void *context, int32_t step) {
    if (note) note(context, step);
}
"""


def emit_static_source(plan: Plan, arena: Arena, constants: Mapping[str, int], target: Target, name: str) -> str:
    """The C of `plan`; `constants` are the offsets of its constants in edge_constants."""
    parts = [_declarations(plan), _facts(plan, arena, target, name), _program(plan, arena, constants)]
    return "\n".join([_HEAD, *parts, _reset(plan, arena)])


def emit_step_names(plan: Plan) -> str:
    """The C of the names of the steps of `plan`: apart, so that only programs that ask for them hold them."""
    names = [step.layer.name for step in plan.steps if isinstance(step, Call)]
    listed = "".join(f"    {quoted(name)},\n" for name in names)
    return f'#include "edge_model.h"\n\nconst char *const edge_step_names[] = {{\n{listed}    0,\n}};\n'


def _declarations(plan: Plan) -> str:
    arity = {step.symbol: len(step.arguments) for step in plan.steps if isinstance(step, Call)}
    lines = [f"void {symbol}({'void *, ' * count}int32_t begin, int32_t end);" for symbol, count in arity.items()]
    return "\n".join([*lines, ""])


def _facts(plan: Plan, arena: Arena, target: Target, name: str) -> str:
    lines = [
        *_tensors("inputs", plan.inputs, arena),
        *_tensors("outputs", plan.outputs, arena),
        "const struct edge_model edge_model = {",
        f"    {quoted(name)}, {quoted(target.name)}, {arena.size}, {len(plan.inputs)}, inputs, {len(plan.outputs)},",
        f"    outputs, {sum(isinstance(step, Call) for step in plan.steps)},",
        "};",
        "",
    ]
    return "\n".join(lines)


def _tensors(name: str, ports: tuple[Port, ...], arena: Arena) -> list[str]:
    lines = []
    for index, port in enumerate(ports):
        sizes = ", ".join(map(str, port.shape)) or "0"
        lines.append(f"static const int32_t {name}_shape_{index}[] = {{{sizes}}};")
    lines.append(f"static const struct edge_tensor {name}[] = {{")
    for index, port in enumerate(ports):
        held = port.format
        dtype = held.dtype if held.quantized else port.dtype
        size = math.prod(port.shape) * np.dtype(dtype).itemsize
        scale = float(np.float32(held.scale)).hex() + "f" if held.quantized else "0"
        label = f"{quoted(port.name)}, {quoted(dtype)}, {len(port.shape)}, {name}_shape_{index}"
        lines.append(f"    {{{label}, {size}, {scale}, {held.zero}, {arena.offsets[port.buffer]}}},")
    return [*lines, "    {0, 0, 0, 0, 0, 0, 0, 0},", "};"]


def _program(plan: Plan, arena: Arena, constants: Mapping[str, int]) -> str:
    addresses = {name: f"W({offset})" for name, offset in constants.items()}
    addresses |= {name: f"M({offset})" for name, offset in arena.offsets.items()}
    lines = ["void edge_run(void *arena, edge_note note, void *context) {"]
    count = 0
    for step in plan.steps:
        lines.append(f"    {_statement(step, addresses)}")
        if isinstance(step, Call):
            lines.append(f"    NOTE({count});")
            count += 1
    for state in plan.kept:
        ends = [f"M({arena.offsets[port.buffer]})" for port in (state.source, state.result)]
        copied = f"    __builtin_memcpy({', '.join(ends)}, {kept_bytes(state)}); /* {remark(state.source.name)} */"
        lines += [copied] if state.copied else []
    return "\n".join([*lines, "    (void)arena, (void)note, (void)context;", "}", ""])


def _reset(plan: Plan, arena: Arena) -> str:
    """Every state becomes what is stored of zero."""
    fills = [(arena.offsets[state.source.buffer], state.source.format.zero, kept_bytes(state)) for state in plan.kept]
    lines = [f"    __builtin_memset(M({offset}), {zero}, {size});" for offset, zero, size in fills]
    return "\n".join(["void edge_reset(void *arena) {", *lines, "    (void)arena;", "}", ""])


def _statement(step: Step, addresses: Mapping[str, str]) -> str:
    if isinstance(step, ClearHalo):
        sizes = (step.images, step.rows, step.columns, step.cell, step.top, step.bottom, step.left, step.right)
        numbers = ", ".join(map(str, (*sizes, step.fill)))
        return f"edge_clear_border({addresses[step.buffer]}, {numbers}); /* {remark(step.buffer)} */"
    layer = step.layer
    pattern = f", {layer.pattern} at {layer.density:.3g}" if layer.pattern else ""
    arguments = "".join(f"{address}, " for address in _arguments(step, addresses))
    return f"{step.symbol}({arguments}0, {step.units}); /* {remark(f'{layer.name}: {layer.op}{pattern}')} */"


def _arguments(step: Call, addresses: Mapping[str, str]) -> list[str]:
    """The address of each argument: of its beginning, or of where its part begins."""
    parts = step.parts or (None,) * len(step.arguments)
    begins = [part.begin if part is not None else 0 for part in parts]
    return [
        f"{addresses[name][:-1]} + {begin})" if begin else addresses[name]
        for name, begin in zip(step.arguments, begins, strict=True)
    ]
