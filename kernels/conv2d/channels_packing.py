"""Weights packed for the channels kernel: per block of output channels, the entries that have any weight."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgeprune.kernels.conv2d.channels_variant import Part, Variant
from edgeprune.kernels.conv2d.problem import Conv2d
from edgeprune.kernels.conv2d.shares import Channels


@dataclass(frozen=True)
class Packed:
    """The constants of a channels kernel, flat.

    An entry is one (tap, input channel) position, or a run of such channels. `table` holds three int32 per block, in
    the order of parts, groups and blocks: the first of its `offsets`, how many entries, and where its weights start;
    an entry has one offset (elements of x) and `width` weights for each of its input channels. Blocks with equal
    offsets share them; zeros pad a block to at least one turn of the kernel's loop. `longest` counts the products of
    the longest sum.
    """

    weights: np.ndarray
    offsets: np.ndarray
    table: np.ndarray
    bias: np.ndarray | None
    macs_per_pixel: int
    longest: int

    @property
    def constants(self) -> tuple[np.ndarray, ...]:
        """The arrays in argument order."""
        arrays = (self.weights, self.offsets, self.table)
        return arrays if self.bias is None else (*arrays, self.bias)


def entry_offsets(problem: Conv2d, channel_offsets: np.ndarray | None) -> np.ndarray:
    """Elements of x from an output pixel's own input position to each entry, int32 [groups, taps, in]."""
    if channel_offsets is None:
        channel_offsets = np.arange(problem.x.channels) * problem.x.channel_stride
    channels = np.asarray(channel_offsets, np.int64).reshape(problem.groups, 1, problem.group_inputs)
    return (channels + problem.tap_offsets()[None, :, None]).astype(np.int32)


def kept_entries(weights: np.ndarray, share: Channels | Part, inputs: int = 1) -> np.ndarray:
    """How many entries of `inputs` channels each block keeps, [groups, blocks], of [groups, taps, in, out]."""
    used = weights[..., share.start : share.start + share.blocks * share.valid] != 0
    groups, taps, count, _ = used.shape
    parts = used.reshape(groups, taps, count // inputs, inputs, share.blocks, share.valid)
    return parts.any((3, 5)).sum((1, 2))


def pack(
    problem: Conv2d, variant: Variant, weights: np.ndarray, bias: np.ndarray | None, offsets: np.ndarray
) -> Packed:
    """The constants of `variant` from `weights` [groups, taps, in, out], `bias` [groups*out] and entry_offsets."""
    lists = _OffsetLists()
    blocks: list[np.ndarray] = []
    table: list[tuple[int, int, int]] = []
    biases: list[np.ndarray] = []
    macs = start = longest = 0
    for part in variant.parts:
        for group in range(problem.groups):
            for first in range(part.start, part.start + part.blocks * part.valid, part.valid):
                rows = weights[group, :, :, first : first + part.valid].reshape(-1, part.inputs, part.valid)
                kept = np.flatnonzero((rows != 0).any((1, 2)))
                padded = _padded(kept, part.chains)
                block = np.zeros((len(padded), part.inputs, part.width), problem.real)
                block[: len(kept), :, : part.valid] = rows[kept]
                places = offsets[group].ravel()[:: part.inputs][padded]
                table.append((lists.place(places), len(padded), start))
                blocks.append(block.ravel())
                start += block.size
                longest = max(longest, len(padded) // part.chains * part.inputs)
                macs += len(kept) * part.inputs * part.valid
                biases.append(_block_bias(bias, group * problem.group_outputs + first, part))
    packed_bias = np.concatenate(biases).astype(problem.real) if problem.bias else None
    return Packed(np.concatenate(blocks), lists.flat(), np.array(table, np.int32).ravel(), packed_bias, macs, longest)


def _padded(kept: np.ndarray, multiple: int) -> np.ndarray:
    length = max(1, -(-len(kept) // multiple)) * multiple
    last = kept[-1] if len(kept) else 0
    return np.concatenate([kept, np.full(length - len(kept), last)])


def _block_bias(bias: np.ndarray | None, channel: int, part: Part) -> np.ndarray:
    values = np.zeros(part.width, np.float32)
    if bias is not None:
        values[: part.valid] = bias[channel : channel + part.valid]
    return values


class _OffsetLists:
    """Offset lists one after another, equal ones stored once."""

    def __init__(self) -> None:
        self._starts: dict[bytes, int] = {}
        self._lists: list[np.ndarray] = []
        self._length = 0

    def place(self, offsets: np.ndarray) -> int:
        """Where `offsets` start in the flat array."""
        key = offsets.tobytes()
        if key not in self._starts:
            self._starts[key] = self._length
            self._lists.append(offsets)
            self._length += len(offsets)
        return self._starts[key]

    def flat(self) -> np.ndarray:
        """All lists in one int32 array."""
        return np.concatenate(self._lists).astype(np.int32)
