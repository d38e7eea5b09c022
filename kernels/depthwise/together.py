"""Neighbouring pixels of few channels that are done as channels of one, so that vectors are full."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from edgeprune.kernels.abi import Residual, View
from edgeprune.kernels.depthwise.problem import Depthwise

_MOST = 1024
"""Channels of pixels together, each with weights of its own."""
_RUN = 4
"""Bytes that are put together at once."""


def together(problem: Depthwise, vectors: Callable[[int], int], apart: float, whole: int = 0) -> tuple[float, int]:
    """The neighbouring pixels that are done as channels of one, several where that saves work, and vectors a pixel.

    They follow each other then. `vectors` tells how many some channels take; of several pixels, each counts as `apart`.
    In steps of two pixels those go together that fill one vector of `whole` channels.
    """
    x, y, step = problem.x, problem.y, problem.strides[1]
    views = (x, y, *(step.view for step in problem.residuals))
    alone = float(vectors(y.channels)), 1
    if step > 2 or any((view.pixel_stride, view.channel_stride) != (y.channels, 1) for view in views):
        return alone
    counts = [count for count in range(2, min(y.width, _MOST // y.channels) + 1) if y.width % count == 0]
    if step == 2:
        counts = [count for count in counts if count * y.channels == whole and y.channels % _RUN == 0]
    return min([alone, *((apart * vectors(count * y.channels) / count, count) for count in counts)])


def gathered(problem: Depthwise, count: int) -> Depthwise:
    """The same problem where `count` neighbouring pixels are the channels of one."""

    def wide(view: View) -> View:
        channels = view.channels * count
        return replace(view, channels=channels, width=view.width // count, pixel_stride=channels)

    steps = tuple(
        replace(step, view=wide(step.view)) if isinstance(step, Residual) else step for step in problem.epilogue
    )
    x = replace(problem.x, channels=problem.x.channels * count)
    return replace(
        problem, x=x, y=wide(problem.y), strides=(problem.strides[0], count * problem.strides[1]), epilogue=steps
    )
