"""Integer weights packed for the kernel: per block of output channels, the entries that have any weight."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from edgeprune.kernels.conv2d.problem import Conv2d
from edgeprune.kernels.integer.dot import IDIOMS, Idiom, weight_dtype
from edgeprune.kernels.integer.entries import (
    VECTOR_BYTES,
    Rows,
    Section,
    block_rows,
    group_rows,
    joined,
    sections,
    sections_by_kind,
    wider,
)
from edgeprune.kernels.integer.kinds import heir, known_kinds
from edgeprune.kernels.integer.variant import Part, Variant


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
    `offsets`, how many entries, and where its weights start; an entry has `width` * depth weights for each word,
    those of one channel side by side. Blocks with equal offsets share them. `scales` (float32) and `bias` (int32) hold
    `width` values a block. `codes`, where lanes choose their own elements, has one code for each `depth` weights;
    where vectors are picked from tables, VECTOR_BYTES beside each offset.

    Of chains, the offsets of a block's kinds follow each other: of the first kind its first one, then how far each is
    from the one before and a last way that is not gone. VECTOR_BYTES that pick from tables come before the weights.
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
    origin = min(group.origin for group in rows)
    lists, blocks, codes, table, start = OffsetLists(), [], [], [], 0
    for part, group in _part_groups(problem, variant):
        for block in block_rows(rows[group], part.share):
            known = known_kinds(part.share.valid, part.mode, idiom)
            kinds = sections_by_kind(sections(block, part.mode, idiom), known, part.kinds)
            kinds = _whole_turns(kinds, part, idiom, rows[group].origin)
            places = _places(lists, kinds, part, idiom, origin)
            for section, place in zip(kinds, places, strict=True):
                wide = _by_word(section, part, idiom)
                table.append((place, len(section.offsets), start))
                blocks.append(wide)
                codes.append(_lane_codes(section, part))
                start += wide.size
            table += [(0, 0, 0)] * (variant.sections - len(part.kinds))
    packed = np.concatenate(blocks)
    picked = not idiom.chained and any(part.picks for part in variant.parts)
    flat = lists.flat()
    layout = Layout(
        weight_dtype(idiom, packed),
        "int32" if idiom.chained or flat.max() >= 2**16 else "uint16",
        origin,
        problem.bias or bool(problem.x.format.zero),
        "uint8" if picked else idiom.codes if any(part.mode == "lanes" for part in variant.parts) else None,
    )
    return Packed(
        layout,
        packed.astype(layout.weights),
        flat.astype(layout.offsets),
        np.array(table, np.int32).ravel(),
        _by_block(problem, variant, scales.astype(np.float32)),
        _by_block(problem, variant, _whole_bias(problem, weights, bias)),
        lists.codes().astype(np.uint8) if picked else np.concatenate(codes).astype(idiom.codes),
        _macs_per_pixel(problem, variant, rows),
    )


def _by_word(section: Section, part: Part, idiom: Idiom) -> np.ndarray:
    """The weights of a section as the kernel reads them, word after word; before those of chains what they pick."""
    entries, outputs, elements = section.values.shape
    words = elements // idiom.depth
    wide = np.zeros((entries, words, part.width, idiom.depth), np.int32)
    wide[:, :, :outputs] = section.values.reshape(entries, outputs, words, idiom.depth).transpose(0, 2, 1, 3)
    if idiom.chained and part.picks:
        return np.concatenate([section.codes, wide.reshape(entries, words * part.width * idiom.depth)], axis=1).ravel()
    return wide.ravel()


def _lane_codes(section: Section, part: Part) -> np.ndarray:
    chosen = np.zeros((len(section.offsets), part.width), np.int32)
    if part.mode == "lanes":
        chosen[:, : part.share.valid] = section.codes
    return chosen.ravel()


def _picks(section: Section, part: Part) -> np.ndarray:
    if part.picks:
        return section.codes
    return np.zeros((section.offsets.size, VECTOR_BYTES), np.int32)


def _whole_turns(kinds: list[Section], part: Part, idiom: Idiom, place: int) -> list[Section]:
    """At least one entry and whole turns of the kernel's loops.

    Chains of the first kind come in pairs: an odd one goes to the kind that is its heir.
    """
    first, *others = kinds
    if not idiom.chained or len(kinds) == 1:
        return [_padded(first, part.chains, place), *others]
    number = heir(part.kinds)
    if number is None:
        return kinds
    even = len(first.offsets) // 2 * 2
    single = wider(_cut(first, even, None), kinds[number].values.shape[2])
    found = [_cut(first, 0, even), *others]
    found[number] = joined([single, found[number]])
    return found


def _cut(section: Section, first: int, last: int | None) -> Section:
    return Section(section.offsets[first:last], section.values[first:last], section.codes[first:last])


def _places(lists: OffsetLists, kinds: list[Section], part: Part, idiom: Idiom, origin: int) -> list[int]:
    """Where the offsets of each of `kinds` are; those of chains lie in a row, of the first kind as ways."""
    if not idiom.chained:
        return [lists.place(section.offsets - origin, _picks(section, part)) for section in kinds]
    first, *others = (section.offsets.ravel() - origin for section in kinds)
    ways = np.concatenate([np.diff(first, prepend=0), np.zeros(1 - len(first) % 2, np.int64), *others])
    start = lists.place(ways, np.zeros((len(ways), VECTOR_BYTES), np.int32))
    return [start] * len(kinds)


def _part_groups(problem: Conv2d, variant: Variant) -> Iterator[tuple[Part, int]]:
    return ((part, group) for part in variant.parts for group in range(problem.groups))


def _padded(section: Section, multiple: int, place: int) -> Section:
    """At least one entry and whole turns of the kernel's loop, by entries without weight."""
    count, (outputs, depth) = len(section.offsets), section.values.shape[1:]
    more = max(1, -(-count // multiple)) * multiple - count
    offsets = np.concatenate([section.offsets, np.full((more, 1), place)])
    values = np.concatenate([section.values, np.zeros((more, outputs, depth), np.int32)])
    codes = np.concatenate([section.codes, np.zeros((more, section.codes.shape[1]), np.int32)])
    return Section(offsets, values, codes)


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
    """Offset lists one after another, equal ones stored once; each offset has VECTOR_BYTES of codes beside it."""

    def __init__(self) -> None:
        self._starts: dict[bytes, int] = {}
        self._lists: list[np.ndarray] = []
        self._codes: list[np.ndarray] = []
        self._length = 0

    def place(self, offsets: np.ndarray, codes: np.ndarray) -> int:
        """Where `offsets` with `codes` start in the flat arrays."""
        offsets = offsets.ravel()
        key = offsets.tobytes() + codes.tobytes()
        if key not in self._starts:
            self._starts[key] = self._length
            self._lists.append(offsets)
            self._codes.append(codes)
            self._length += len(offsets)
        return self._starts[key]

    def flat(self) -> np.ndarray:
        """All lists in one int64 array."""
        return np.concatenate(self._lists).astype(np.int64)

    def codes(self) -> np.ndarray:
        """All codes in one flat array."""
        return np.concatenate(self._codes).ravel()
