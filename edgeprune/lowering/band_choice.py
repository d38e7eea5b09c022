"""Chooses which segments of a model are computed in bands of rows: the least work again for a limit of memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from edgeprune.ir.copy import copy_model
from edgeprune.lowering.band_costs import Estimate, Option
from edgeprune.lowering.bands import BANDS_KEY, note_bands
from edgeprune.lowering.build import arena_bytes
from edgeprune.lowering.lower import lower, prepared, settled_groups
from edgeprune.lowering.plan import Plan
from edgeprune.lowering.segments import multiply_accumulates, rows_of, segments_from
from edgeprune.progress import Progress, silent
from edgeprune.target import Target

_COUNTS = (2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)
_SHARE = 0.5
"""Without a budget bands are only for what then takes at most this share of the memory."""

_UNASKED, _ASKED = 0.05, 1.0
"""The most work that is done again, as a share of all: without a budget, and for one."""

_LIMITS = (1.0, 0.94, 0.88)
"""Shares of the limit that estimates are held to, one after the other, until the plan itself keeps it."""

_STEPS_DOWN = 0.96


@dataclass(frozen=True)
class InBands:
    """One segment that was chosen: from the value `source` to the node `result`."""

    source: str
    result: str
    count: int
    extra_macs: int


@dataclass(frozen=True)
class Banding:
    """A model with its bands noted, its plan, and bytes of scratch memory with them and without."""

    model: ir.Model
    plan: Plan
    ram_bytes: int
    whole_ram_bytes: int
    segments: tuple[InBands, ...] = ()


def with_bands(
    model: ir.Model, target: Target, ram: float | None, progress: Progress = silent, *, closest: bool = True
) -> Banding:
    """`model` lowered for `target`, in bands where that is worth it, or where the budget `ram` (bytes) needs them.

    What is noted on the model already stays; only microcontrollers get new bands. Where no bands meet the budget they
    are those with which it is missed least, where the `closest` are wanted. Raises EdgepruneError as `lower` does.
    """
    plan = lower(model, target, progress=progress)
    whole = arena_bytes(plan, target)
    best = Banding(model, plan, whole, whole)
    noted = any(BANDS_KEY in node.metadata_props for node in model.graph)
    if noted or not target.bare or target.arithmetic != "fixed" or (ram is not None and whole <= ram):
        return best
    limit = whole * _SHARE if ram is None else ram
    for options in _proposals(
        _Search(model, target, plan, _UNASKED if ram is None else _ASKED), limit, closest and ram is not None
    ):
        found = _lowered(model, target, options, whole)
        if found.ram_bytes < best.ram_bytes and (ram is not None or found.ram_bytes <= limit):
            best = found
        if found.ram_bytes <= limit:
            break
    return best


def _proposals(search: _Search, limit: float, closest: bool) -> Iterator[list[Option]]:
    """Choices that keep to `limit` by the estimate; else, where `closest` is wanted, the one that comes closest."""
    proposed = []
    for share in _LIMITS:
        options = search.cheapest(share * limit)
        if options and [(option.segment.nodes, option.count) for option in options] not in proposed:
            proposed.append([(option.segment.nodes, option.count) for option in options])
            yield options
    if not proposed and closest:
        lowest: list[Option] = []
        reach = float(max(search.estimate.needs)) * _STEPS_DOWN
        while reach > limit and (options := search.cheapest(reach)):
            lowest, reach = options, reach * _STEPS_DOWN
        if lowest:
            yield lowest


def _lowered(model: ir.Model, target: Target, options: Sequence[Option], whole: int) -> Banding:
    noted = copy_model(model)
    nodes = {node.name: node for node in noted.graph}
    segments = []
    for option in options:
        source, last = option.segment.source.name or "", option.segment.nodes[-1].name or ""
        note_bands(nodes[last], source, option.count)
        segments.append(InBands(source, last, len(option.segment.bands(option.count)), option.extra))
    plan = lower(noted, target)
    return Banding(noted, plan, arena_bytes(plan, target), whole, tuple(segments))


class _Search:
    """The segments of a model, and the cheapest of them for a limit; `most` is the share of work done again."""

    def __init__(self, model: ir.Model, target: Target, plan: Plan, most: float) -> None:
        quantized = prepared(model, target)
        groups = settled_groups(quantized, fixed_point=True)
        self.estimate = Estimate(plan, quantized, {id(value) for group in groups for value in group.outputs})
        graph = quantized.model.graph
        self.most = most * sum(
            multiply_accumulates(node, rows_of(node.outputs[0])) for node in graph if _is_image_node(node)
        )
        names = {node.name for node in model.graph}
        values = {value.name for value in (*model.graph.inputs, *(out for node in model.graph for out in node.outputs))}
        sources = [*graph.inputs, *(value for node in graph for value in node.outputs)]
        found = [segment for source in sources if source.name in values for segment in segments_from(graph, source)]
        spans = [(segment, self.estimate.span(segment)) for segment in found if segment.nodes[-1].name in names]
        self.segments = [(segment, span) for segment, span in spans if span is not None and rows_of(segment.result) > 1]
        self._known: dict[tuple[int, int], Option] = {}

    def cheapest(self, limit: float) -> list[Option]:
        """The segments that keep every step within `limit`, with the least work done again; none where nothing does."""
        needs = self.estimate.needs
        ending: dict[int, list[Option]] = {}
        for option in self._options(limit):
            ending.setdefault(option.last, []).append(option)
        best: list[tuple[int, int, list[Option]] | None] = [(0, 0, [])]
        for step, need in enumerate(needs):
            before = best[step]
            ways = [before] if before is not None and need <= limit else []
            for option in ending.get(step + 1, ()):
                start = best[option.first]
                if start is not None and start[0] + option.extra <= self.most:
                    ways.append((start[0] + option.extra, start[1] + option.count, [*start[2], option]))
            best.append(min(ways, key=lambda way: way[:2], default=None))
        return [] if best[-1] is None else best[-1][2]

    def _options(self, limit: float) -> Iterator[Option]:
        """Of every segment with a step beyond `limit`, the fewest bands that bring it below."""
        for index, (segment, span) in enumerate(self.segments):
            if max(self.estimate.needs[span[0] : span[1]]) <= limit or self.estimate.bytes_of(segment.source) > limit:
                continue
            for count in _COUNTS:
                if count > 1.5 * rows_of(segment.result):
                    break
                if (index, count) not in self._known:
                    self._known[index, count] = self.estimate.option(segment, count, span)
                option = self._known[index, count]
                if option.extra > self.most:
                    break
                if option.peak <= limit:
                    yield option
                    break


def _is_image_node(node: ir.Node) -> bool:
    return node.op_type == "Conv" and node.outputs[0].shape is not None and len(node.outputs[0].shape) == 4
