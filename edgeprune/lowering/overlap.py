"""The static memory plan of one thread: results may overwrite what their kernel has read already."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from edgeprune.lowering.arena import Arena, touched
from edgeprune.lowering.plan import Call, Part, Plan, Step

ALIGNMENT = 16
_SHUFFLES = 400


@dataclass(frozen=True)
class Piece:
    """A buffer of `size` bytes, rounded up, that lives from step `first` to step `last`."""

    name: str
    size: int
    first: int
    last: int


def allocate_overlapping(plan: Plan) -> Arena:
    """Place the buffers and ports of `plan` in the fewest bytes found; inputs live from the start, outputs to the end.

    A call's result may begin at its argument's beginning plus what `Call.overlaps` says, where that argument is not
    needed later: the diagonal memory optimisation (Stahlberg et al., 2020), over greedy first fit in several orders
    and seeded exchanges of the best.
    """
    pieces = pieces_of(plan)
    distances = distances_of(plan, pieces)
    keys: list[Callable[[Piece], tuple[int, ...]]] = [
        lambda item: (-item.size, item.first),
        lambda item: (-item.size * (item.last - item.first + 1), item.first),
        lambda item: (item.first, -item.size),
        lambda item: (-item.last, -item.size),
    ]
    orders = [sorted(pieces, key=key) for key in keys]
    best, order = min(((_placed(order, distances), order) for order in orders), key=lambda pair: pair[0].size)
    generator = random.Random(0)
    for _ in range(_SHUFFLES if len(pieces) > 1 else 0):
        other = _exchanged(order, generator)
        arena = _placed(other, distances)
        if arena.size <= best.size:
            best, order = arena, other
    return best


def pieces_of(plan: Plan) -> list[Piece]:
    """Every buffer and port of `plan` that is touched; what is kept lives always."""
    ends = [*plan.outputs, *(port for state in plan.kept for port in (state.source, state.result))]
    first: dict[str, int] = {port.buffer: 0 for port in (*plan.inputs, *(state.source for state in plan.kept))}
    last: dict[str, int] = {port.buffer: len(plan.steps) for port in ends}
    for index, step in enumerate(plan.steps):
        for name in touched(step):
            first.setdefault(name, index)
            last[name] = max(last.get(name, index), index)
    return [
        Piece(buffer.name, _rounded(buffer.size), first[buffer.name], last.get(buffer.name, 0))
        for buffer in plan.buffers
        if buffer.name in first
    ]


def _rounded(size: int) -> int:
    return max(1, -(-size // ALIGNMENT)) * ALIGNMENT


def distances_of(plan: Plan, pieces: list[Piece]) -> dict[tuple[str, str], int]:
    """By (argument, result): how far behind the argument's beginning the result may begin, where both may overlap.

    The argument dies and the result is born in the same call, and nothing else of that call reads the argument.
    """
    known = {piece.name: piece for piece in pieces}
    found = {}
    for index, step in enumerate(plan.steps):
        if not isinstance(step, Call) or len(step.writes) != 1 or step.writes[0] not in known:
            continue
        result = known[step.writes[0]]
        for name, distance in step.overlaps:
            dies = name in known and known[name].last == index and step.arguments.count(name) == 1
            if dies and result.first == index:
                found[name, result.name] = distance
    return found | _banded_distances(plan, known)


def _banded_distances(plan: Plan, pieces: Mapping[str, Piece]) -> dict[tuple[str, str], int]:
    """Like `distances_of` for results that are written part by part while an argument is read part by part.

    What is written up to a step must end before what is read after it begins.
    """
    written = {
        part.buffer for step in plan.steps for part in _parts(step, step.writes if isinstance(step, Call) else ())
    }
    found = {}
    for result in (pieces[name] for name in written if name in pieces):
        steps = plan.steps[result.first :]
        for argument in pieces.values():
            meets = argument.first <= result.first <= argument.last < len(plan.steps) and argument != result
            if meets and not any(argument.name in _written(step) for step in steps):
                found[argument.name, result.name] = _lag(steps, argument, result)
    return found


def _lag(steps: Sequence[Step], argument: Piece, result: Piece) -> int:
    """The most bytes that `result` may begin behind `argument` so that no step overwrites what is yet to be read."""
    unread, lag = argument.size, argument.size
    for step in reversed(steps):
        end = _extent(step, result)[1] if result.name in _written(step) else None
        if argument.name not in touched(step):
            lag = min(lag, unread - end) if end is not None else lag
            continue
        begin = _extent(step, argument)[0]
        known = dict(step.overlaps).get(argument.name) if isinstance(step, Call) else None
        if end is not None:
            lag = min(lag, unread - end, begin - end if known is None else known)
        unread = min(unread, begin)
    return lag


def _written(step: Step) -> tuple[str, ...]:
    return step.writes if isinstance(step, Call) else (step.buffer,)


def _parts(step: Step, names: Sequence[str]) -> list[Part]:
    found = step.parts if isinstance(step, Call) else ()
    return [part for part in found if part is not None and part.buffer in names]


def _extent(step: Step, piece: Piece) -> tuple[int, int]:
    """The bytes of `piece`, from the first to the last, that `step` touches."""
    parts = _parts(step, (piece.name,))
    if len(parts) != touched(step).count(piece.name):
        return 0, piece.size
    return min(part.begin for part in parts), max(part.end for part in parts)


def _exchanged(order: list[Piece], generator: random.Random) -> list[Piece]:
    order = list(order)
    for _ in range(generator.randint(1, 3)):
        a, b = generator.randrange(len(order)), generator.randrange(len(order))
        order[a], order[b] = order[b], order[a]
    return order


def _placed(order: list[Piece], distances: Mapping[tuple[str, str], int]) -> Arena:
    """Each piece in turn at the lowest offset where nothing that lives with it is harmed."""
    offsets: dict[str, int] = {}
    placed: list[Piece] = []
    for item in order:
        forbidden = []
        for other in placed:
            if item.first <= other.last and other.first <= item.last:
                forbidden.append(_forbidden(item, other, offsets[other.name], distances))
        offsets[item.name] = _lowest(sorted(forbidden))
        placed.append(item)
    return Arena(offsets, max((offsets[item.name] + item.size for item in placed), default=0))


def _forbidden(item: Piece, other: Piece, offset: int, distances: Mapping[tuple[str, str], int]) -> tuple[int, int]:
    """The open interval of offsets that `item` may not take beside `other` at `offset`."""
    low, high = offset - item.size, offset + other.size
    if (other.name, item.name) in distances:
        low = max(low, offset + distances[other.name, item.name])
    if (item.name, other.name) in distances:
        high = min(high, offset - distances[item.name, other.name])
    return low, high


def _lowest(forbidden: list[tuple[int, int]]) -> int:
    """The lowest aligned offset outside every open interval; they are in order of their beginning."""
    offset = 0
    for low, high in forbidden:
        if low < offset < high:
            offset = -(-high // ALIGNMENT) * ALIGNMENT
    return offset
