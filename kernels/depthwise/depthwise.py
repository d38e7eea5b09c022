"""Depthwise convolution: the kernel for a problem, whichever of the two layouts its images have."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from edgeprune.kernels.abi import Kernel, Machine
from edgeprune.kernels.depthwise import chains, pairs, quads, widening
from edgeprune.kernels.depthwise.chains import chains_function, tap_chains
from edgeprune.kernels.depthwise.channels import channels_function, pack_channels, tile_pixels
from edgeprune.kernels.depthwise.pairs import pack_pairs, pairs_function
from edgeprune.kernels.depthwise.planar import planar_function, tile_rows
from edgeprune.kernels.depthwise.problem import EXACT, Depthwise
from edgeprune.kernels.depthwise.quads import pack_quads, quads_function
from edgeprune.kernels.depthwise.together import gathered, together
from edgeprune.kernels.depthwise.widening import pack_widening, widening_function
from edgeprune.kernels.integer.finish import needed

__all__ = ["Depthwise", "build_depthwise"]

PAIRED = ("pairs", "vnni", "bytes")
"""Machine.dot of machines with an instruction that multiplies pairs."""
FOUR = ("vnni", "bytes")
"""Those of machines with one that multiplies four bytes; the second is its plain definition."""
WIDENING = ("smull", "sdot")
"""Those of machines with an instruction that multiplies int16 and adds to int32."""


def build_depthwise(
    problem: Depthwise,
    weights: np.ndarray,
    bias: np.ndarray | None,
    machine: Machine,
    scales: np.ndarray | None = None,
) -> Kernel:
    """The kernel of `problem` with float32 `weights` [C, taps] and `bias` [C], packed in the type it computes in.

    Where `x` stores integers, weights and bias are whole numbers, of int8 and int32 range, and float32 `scales` [C]
    are what a sum of each channel is multiplied by. Raises ValueError where the views are neither both
    channels-last nor both planar, and where integers come without scales or scales without integers.
    """
    x, y = problem.x, problem.y
    if problem.integer != (scales is not None):
        raise ValueError("scales go with an input of integers")
    if scales is None:
        constants = [np.array(array, problem.real, order="C") for array in (weights, bias) if array is not None]
    else:
        constants = whole_constants(problem, weights, bias, scales)
        problem = replace(problem, bias=True, epilogue=needed(problem.epilogue, y.format))
    whole = problem.integer and x.channel_stride == y.channel_stride == 1
    widens = whole and machine.dot in WIDENING
    paired = whole and machine.dot in PAIRED
    fours, spread = False, 0
    if paired:
        fours, count = _chosen(problem, constants[0], machine)
        spread = x.channels if fours and count > 1 and problem.strides[1] > 1 else 0
        problem = gathered(problem, count) if count > 1 else problem
        repeated = [np.concatenate([array] * count) for array in constants]
        constants = _interleaved(problem, repeated, machine.lanes, fours)
    chained = widens and x.format.dtype == constants[0].dtype == np.int8
    taps = constants[0]
    if widens:
        packed = pack_channels(taps, chains.WIDTH) if chained else pack_widening(taps)
        constants = [packed, constants[1].astype(np.int64).astype(np.int32), constants[2]]
    dtypes = tuple(str(array.dtype) for array in constants)
    lanes = machine.lanes if problem.integer else machine.lanes_of(x.format)
    if fours:
        pixels = quads.tile_pixels(machine.registers)
        func = quads_function(problem, machine.dot, machine.lanes, pixels, dtypes, spread)
        units, label = y.batch * y.height, "quads"
    elif paired:
        func = pairs_function(problem, machine.lanes, pairs.tile_pixels(machine.registers), dtypes)
        units, label = y.batch * y.height, "pairs"
    elif chained:
        func = chains_function(problem, machine.dot, tap_chains(taps), dtypes)
        units, label = y.batch * y.height, "chains"
    elif widens:
        pixels = widening.tile_pixels(problem, machine.registers)
        func = widening_function(problem, machine.dot, pixels, dtypes)
        units, label = y.batch * y.height, "widening"
    elif x.channel_stride == y.channel_stride == 1:
        func = channels_function(problem, lanes, tile_pixels(problem, machine.registers), dtypes)
        constants[0], units, label = pack_channels(constants[0], lanes), y.batch * y.height, "channels"
    elif x.pixel_stride == y.pixel_stride == 1:
        func = planar_function(problem, lanes, tile_rows(problem, machine.registers), dtypes)
        units, label = y.batch * y.channels, "planar"
    else:
        raise ValueError("a depthwise convolution needs two channels-last or two planar images")
    macs = y.batch * y.channels * y.height * y.width * problem.taps
    return Kernel(func, units, tuple(constants), f"depthwise {label}", macs, macs)


def _chosen(problem: Depthwise, weights: np.ndarray, machine: Machine) -> tuple[bool, int]:
    """Whether taps are multiplied by fours, and how many neighbouring pixels go together.

    By fours where bytes meet bytes, all that is read may be read past its end, and it takes less time than pairs.
    """
    lanes, slack = machine.lanes, problem.has_slack
    taken, count = together(problem, lambda channels: pairs.vector_count(channels, lanes, slack), pairs.APART)
    if machine.dot not in FOUR or problem.x.format.dtype != "uint8" or weights.dtype != np.int8 or not slack:
        return False, count
    whole = quads.DEPTH * lanes
    fewer, own = together(problem, lambda channels: len(quads.vector_widths(channels, lanes)), quads.APART, whole)
    return (True, own) if quads.CYCLES * fewer < pairs.CYCLES * taken else (False, count)


def _interleaved(problem: Depthwise, constants: list[np.ndarray], lanes: int, fours: bool) -> list[np.ndarray]:
    """Weights, bias and scales as kernels of pairs read them, or those of fours."""
    weights, bias, scales = constants
    pack, order = (pack_quads, quads.in_order_of_sums) if fours else (pack_pairs, pairs.in_order_of_sums)
    own = [order(problem, array, lanes) for array in (bias.astype(np.int64).astype(np.int32), scales)]
    return [pack(problem, weights, lanes), *own]


def whole_constants(
    problem: Depthwise, weights: np.ndarray, bias: np.ndarray | None, scales: np.ndarray
) -> list[np.ndarray]:
    """Weights, bias and scales of a problem of integers as its kernel reads them.

    What the zero of x adds to every sum is taken off the bias. The bias is float32 where all sums are exact in it.
    """
    weights = np.asarray(weights).astype(np.int64)
    whole = np.zeros(len(weights), np.int64) if bias is None else np.asarray(bias).astype(np.int64)
    whole = whole - problem.x.format.zero * weights.sum(axis=1)
    held = problem.x.format
    reach = abs(weights).sum(axis=1) * max(abs(held.low), abs(held.high)) + abs(whole)
    dtype = np.float32 if reach.max(initial=0) < EXACT else np.int32
    packed = weights.astype(np.int8 if abs(weights).max(initial=0) < 128 else np.int16)
    return [packed, whole.astype(dtype), np.array(scales, np.float32, order="C")]
