"""Elementwise arithmetic from planes to few channels that lie side by side: vectors along pixels, woven when stored."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from edgeprune.kernels import script
from edgeprune.kernels.elementwise.axes import Axis, advanced, vectors
from edgeprune.kernels.script import Memory

_MOST_CHANNELS = 4

Evaluate = Callable[[Sequence[Any], int], Any]


def is_woven(axes: Sequence[Axis]) -> bool:
    """Whether the last two of `axes` are pixels and their few channels: side by side in y, in planes in all inputs."""
    if len(axes) < 2 or not 1 < axes[-1].extent <= _MOST_CHANNELS or len(axes[-1].strides) < 2:
        return False
    pixels, channels = axes[-2:]
    return channels.strides[0] == 1 and pixels.strides == (channels.extent, *[1] * (len(pixels.strides) - 1))


def emit_woven(
    axes: Sequence[Axis], places: Sequence[Any], extent: int, memories: Sequence[Memory], lanes: int, evaluate: Evaluate
) -> None:
    """`extent` pixels from `places` on; `evaluate(loaded, lanes)` is what is stored of loaded inputs."""
    pixels, channels = axes[-2:]
    for first, width in vectors(extent, lanes):
        at = advanced(places, pixels, first)
        planes = []
        for channel in range(channels.extent):
            own = advanced(at, channels, channel)[1:]
            loaded = [script.let(memory.load(index, width)) for memory, index in zip(memories[:-1], own, strict=True)]
            planes.append(evaluate(loaded, width))
        if width == 1:
            for channel, plane in enumerate(planes):
                memories[-1].store(at[0] + channel, plane)
            continue
        order = [plane * width + pixel for pixel in range(width) for plane in range(len(planes))]
        memories[-1].store(at[0], script.shuffle(planes, order), width * len(planes))
