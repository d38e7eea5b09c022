"""Integer weights packed for the kernel: per block of output channels, the entries that have any weight."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from edgeprune.kernels.conv2d.problem import Conv2d
from edgeprune.kernels.integer.dot import IDIOMS, weight_dtype
from edgeprune.kernels.integer.entries import Rows, Section, block_rows, group_rows, sections
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
