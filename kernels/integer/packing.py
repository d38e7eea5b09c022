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


@dataclass(frozen=True)
class Packed:
    """The constants of an integer kernel, flat, in argument order.

    `table` holds three int32 per block and kind of entry, in the order of parts, groups and blocks: the first of its
    `offsets`, how many entries, and where its weights start; an entry has `width` * depth weights, those of one
    channel side by side. Blocks with equal offsets share them. `scales` (float32) and `bias` (int32) hold `width`
    values a block.
    """

    layout: Layout
    weights: np.ndarray
    offsets: np.ndarray
    table: np.ndarray
    scales: np.ndarray
    bias: np.ndarray
    macs_per_pixel: int

    @property
    def constants(self) -> tuple[np.ndarray, ...]:
        """The arrays in argument order."""
        arrays = (self.weights, self.offsets, self.table, self.scales)
        return (*arrays, self.bias) if self.layout.biased else arrays


@dataclass(frozen=True)
class Rows:
    """The weights of one group by place: sorted distinct `offsets` and int32 `values` [offsets, out]."""

    offsets: np.ndarray
    values: np.ndarray


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
        rows.append(Rows(distinct, summed))
    return rows


def block_rows(rows: Rows, share: Channels) -> Iterator[Rows]:
    """What each block of `share` keeps."""
    for first in range(share.start, share.start + share.blocks * share.valid, share.valid):
        values = rows.values[:, first : first + share.valid]
        kept = values.any(1)
        yield Rows(rows.offsets[kept], values[kept])


@dataclass(frozen=True)
class Section:
    """Entries of one kind: `offsets` int64 [entries, places of each], `values` int32 [entries, out, depth]."""

    offsets: np.ndarray
    values: np.ndarray


def entry_counts(rows: list[Rows], share: Channels, gathers: bool, idiom: Idiom) -> np.ndarray:
    """How many entries each block has of each kind, [groups, blocks, kinds]."""
    counts = [
        [[len(section.offsets) for section in sections(block, gathers, idiom)] for block in block_rows(group, share)]
        for group in rows
    ]
    return np.array(counts)


def sections(block: Rows, gathers: bool, idiom: Idiom) -> list[Section]:
    """The entries of a block: words of elements that follow each other and, where it `gathers`, pairs of others."""
    if not gathers:
        return [_words(block, idiom)]
    _, owner = word_starts(block.offsets, idiom.depth)
    whole = np.bincount(owner, minlength=1)[owner] == idiom.depth
    single = np.flatnonzero(~whole)
    paired = single[: len(single) // 2 * 2]
    whole[single[len(paired) :]] = True
    return [_words(Rows(block.offsets[whole], block.values[whole]), idiom), _pairs(block, paired.reshape(-1, 2))]


def _pairs(block: Rows, places: np.ndarray) -> Section:
    """Entries of two places each; the second is given by the element before it."""
    values = block.values[places].transpose(0, 2, 1)
    return Section(block.offsets[places] - np.array([0, 1]), np.ascontiguousarray(values))


def _words(block: Rows, idiom: Idiom) -> Section:
    first, owner = word_starts(block.offsets, idiom.depth)
    starts = block.offsets[first]
    values = np.zeros((len(starts), block.values.shape[1], idiom.depth), np.int32)
    values[owner, :, block.offsets - starts[owner]] = block.values
    starts = starts[:, None]
    if idiom.wide_weights:
        return Section(starts, values)
    low = np.clip(values, _NARROW.min, _NARROW.max)
    pieces, rest = [(starts, low)], values - low
    while (beyond := rest.any((1, 2))).any():
        starts, rest = starts[beyond], rest[beyond]
        low = np.clip(rest, _NARROW.min, _NARROW.max)
        pieces.append((starts, low))
        rest = rest - low
    return Section(np.concatenate([p[0] for p in pieces]), np.concatenate([p[1] for p in pieces]))


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
    lists, blocks, table, start = OffsetLists(), [], [], 0
    for part, group in _part_groups(problem, variant):
        for block in block_rows(rows[group], part.share):
            first, *others = sections(block, part.gathers, idiom)
            for section in (_padded(first, part.chains, rows[group].offsets[0]), *others):
                wide = np.zeros((len(section.offsets), part.width, idiom.depth), np.int32)
                wide[:, : part.share.valid] = section.values
                table.append((lists.place(section.offsets), len(section.offsets), start))
                blocks.append(wide.ravel())
                start += wide.size
            table += [(0, 0, 0)] * (variant.sections - part.sections)
    packed = np.concatenate(blocks)
    origin = min(int(group.offsets[0]) for group in rows)
    flat = lists.flat() - origin
    layout = Layout(
        weight_dtype(idiom, packed),
        "uint16" if flat.max() < 2**16 else "int32",
        origin,
        problem.bias or bool(problem.x.format.zero),
    )
    return Packed(
        layout,
        packed.astype(layout.weights),
        flat.astype(layout.offsets),
        np.array(table, np.int32).ravel(),
        _by_block(problem, variant, scales.astype(np.float32)),
        _by_block(problem, variant, _whole_bias(problem, weights, bias)),
        _macs_per_pixel(problem, variant, rows),
    )


def _part_groups(problem: Conv2d, variant: Variant) -> Iterator[tuple[Part, int]]:
    return ((part, group) for part in variant.parts for group in range(problem.groups))


def _padded(section: Section, multiple: int, place: int) -> Section:
    """At least one entry and whole turns of the kernel's loop, by entries without weight."""
    count = len(section.offsets)
    more = max(1, -(-count // multiple)) * multiple - count
    offsets, values = np.full((count + more, 1), place), np.zeros((count + more, *section.values.shape[1:]), np.int32)
    offsets[:count], values[:count] = section.offsets, section.values
    return Section(offsets, values)


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
