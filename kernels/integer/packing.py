"""Integer weights packed for the kernel: per block of output channels, the entries that have any weight.

An entry is one place in x, from which a word of consecutive elements is read, and the weights of those elements.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from edgeprune.kernels.conv2d.channels_variant import Channels
from edgeprune.kernels.conv2d.problem import Conv2d
from edgeprune.kernels.integer.dot import IDIOMS, Idiom, weight_dtype
from edgeprune.kernels.integer.variant import Part, Variant

_NARROW = np.iinfo(np.int8)


@dataclass(frozen=True)
class Layout:
    """What a kernel's code must know of its constants.

    Offsets are counted from `origin`, in elements of x, relative to an output pixel's own place.
    """

    weights: str
    offsets: str
    origin: int
    biased: bool
    codes: str | None


@dataclass(frozen=True)
class Packed:
    """The constants of an integer kernel, flat, in argument order.

    `table` holds three int32 per block and kind of entry, in the order of parts, groups and blocks: the first of its
    `offsets`, how many entries, and where its weights start; an entry has `width` * depth weights, those of one
    channel side by side. Blocks with equal offsets share them. `scales` (float32) and `bias` (int32) hold `width`
    values a block. `codes`, where lanes choose their own elements, has one code for each `depth` weights.
    """

    layout: Layout
    weights: np.ndarray
    offsets: np.ndarray
    table: np.ndarray
    scales: np.ndarray
    bias: np.ndarray
    codes: np.ndarray
    macs_per_pixel: int

    @property
    def constants(self) -> tuple[np.ndarray, ...]:
        """The arrays in argument order."""
        arrays = (self.weights, self.offsets, self.table, self.scales)
        bias = (self.bias,) if self.layout.biased else ()
        codes = (self.codes,) if self.layout.codes else ()
        return (*arrays, *bias, *codes)


@dataclass(frozen=True)
class Rows:
    """The weights of one group by place: sorted distinct `offsets` and int32 `values` [offsets, out].

    `origin` is the first place of the group.
    """

    offsets: np.ndarray
    values: np.ndarray
    origin: int


def group_rows(problem: Conv2d, weights: np.ndarray, channel_offsets: np.ndarray | None) -> list[Rows]:
    """The weights [groups, taps, in, out] of every group by place in x; those of one place are added up."""
    if channel_offsets is None:
        channel_offsets = np.arange(problem.x.channels) * problem.x.channel_stride
    channels = np.asarray(channel_offsets, np.int64).reshape(problem.groups, 1, problem.group_inputs)
    places = channels + problem.tap_offsets()[None, :, None]
    rows = []
    for own, values in zip(places, weights, strict=True):
        distinct, owner = np.unique(own.ravel(), return_inverse=True)
        summed = np.zeros((len(distinct), weights.shape[-1]), np.int32)
        np.add.at(summed, owner, values.reshape(-1, weights.shape[-1]).astype(np.int32))
        rows.append(Rows(distinct, summed, int(distinct[0])))
    return rows


def block_rows(rows: Rows, share: Channels) -> Iterator[Rows]:
    """What each block of `share` keeps."""
    for first in range(share.start, share.start + share.blocks * share.valid, share.valid):
        values = rows.values[:, first : first + share.valid]
        kept = values.any(1)
        yield Rows(rows.offsets[kept], values[kept], rows.origin)


@dataclass(frozen=True)
class Section:
    """Entries of one kind: `offsets` int64 [entries, places of each], `values` int32 [entries, out, depth].

    `codes` int32 [entries, out] are those of lanes that choose their own elements, else zeros.
    """

    offsets: np.ndarray
    values: np.ndarray
    codes: np.ndarray


def entry_counts(rows: list[Rows], share: Channels, mode: str, idiom: Idiom) -> np.ndarray:
    """How many entries each block has of each kind, [groups, blocks, kinds]."""
    counts = [
        [[len(section.offsets) for section in sections(block, mode, idiom)] for block in block_rows(group, share)]
        for group in rows
    ]
    return np.array(counts)


def sections(block: Rows, mode: str, idiom: Idiom) -> list[Section]:
    """The entries of a block, by kind."""
    if mode == "lanes":
        return [_lanes(block, idiom)]
    if mode == "runs":
        return [_words(block, idiom)]
    _, owner = word_starts(block.offsets, idiom.depth)
    whole = np.bincount(owner, minlength=1)[owner] == idiom.depth
    single = np.flatnonzero(~whole)
    paired = single[: len(single) // 2 * 2]
    whole[single[len(paired) :]] = True
    return [
        _words(Rows(block.offsets[whole], block.values[whole], block.origin), idiom),
        _pairs(block, paired.reshape(-1, 2)),
    ]


def _section(offsets: np.ndarray, values: np.ndarray) -> Section:
    return Section(offsets, values, np.zeros(values.shape[:2], np.int32))


def _pairs(block: Rows, places: np.ndarray) -> Section:
    """Entries of two places each; the second is given by the element before it."""
    values = block.values[places].transpose(0, 2, 1)
    return _section(block.offsets[places] - np.array([0, 1]), np.ascontiguousarray(values))


def _words(block: Rows, idiom: Idiom) -> Section:
    first, owner = word_starts(block.offsets, idiom.depth)
    starts = block.offsets[first]
    values = np.zeros((len(starts), block.values.shape[1], idiom.depth), np.int32)
    values[owner, :, block.offsets - starts[owner]] = block.values
    return _narrow(_section(starts[:, None], values), idiom)


def _narrow(section: Section, idiom: Idiom) -> Section:
    """The same sums with weights that the idiom can hold: what goes beyond becomes further entries."""
    if idiom.wide_weights:
        return section
    low = np.clip(section.values, _NARROW.min, _NARROW.max)
    rest = section.values - low
    beyond = rest.any((1, 2))
    if not beyond.any():
        return section
    more = _narrow(Section(section.offsets[beyond], rest[beyond], section.codes[beyond]), idiom)
    return Section(
        np.concatenate([section.offsets, more.offsets]),
        np.concatenate([low, more.values]),
        np.concatenate([section.codes, more.codes]),
    )


def _lanes(block: Rows, idiom: Idiom) -> Section:
    """Windows, each channel taking its next elements of each; they begin at whole multiples where that is no worse."""
    free, even = (_windows(block, idiom, step) for step in (1, idiom.window // 2))
    return _narrow(even if len(even.offsets) <= len(free.offsets) else free, idiom)


def _windows(block: Rows, idiom: Idiom, step: int) -> Section:
    count, outputs = block.values.shape
    order = np.argsort(block.values == 0, axis=0, kind="stable")
    kept = np.count_nonzero(block.values, axis=0)
    end = np.iinfo(np.int64).max
    places = np.full((count + 1, outputs), end)
    places[:count] = np.where(np.arange(count)[:, None] < kept, block.offsets[order], end)
    weights = np.zeros((count + 1, outputs), np.int32)
    weights[:count] = np.take_along_axis(block.values, order, 0)
    lane, position = np.arange(outputs), np.zeros(outputs, np.int64)
    starts, values, codes = [], [], []
    while (first := int(places[position, lane].min())) != end:
        start = first - (first - block.origin) % step
        taken, code = np.zeros((outputs, idiom.depth), np.int32), np.zeros(outputs, np.int32)
        for turn in range(idiom.depth):
            at = places[position, lane]
            inside = at < start + idiom.window
            taken[:, turn] = np.where(inside, weights[position, lane], 0)
            code |= np.where(inside, at - start, 0).astype(np.int32) << (turn * idiom.code_bits)
            position += inside
        starts.append(start)
        values.append(taken)
        codes.append(code)
    shape = (len(starts), outputs, idiom.depth)
    return Section(
        np.array(starts, np.int64).reshape(-1, 1),
        np.array(values, np.int32).reshape(shape),
        np.array(codes, np.int32).reshape(shape[:2]),
    )


def word_starts(offsets: np.ndarray, depth: int) -> tuple[np.ndarray, np.ndarray]:
    """The fewest words of `depth` places that cover sorted `offsets`: where each begins, and the word of each place."""
    if depth == 1:
        return np.arange(len(offsets)), np.arange(len(offsets))
    starts: list[int] = []
    position = 0
    while position < len(offsets):
        starts.append(position)
        position = int(np.searchsorted(offsets, offsets[position] + depth))
    first = np.array(starts, np.int64)
    return first, np.searchsorted(first, np.arange(len(offsets)), side="right") - 1


def pack(
    problem: Conv2d,
    variant: Variant,
    weights: np.ndarray,
    scales: np.ndarray,
    bias: np.ndarray | None,
    channel_offsets: np.ndarray | None,
) -> Packed:
    """The constants of `variant` from int16 `weights` [groups, taps, in, out], `scales` and `bias` [groups*out].

    The zero of x is folded into the bias.
    """
    idiom = IDIOMS[variant.dot]
    rows = group_rows(problem, weights, channel_offsets)
    lists, blocks, codes, table, start = OffsetLists(), [], [], [], 0
    for part, group in _part_groups(problem, variant):
        for block in block_rows(rows[group], part.share):
            first, *others = sections(block, part.mode, idiom)
            for section in (_padded(first, part.chains, rows[group].origin), *others):
                wide = np.zeros((len(section.offsets), part.width, idiom.depth), np.int32)
                wide[:, : part.share.valid] = section.values
                table.append((lists.place(section.offsets), len(section.offsets), start))
                blocks.append(wide.ravel())
                chosen = np.zeros(wide.shape[:2], np.int32)
                chosen[:, : part.share.valid] = section.codes
                codes.append(chosen.ravel())
                start += wide.size
            table += [(0, 0, 0)] * (variant.sections - part.sections)
    packed = np.concatenate(blocks)
    origin = min(group.origin for group in rows)
    flat = lists.flat() - origin
    layout = Layout(
        weight_dtype(idiom, packed),
        "uint16" if flat.max() < 2**16 else "int32",
        origin,
        problem.bias or bool(problem.x.format.zero),
        idiom.codes if any(part.mode == "lanes" for part in variant.parts) else None,
    )
    return Packed(
        layout,
        packed.astype(layout.weights),
        flat.astype(layout.offsets),
        np.array(table, np.int32).ravel(),
        _by_block(problem, variant, scales.astype(np.float32)),
        _by_block(problem, variant, _whole_bias(problem, weights, bias)),
        np.concatenate(codes).astype(idiom.codes),
        _macs_per_pixel(problem, variant, rows),
    )


def _part_groups(problem: Conv2d, variant: Variant) -> Iterator[tuple[Part, int]]:
    return ((part, group) for part in variant.parts for group in range(problem.groups))


def _padded(section: Section, multiple: int, place: int) -> Section:
    """At least one entry and whole turns of the kernel's loop, by entries without weight."""
    count, (outputs, depth) = len(section.offsets), section.values.shape[1:]
    more = max(1, -(-count // multiple)) * multiple - count
    offsets = np.concatenate([section.offsets, np.full((more, 1), place)])
    values = np.concatenate([section.values, np.zeros((more, outputs, depth), np.int32)])
    return Section(offsets, values, np.concatenate([section.codes, np.zeros((more, outputs), np.int32)]))


def _whole_bias(problem: Conv2d, weights: np.ndarray, bias: np.ndarray | None) -> np.ndarray:
    sums = weights.sum((1, 2), dtype=np.int64).ravel()
    given = np.zeros_like(sums) if bias is None else bias.astype(np.int64)
    return (given - problem.x.format.zero * sums).astype(np.int32)


def _by_block(problem: Conv2d, variant: Variant, values: np.ndarray) -> np.ndarray:
    pieces = []
    for part, group in _part_groups(problem, variant):
        share = part.share
        first = group * problem.group_outputs + share.start
        piece = np.zeros((share.blocks, part.width), values.dtype)
        piece[:, : share.valid] = values[first : first + share.blocks * share.valid].reshape(share.blocks, share.valid)
        pieces.append(piece.ravel())
    return np.concatenate(pieces)


def _macs_per_pixel(problem: Conv2d, variant: Variant, rows: list[Rows]) -> int:
    blocks = (
        len(block.offsets) * part.share.valid
        for part, group in _part_groups(problem, variant)
        for block in block_rows(rows[group], part.share)
    )
    return sum(blocks)


class OffsetLists:
    """Offset lists one after another, equal ones stored once."""

    def __init__(self) -> None:
        self._starts: dict[bytes, int] = {}
        self._lists: list[np.ndarray] = []
        self._length = 0

    def place(self, offsets: np.ndarray) -> int:
        """Where `offsets` start in the flat array."""
        offsets = offsets.ravel()
        key = offsets.tobytes()
        if key not in self._starts:
            self._starts[key] = self._length
            self._lists.append(offsets)
            self._length += len(offsets)
        return self._starts[key]

    def flat(self) -> np.ndarray:
        """All lists in one int64 array."""
        return np.concatenate(self._lists).astype(np.int64)
