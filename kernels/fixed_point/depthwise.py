"""int8 depthwise convolution in integers alone, as TFLite defines it."""

from __future__ import annotations

import numpy as np

from edgeprune.kernels.abi import Kernel, Machine
from edgeprune.kernels.depthwise.problem import Depthwise
from edgeprune.kernels.fixed_point.arithmetic import Requantize
from edgeprune.kernels.fixed_point.depthwise_mve import build_vector_depthwise
from edgeprune.kernels.fixed_point.depthwise_pairs import HIGHER, Pairs, pairs_function, row_words
from edgeprune.kernels.fixed_point.depthwise_ring import Ring
from edgeprune.kernels.fixed_point.depthwise_scale import fold
from edgeprune.kernels.fixed_point.depthwise_single import pack_single, single_function

_PAIRED = ("smlad", "mve")


def build_fixed_depthwise(
    problem: Depthwise,
    weights: np.ndarray,
    bias: np.ndarray | None,
    requantize: Requantize,
    machine: Machine,
    higher: int = HIGHER,
) -> Kernel:
    """The kernel of `problem`, channels last, without a border around x: what lies outside is x's zero.

    `weights` are integers [channels, taps], `bias` int32 [channels]; `requantize` bounds and rescales the sums. A unit
    is an image. Scratch may be `higher` times as high as it must be where that saves code. Raises ValueError where x
    and y differ in channels or an image is not channels-last.
    """
    x, y = problem.x, problem.y
    if x.channel_stride != 1 or y.channel_stride != 1 or x.channels != y.channels or problem.epilogue:
        raise ValueError("a depthwise convolution needs two channels-last images with the same channels")
    vectors = build_vector_depthwise(problem, weights, bias, requantize) if machine.dot == "mve" else None
    if vectors is not None:
        return vectors
    paired = machine.dot in _PAIRED
    ring, folded = Ring(problem, most=higher if paired else 1), fold(weights, bias, x.format.zero, requantize)
    macs = y.batch * y.height * y.width * y.channels * problem.taps
    constants: tuple[np.ndarray, ...]
    if paired:
        func = pairs_function(problem, requantize, folded.shift, higher)
        constants = (Pairs(problem).packed(folded, requantize),)
        scratch, label = 4 * row_words(ring) * ring.slots * x.channels, "pairs"
    else:
        func = single_function(problem, requantize, folded.shift)
        constants = tuple(pack_single(folded))
        scratch, label = ring.positions * ring.slots * x.channels, "single"
    return Kernel(
        func, y.batch, constants, f"fixed depthwise {label}", macs, macs, scratch_bytes=scratch,
        overlaps=(ring.overlap(),),
    )  # fmt: skip
