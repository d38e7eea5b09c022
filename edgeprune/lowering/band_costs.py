"""What a segment needs in bands, estimated without lowering it: memory from the plan of the whole, and work."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from edgeprune.lowering.groups import shape_of
from edgeprune.lowering.overlap import distances_of, pieces_of
from edgeprune.lowering.plan import Call, Plan
from edgeprune.lowering.quantization import Quantized, moved_from
from edgeprune.lowering.segments import Rows, Segment, data_of, extra_work, rows_of, rows_read, window_rows

_COPIES = ("Store", "Move", "Gather")


@dataclass(frozen=True)
class Option:
    """A segment in `count` bands, for steps [first, last) of the plan: its bytes and extra work, estimated."""

    segment: Segment
    count: int
    first: int
    last: int
    peak: int
    extra: int


class Estimate:
    """Estimates for a plan that has no bands yet, lowered from the model in `quantized`."""

    def __init__(self, plan: Plan, quantized: Quantized, stored: Collection[int]) -> None:
        """`stored` has the values that are in memory, by identity; others are computed on the way."""
        self.plan, self.quantized, self.stored = plan, quantized, stored
        self.pieces = {piece.name: piece for piece in pieces_of(plan)}
        self.alive = [
            [piece for piece in self.pieces.values() if piece.first <= index <= piece.last]
            for index in range(len(plan.steps))
        ]
        self.needs = self._needs()
        self.copies = self._named("copy:", plan)
        self.places: dict[str, list[int]] = {}
        for index, step in enumerate(plan.steps):
            if isinstance(step, Call):
                self.places.setdefault(step.layer.name, []).append(index)

    def _needs(self) -> list[int]:
        """Bytes that are alive in each step of the plan, less what may overlap."""
        needs = [sum(piece.size for piece in alive) for alive in self.alive]
        for (argument, result), distance in distances_of(self.plan, list(self.pieces.values())).items():
            left, right = self.pieces[argument], self.pieces[result]
            needs[right.first] -= left.size + right.size - _together(left.size, right.size, distance)
        return needs

    @staticmethod
    def _named(prefix: str, plan: Plan) -> dict[str, int]:
        """Bytes of the buffers that copy a value, by its name."""
        found = [
            (buffer.name.removeprefix(prefix), buffer.size) for buffer in plan.buffers if buffer.name.startswith(prefix)
        ]
        return {name.rsplit(":", 3 if name.endswith("int16") else 2)[0]: size for name, size in found}

    def span(self, segment: Segment) -> tuple[int, int] | None:
        """The steps [first, last) of `segment`, with the copies before; None where others are among them."""
        names = {node.name for node in segment.nodes}
        own = sorted(index for name in names for index in self.places.get(name or "", ()))
        if not own:
            return None
        first, last = own[0], own[-1] + 1
        while first and self._is_copy(first - 1):
            first -= 1
        between = set(range(first, last)) - set(own)
        return (first, last) if all(self._is_copy(index) for index in between) else None

    def _is_copy(self, index: int) -> bool:
        step = self.plan.steps[index]
        return not isinstance(step, Call) or step.layer.op in _COPIES

    def option(self, segment: Segment, count: int, span: tuple[int, int]) -> Option:
        """`segment` in `count` bands."""
        bands = [segment.rows(rows) for rows in segment.bands(count)]
        inner = max(self._inner(segment, rows) for rows in bands)
        peak = self._beside(segment, span) + self._ends(segment, bands) + inner
        return Option(segment, count, *span, peak, extra_work(segment, bands))

    def _beside(self, segment: Segment, span: tuple[int, int]) -> int:
        """Bytes of what is alive throughout but belongs to other parts of the model."""
        first, last = span
        source = self.bytes_of(segment.source)
        through = [piece.size for piece in self.pieces.values() if piece.first < first and piece.last >= last]
        outside = any(use.node not in segment.nodes for use in segment.source.uses())
        return max(0, sum(through) - (source if outside else 0))

    def _ends(self, segment: Segment, bands: Sequence[Mapping[int, Rows]]) -> int:
        """Bytes of source and result together, the result following what was read of the source."""
        source, result = segment.source, segment.result
        sizes = self.bytes_of(source), self.bytes_of(result)
        kept = any(use.node not in segment.nodes for use in source.uses())
        if kept or len(segment.nodes) == 1 or len(bands) < 2:
            return sum(sizes)
        rows = [sizes[0] // rows_of(source), sizes[1] // rows_of(result)]
        unread = [band[id(source)][0] * rows[0] for band in bands[1:]]
        written = [band[id(result)][1] * rows[1] for band in bands[:-1]]
        return _together(*sizes, min(left - right for left, right in zip(unread, written, strict=True)))

    def _inner(self, segment: Segment, rows: Mapping[int, Rows]) -> int:
        """Bytes of the busiest step of one band, less the two ends."""
        ends = {id(segment.source), id(segment.result)}
        last = {id(value): index for index, node in enumerate(segment.nodes) for value in data_of(node)}
        peak, live = 0, dict[int, int]()
        for index, node in enumerate(segment.nodes):
            output, data = node.outputs[0], data_of(node)
            made = 0 if id(output) in ends else self._part(output, rows[id(output)])
            copied = sum(self._copied(value, rows_read(node, rows[id(output)])) for value in data)
            dying = {id(value): live[id(value)] for value in data if id(value) in live and last[id(value)] == index}
            before = sum(live.values())
            if copied:
                need = max(before + copied, before - sum(dying.values()) + copied + made)
            else:
                need = before + made - max([_saved(node, size, made, rows) for size in dying.values()], default=0)
            peak = max(peak, need + self._scratch(node))
            live = {key: size for key, size in live.items() if key not in dying}
            if made:
                live[id(output)] = made
        return peak

    def bytes_of(self, value: ir.Value) -> int:
        """Bytes of a whole value, 0 where it is not stored."""
        size = 1
        for extent in shape_of(value):
            size *= extent
        return size * (1 if id(moved_from(value)) in self.quantized.grids else 4)

    def _part(self, value: ir.Value, rows: Rows) -> int:
        if id(value) not in self.stored:
            return 0
        return self.bytes_of(value) // rows_of(value) * (rows[1] - rows[0])

    def _copied(self, value: ir.Value, rows: Rows) -> int:
        return self.copies.get(value.name or "", 0) // rows_of(value) * (rows[1] - rows[0])

    def _scratch(self, node: ir.Node) -> int:
        piece = self.pieces.get(f"{node.name}.scratch")
        return 0 if piece is None else piece.size


def _saved(node: ir.Node, read: int, made: int, rows: Mapping[int, Rows]) -> int:
    """Bytes that the result of `node` shares with what it reads, following as far behind as a window reaches."""
    output = node.outputs[0]
    behind = 0
    depthwise = node.op_type == "Conv" and node.attributes.get_int("group", 1) == shape_of(output)[1] > 1
    if not depthwise:
        first, last = window_rows(node, (0, 1))
        wanted = rows_read(node, rows[id(output)])
        behind = read // max(1, wanted[1] - wanted[0]) * (last - first - 1)
    return read + made - _together(read, made, -behind)


def _together(first: int, second: int, distance: int) -> int:
    """Bytes of two buffers of which the second may begin up to `distance` behind the beginning of the first."""
    lag = min(distance, 0)
    return min(first + second, max(first - lag, second))
