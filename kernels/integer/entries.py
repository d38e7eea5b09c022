"""What the kernel reads of x and multiplies: the kept weights of a block as entries.

An entry is one place in x, from which a word of elements is read, and the weights of those elements.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from edgeprune.kernels.conv2d.problem import Conv2d
from edgeprune.kernels.conv2d.shares import Channels
from edgeprune.kernels.integer.dot import VECTORS, Idiom
from edgeprune.kernels.integer.kinds import CHANNELS, Kind, holder, known_kinds

VECTOR_BYTES = 16
"""Of a vector on machines that take a lane as a factor."""

MOST_CHAINED = 255
"""What the magnitudes of the weights of a chain may add up to: times 128, the largest element, it is within int16."""

_NARROW = np.iinfo(np.int8)


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
    """Entries of one kind: `offsets` int64 [entries, places of each], `values` int32 [entries, out, elements].

    `codes` int32 are zeros but where elements are chosen: [entries, out] by lanes, [entries, VECTOR_BYTES] from tables.
    """

    offsets: np.ndarray
    values: np.ndarray
    codes: np.ndarray


def entry_counts(rows: list[Rows], share: Channels, mode: str, idiom: Idiom) -> np.ndarray:
    """How many entries each block has of each of `known_kinds`, [groups, blocks, kinds]."""
    counts = [
        [[len(section.offsets) for section in sections(block, mode, idiom)] for block in block_rows(group, share)]
        for group in rows
    ]
    return np.array(counts)


def sections(block: Rows, mode: str, idiom: Idiom) -> list[Section]:
    """The entries of a block, by `known_kinds`."""
    if mode == "lanes":
        return [_lanes(block, idiom)]
    if mode in VECTORS:
        picks = VECTORS[mode].tables
        section = _picked(block, idiom, mode) if picks else _words(block, idiom, idiom.words(mode))
        if idiom.chained and picks:
            section = balanced(section, idiom)
        return _by_kind(section, known_kinds(block.values.shape[1], mode, idiom), idiom)
    if mode != "pairs":
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


def sections_by_kind(every: list[Section], known: Sequence[Kind], kinds: Sequence[Kind]) -> list[Section]:
    """The entries of `known` kinds as those of `kinds`, which hold them."""
    found: list[list[Section]] = [[] for _ in kinds]
    for section, kind in zip(every, known, strict=True):
        if len(section.offsets) or kind in kinds:
            number = holder(kind, kinds)
            elements = section.values.shape[2] * kinds[number].words // kind.words
            found[number].append(wider(section, elements))
    return [joined(sections) for sections in found]


def wider(section: Section, elements: int) -> Section:
    """The same entries with as many `elements`, of which the last have no weight."""
    more = elements - section.values.shape[2]
    return replace(section, values=np.pad(section.values, ((0, 0), (0, 0), (0, more))))


def joined(parts: Sequence[Section]) -> Section:
    """The entries of all `parts`, in order."""
    fields = ([getattr(section, field) for section in parts] for field in ("offsets", "values", "codes"))
    return Section(*(np.concatenate(arrays) for arrays in fields))


def _section(offsets: np.ndarray, values: np.ndarray) -> Section:
    return Section(offsets, values, np.zeros(values.shape[:2], np.int32))


def _pairs(block: Rows, places: np.ndarray) -> Section:
    """Entries of two places each; the second is given by the element before it."""
    values = block.values[places].transpose(0, 2, 1)
    return _section(block.offsets[places] - np.array([0, 1]), np.ascontiguousarray(values))


def _words(block: Rows, idiom: Idiom, words: int = 1) -> Section:
    first, owner = word_starts(block.offsets, words * idiom.depth)
    starts = block.offsets[first]
    values = np.zeros((len(starts), block.values.shape[1], words * idiom.depth), np.int32)
    values[owner, :, block.offsets - starts[owner]] = block.values
    return _narrow(_section(starts[:, None], values), idiom)


def _picked(block: Rows, idiom: Idiom, mode: str) -> Section:
    """Entries of the next elements within a window; codes are the bytes of the window that a vector is made of."""
    size = idiom.word_bytes // idiom.depth
    count, window = VECTORS[mode].bytes // size, VECTORS[mode].tables * VECTOR_BYTES // size
    starts, values, codes, position = [], [], [], 0
    while position < len(block.offsets):
        start = block.offsets[position]
        end = min(position + count, int(np.searchsorted(block.offsets, start + window)))
        places = np.zeros(count, np.int64)
        places[: end - position] = block.offsets[position:end] - start
        taken = np.zeros((block.values.shape[1], count), np.int32)
        taken[:, : end - position] = block.values[position:end].T
        starts.append(start)
        values.append(taken)
        codes.append(np.resize(places[:, None] * size + np.arange(size), VECTOR_BYTES))
        position = end
    shape = (len(starts), block.values.shape[1], count)
    return _narrow(
        Section(
            np.array(starts, np.int64).reshape(-1, 1),
            np.array(values, np.int32).reshape(shape),
            np.array(codes, np.int32).reshape(len(starts), VECTOR_BYTES),
        ),
        idiom,
    )


def _narrow(section: Section, idiom: Idiom) -> Section:
    """The same sums with weights that the idiom can hold: what goes beyond becomes further entries."""
    if idiom.wide_weights:
        return section
    low = np.clip(section.values, -_NARROW.max if idiom.chained else _NARROW.min, _NARROW.max)
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


def balanced(section: Section, idiom: Idiom) -> Section:
    """The same entries with the elements of each in an order in which as few chains as can be are short.

    Half of the elements of an entry go to one lane of a channel, half to the other.
    """
    own = np.flatnonzero(_short(section.values, idiom).any(1))
    if not own.size:
        return section
    values, codes, outputs, count = section.values.copy(), section.codes.copy(), *section.values.shape[1:]
    orders = _halved(count)
    sizes = abs(values[own]).astype(np.float32)
    halves = np.zeros((count, len(orders)), np.float32)
    halves[orders[:, ::2].T, np.arange(len(orders))] = 1
    sums = sizes @ halves
    beyond = np.maximum(sums, sizes.sum(2, keepdims=True) - sums) > MOST_CHAINED
    short = np.add.reduceat(beyond, range(0, outputs, CHANNELS), axis=1) > 0
    best = orders[short.sum(1).argmin(1)]
    values[own] = np.take_along_axis(values[own], best[:, None], 2)
    codes[own] = np.tile(np.take_along_axis(codes[own], best, 1), VECTOR_BYTES // count)
    return Section(section.offsets, values, codes)


def _halved(count: int) -> np.ndarray:
    """The orders of `count` elements that differ in which of them are at even places, [orders, count]."""
    halves = [half for half in combinations(range(count), count // 2) if half[0] == 0]
    rest = [[place for place in range(count) if place not in half] for half in halves]
    return np.stack([np.array(halves), np.array(rest)], 2).reshape(len(halves), count)


def _short(values: np.ndarray, idiom: Idiom) -> np.ndarray:
    """Of which vectors of channels the chains of weights [entries, out, elements] are short, [entries, vectors].

    The others stay within int16 whatever the elements are.
    """
    entries, outputs, elements = values.shape
    words = abs(values).reshape(entries, outputs, elements // idiom.depth, idiom.depth)
    beyond = (words.sum(2) > MOST_CHAINED).any(2)
    return np.add.reduceat(beyond, range(0, outputs, CHANNELS), axis=1) > 0


def _by_kind(section: Section, known: Sequence[Kind], idiom: Idiom) -> list[Section]:
    """The entries by `known_kinds`: of as many words as have weights, those of chains by which of them are short."""
    elements = section.values.shape[2]
    used = elements - np.asarray(section.values.any(1))[:, ::-1].argmax(1)
    words = -(-used // idiom.depth)
    kind = len(known) - words
    if idiom.chained:
        short = _short(section.values, idiom)
        longer = np.where(short.sum(1) > 1, len(known) - elements // idiom.depth, 1 + short.argmax(1))
        kind = np.where(short.any(1), longer, np.where(words == elements // idiom.depth, 0, kind))
    found = []
    for number, of_kind in enumerate(known):
        own = kind == number
        values = section.values[own][:, :, : of_kind.words * idiom.depth]
        found.append(Section(section.offsets[own], values, section.codes[own]))
    return found


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
