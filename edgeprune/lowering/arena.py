"""The static memory plan: one offset for every scratch buffer, shared where lifetimes allow."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from edgeprune.lowering.plan import Call, Plan, Step

ALIGNMENT = 64
_SHUFFLES = 40


@dataclass(frozen=True)
class Lifetime:
    """A buffer's `size` in bytes (rounded up to the alignment) and the steps, first and last, that touch it."""

    name: str
    size: int
    first: int
    last: int

    def meets(self, other: Lifetime) -> bool:
        """Whether both are alive at some step."""
        return self.first <= other.last and other.first <= self.last


@dataclass(frozen=True)
class Arena:
    """Byte offsets by buffer name, multiples of 64, and the total `size` in bytes."""

    offsets: dict[str, int]
    size: int


def touched(step: Step) -> tuple[str, ...]:
    """The names of the memory that a step reads or writes."""
    return step.arguments if isinstance(step, Call) else (step.buffer,)


def lifetimes(plan: Plan) -> list[Lifetime]:
    """The lifetime of every buffer that some step touches, in the plan's buffer order; what is kept lives always."""
    first: dict[str, int] = {}
    last: dict[str, int] = {state.result.buffer: len(plan.steps) for state in plan.kept}
    for state in plan.kept:
        first[state.source.buffer], last[state.source.buffer] = 0, len(plan.steps)
    for index, step in enumerate(plan.steps):
        for name in touched(step):
            first.setdefault(name, index)
            last[name] = max(last.get(name, index), index)
    return [
        Lifetime(buffer.name, max(1, -(-buffer.size // ALIGNMENT)) * ALIGNMENT, first[buffer.name], last[buffer.name])
        for buffer in plan.buffers
        if buffer.name in first
    ]


def lower_bound(alive: Iterable[Lifetime]) -> int:
    """Bytes that the busiest step needs; no plan is smaller."""
    events = sorted(
        (step, change) for item in alive for step, change in ((item.first, item.size), (item.last + 1, -item.size))
    )
    peak = current = 0
    for _, change in events:
        current += change
        peak = max(peak, current)
    return peak


def allocate(plan: Plan) -> Arena:
    """Place the buffers of `plan` so that no two alive at once overlap.

    Offset allocation by greedy best fit over several orders (Pisarchyk and Lee, "Efficient Memory Management for
    Deep Neural Net Inference", 2020) and seeded shuffles of the best; the smallest result wins.
    """
    alive = lifetimes(plan)
    bound = lower_bound(alive)
    best, best_order = _first_plan(alive)
    generator = random.Random(0)
    for _ in range(_SHUFFLES):
        if best.size == bound:
            break
        order = _swapped(best_order, generator)
        arena = _place(order)
        if arena.size <= best.size:
            best, best_order = arena, order
    offsets = {buffer.name: best.offsets.get(buffer.name, 0) for buffer in plan.buffers}
    return Arena(offsets, best.size)


def _first_plan(alive: list[Lifetime]) -> tuple[Arena, list[Lifetime]]:
    keys: list[Callable[[Lifetime], tuple[int, ...]]] = [
        lambda item: (-item.size, item.first),
        lambda item: (-item.size * (item.last - item.first + 1), item.first),
        lambda item: (item.first - item.last, -item.size),
        lambda item: (item.first, -item.size),
    ]
    orders = [sorted(alive, key=key) for key in keys]
    plans = [(_place(order), order) for order in orders]
    return min(plans, key=lambda pair: pair[0].size)


def _swapped(order: list[Lifetime], generator: random.Random) -> list[Lifetime]:
    order = list(order)
    for _ in range(generator.randint(1, 3)):
        a, b = generator.randrange(len(order)), generator.randrange(len(order))
        order[a], order[b] = order[b], order[a]
    return order


def _place(order: list[Lifetime]) -> Arena:
    placed: list[tuple[int, Lifetime]] = []
    for item in order:
        neighbours = sorted((offset, other.size) for offset, other in placed if other.meets(item))
        placed.append((_best_gap(neighbours, item.size), item))
    return Arena(
        {item.name: offset for offset, item in placed},
        max((offset + item.size for offset, item in placed), default=0),
    )


def _best_gap(neighbours: list[tuple[int, int]], size: int) -> int:
    """The smallest gap between `neighbours` (offset, size; by offset) that holds `size` bytes, else their end."""
    end = 0
    best: tuple[int, int] | None = None
    for offset, length in neighbours:
        gap = offset - end
        if gap >= size and (best is None or gap < best[0]):
            best = gap, end
        end = max(end, offset + length)
    return end if best is None else best[1]
