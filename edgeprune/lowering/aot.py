"""The ahead-of-time C: one file that calls the kernels of a plan in order."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from edgeprune.lowering.arena import Arena
from edgeprune.lowering.constants import Packed
from edgeprune.lowering.plan import Call, ClearHalo, Kept, Plan, Port, Step
from edgeprune.target import Target

SOURCE_NAME = "model.c"

_HEAD = """\
/* The calls of one inference, in order. Every thread of a context runs edge_program: a STEP gives each thread its
   share of the units, and they MEET where a step needs what another thread made. IN and OUT are the caller's
   arrays, SCRATCH the context's memory, STORED and EXPANDED the packed weights; figures are byte offsets. What is
   left for the next inference is KEPT where that begins. */
#include <string.h>

#include "program.h"

#define IN(port) ((void *)context->inputs[port])
#define OUT(port) (context->outputs[port])
#define SCRATCH(offset) ((void *)(context->arena + (offset)))
#define STORED(offset) ((void *)(edge_constants + (offset)))
#define EXPANDED(offset) ((void *)(context->constants + (offset)))
#define STEP(units, call) if (edge_share(context, thread, units, &begin, &end)) call
#define CLEAR(...) if (thread == 0) edge_clear_border(__VA_ARGS__)
#define MEET() edge_barrier(context)
#define NOTE(step) if (thread == 0 && context->nanoseconds) edge_note(context, step)
#define KEEP(to, from, bytes) if (thread == 0) memcpy(to, from, bytes)
"""


def emit_source(plan: Plan, arena: Arena, packed: Packed, target: Target) -> dict[str, str]:
    """The C of `plan` as texts by file name; the runtime's headers and sources are not among them."""
    parts = [_HEAD, _declarations(plan), _facts(plan, arena, packed, target), _program(plan, arena, packed)]
    return {SOURCE_NAME: "\n".join(parts)}


def quoted(text: str) -> str:
    """`text` as a string of C."""
    plain = "".join(
        chr(byte) if 32 <= byte < 127 and byte not in b'"\\?' else f"\\{byte:03o}" for byte in text.encode("utf-8")
    )
    return f'"{plain}"'


def remark(text: str) -> str:
    """`text` fit for a comment of C."""
    printable = "".join(letter if 32 <= ord(letter) < 127 else "_" for letter in text)
    return printable.replace("*/", "* /").replace("/*", "/ *")


def _declarations(plan: Plan) -> str:
    arity = {step.symbol: len(step.arguments) for step in plan.steps if isinstance(step, Call)}
    lines = [f"void {symbol}({'void *, ' * count}int32_t begin, int32_t end);" for symbol, count in arity.items()]
    return "\n".join(["#pragma GCC visibility push(hidden)", *lines, "#pragma GCC visibility pop", ""])


def _facts(plan: Plan, arena: Arena, packed: Packed, target: Target) -> str:
    constants = packed.records, len(packed.blob) - packed.records, packed.expanded_bytes
    names = [step.layer.name for step in plan.steps if isinstance(step, Call)]
    lines = [
        f"static const char *const cpu_flags[] = {{{''.join(quoted(flag) + ', ' for flag in target.cpu_flags)}NULL}};",
        f"static const char *const step_names[] = {{{''.join(quoted(name) + ', ' for name in names)}NULL}};",
        *_ports("inputs", plan.inputs),
        *_ports("outputs", plan.outputs),
        *_kept(plan, arena),
        "const struct edge_model edge_model = {",
        f"    {quoted(target.name)}, cpu_flags, {len(plan.inputs)}, inputs, {len(plan.outputs)}, outputs,",
        f"    {len(names)}, step_names, {arena.size}, {', '.join(map(str, constants))}, {len(plan.kept)}, kept,",
        "};",
        "",
    ]
    return "\n".join(lines)


def _ports(name: str, ports: tuple[Port, ...]) -> list[str]:
    lines = []
    for index, port in enumerate(ports):
        sizes = ", ".join(map(str, port.shape)) or "0"
        lines.append(f"static const int64_t {name}_shape_{index}[] = {{{sizes}}};")
    lines.append(f"static const struct edge_port {name}[] = {{")
    for index, port in enumerate(ports):
        size = math.prod(port.shape) * np.dtype(port.dtype).itemsize
        label = f"{quoted(port.name)}, {quoted(port.dtype)}"
        lines.append(f"    {{{label}, {len(port.shape)}, {name}_shape_{index}, {size}}},")
    return [*lines, "    {NULL, NULL, 0, NULL, 0},", "};"]


def _kept(plan: Plan, arena: Arena) -> list[str]:
    places = [(arena.offsets[state.source.buffer], kept_bytes(state)) for state in plan.kept]
    listed = "".join(f"{{{at}, {size}}}, " for at, size in places)
    return [f"static const struct edge_kept kept[] = {{{listed}{{0, 0}}}};"]


def kept_bytes(state: Kept) -> int:
    """What a state takes in memory."""
    held = state.source.format
    return math.prod(state.source.shape) * np.dtype(held.dtype if held.quantized else state.source.dtype).itemsize


def _addresses(plan: Plan, arena: Arena, packed: Packed) -> dict[str, str]:
    return {
        **{name: f"STORED({offset})" for name, offset in packed.plain.items()},
        **{name: f"EXPANDED({offset})" for name, offset in packed.coded.items()},
        **{name: f"SCRATCH({offset})" for name, offset in arena.offsets.items()},
        **{port.buffer: f"IN({index})" for index, port in enumerate(plan.inputs)},
        **{port.buffer: f"OUT({index})" for index, port in enumerate(plan.outputs)},
    }


def _program(plan: Plan, arena: Arena, packed: Packed) -> str:
    addresses = _addresses(plan, arena, packed)
    barriers = _Barriers(plan, arena)
    lines = ["void edge_program(struct edge_context *context, int32_t thread) {", "    int32_t begin, end;"]
    count = 0
    for step in plan.steps:
        if barriers.needed_before(step):
            lines.append("    MEET();")
        if isinstance(step, ClearHalo):
            lines.append(f"    {_clear(step, addresses[step.buffer])}")
        else:
            lines.append(f"    {_call(step, addresses)}")
            lines.append(f"    NOTE({count});")
            count += 1
    copied = [state for state in plan.kept if state.copied]
    for state in copied:
        lines += ["    MEET();"] if state is copied[0] else []
        ends = addresses[state.source.buffer], addresses[state.result.buffer]
        lines.append(f"    KEEP({', '.join(ends)}, {kept_bytes(state)}); /* {remark(state.source.name)} */")
    unused = [] if count else ["    (void)begin, (void)end;"]
    return "\n".join([*lines, *unused, "}", ""])


def _clear(step: ClearHalo, address: str) -> str:
    image = (step.images, step.rows, step.columns, step.cell)
    sizes = (*image, step.top, step.bottom, step.left, step.right, step.fill)
    return f"CLEAR({address}, {', '.join(map(str, sizes))}); /* {remark(step.buffer)} */"


def _call(step: Call, addresses: dict[str, str]) -> str:
    layer = step.layer
    pattern = f", {layer.pattern} at {layer.density:.3g}" if layer.pattern else ""
    arguments = ", ".join(addresses[name] for name in step.arguments)
    label = remark(f"{layer.name}: {layer.op}{pattern}")
    return f"STEP({step.units}, {step.symbol}({arguments}{', ' if arguments else ''}begin, end)); /* {label} */"


@dataclass(frozen=True)
class _Access:
    """What one step touches: (space, first byte, end byte, name, reads, writes).

    `alone`: one thread does it all. `borders`: it clears a border and leaves the inside to others.
    """

    alone: bool
    borders: bool
    ranges: tuple[tuple[str, int, int, str, bool, bool], ...]


class _Barriers:
    """Tells, step by step, whether threads must meet first: where a step needs or overwrites another thread's work."""

    def __init__(self, plan: Plan, arena: Arena) -> None:
        sizes = {buffer.name: buffer.size for buffer in plan.buffers}
        self._spaces = {name: ("scratch", offset, offset + sizes[name]) for name, offset in arena.offsets.items()}
        self._constants = {constant.name for constant in plan.constants}
        self._since: list[_Access] = []

    def needed_before(self, step: Step) -> bool:
        access = self._access(step)
        needed = any(_clash(earlier, access) for earlier in self._since)
        self._since = [access] if needed else [*self._since, access]
        return needed

    def _access(self, step: Step) -> _Access:
        if isinstance(step, ClearHalo):
            inside = step.top + step.bottom < step.rows and step.left + step.right < step.columns
            return _Access(True, inside, ((*self._place(step.buffer), step.buffer, False, True),))
        ranges = tuple(
            (*self._place(name), name, name not in step.writes or step.arguments.count(name) > 1, name in step.writes)
            for name in dict.fromkeys(step.arguments)
            if name not in self._constants
        )
        return _Access(step.units == 1, False, ranges)

    def _place(self, name: str) -> tuple[str, int, int]:
        return self._spaces.get(name, (name, 0, 1))


def _clash(earlier: _Access, later: _Access) -> bool:
    if earlier.alone and later.alone:
        return False
    for space, first, end, name, reads, writes in earlier.ranges:
        for other_space, other_first, other_end, other, other_reads, other_writes in later.ranges:
            if space != other_space or first >= other_end or other_first >= end or not (writes or other_writes):
                continue
            # A halo and the inside that a kernel fills beside it are different bytes.
            if name == other and ((earlier.borders and not other_reads) or (later.borders and not reads)):
                continue
            return True
    return False
