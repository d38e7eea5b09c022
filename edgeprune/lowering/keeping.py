"""What a program keeps from one run to the next: in place where that is read no more, else copied at the end."""

from __future__ import annotations

from dataclasses import replace

from edgeprune.lowering.arena import touched
from edgeprune.lowering.plan import Buffer, Call, Kept, Part, Plan, Step


def keep_in_place(plan: Plan) -> Plan:
    """`plan` with every state in one buffer whose result is first touched after its source is last read."""
    for state in plan.kept:
        if _fits(plan, state):
            plan = _joined(plan, state)
    return plan


def _fits(plan: Plan, state: Kept) -> bool:
    source, result = state.source.buffer, state.result.buffer
    reads = [index for index, step in enumerate(plan.steps) if source in touched(step)]
    writes = [index for index, step in enumerate(plan.steps) if result in touched(step)]
    return bool(writes) and max(reads, default=-1) < min(writes)


def _joined(plan: Plan, state: Kept) -> Plan:
    source, result = state.source.buffer, state.result.buffer
    sizes = {buffer.name: buffer.size for buffer in plan.buffers}
    size = max(sizes[source], sizes[result])
    return replace(
        plan,
        buffers=tuple(
            Buffer(buffer.name, size if buffer.name == source else buffer.size)
            for buffer in plan.buffers
            if buffer.name != result
        ),
        steps=tuple(_renamed(step, result, source) for step in plan.steps),
        kept=tuple(
            replace(other, result=replace(other.result, buffer=source)) if other == state else other
            for other in plan.kept
        ),
    )


def _renamed(step: Step, old: str, new: str) -> Step:
    """`step` with the buffer `new` in place of `old`."""

    def named(name: str) -> str:
        return new if name == old else name

    if not isinstance(step, Call):
        return replace(step, buffer=named(step.buffer))
    parts = tuple(None if part is None else Part(named(part.buffer), part.begin, part.end) for part in step.parts)
    return replace(
        step,
        arguments=tuple(map(named, step.arguments)),
        writes=tuple(map(named, step.writes)),
        overlaps=tuple((named(name), distance) for name, distance in step.overlaps),
        parts=parts,
    )
