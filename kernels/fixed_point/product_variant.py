"""How an int8 product is done: the tile that stays in registers, blocks skipped or not, and what that costs."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from edgeprune.kernels.conv2d.problem import Conv2d
from edgeprune.kernels.fixed_point.gather_lines import Lines
from edgeprune.kernels.fixed_point.product_assembly import Channels, Clip
from edgeprune.kernels.fixed_point.product_loop import BLOCK, Line, Loop
from edgeprune.kernels.fixed_point.wide_weights import repeated_blocks

TILES = ((2, 4), (1, 8), (2, 3), (2, 2), (4, 1), (1, 4), (2, 1), (1, 2), (1, 1))
"""Output channels times pixels, in registers at once."""

TURNS = (1, 2, 3, 4, 5, 7)
"""Blocks in a turn of the loop where none are skipped."""

SPARSE_TURNS, _LINE_TURNS = (4, 8), (2, 4)

_LONGEST = 8
_MOST_BYTES, _MOST_SPARSE_BYTES = 2**16 - 1, 2**15 - 4
_ROW_SETUP, _TILE_SETUP = 30.0, 24.0
_PIXEL_SETUP, _WINDOW_SETUP = 30.0, 110.0
_SPREAD = 6.9


def reduction_blocks(problem: Conv2d) -> int:
    """Blocks along the reduction of one group."""
    return -(-problem.taps * problem.group_inputs // BLOCK) + len(repeated_blocks(problem))


def first_channels(outputs: int, channels: int) -> np.ndarray:
    """The first output channel of each tile of a group; the last tile may do some again."""
    return np.minimum(np.arange(-(-outputs // channels)) * channels, outputs - channels)


def tile_count(problem: Conv2d, pixels: int) -> int:
    """Tiles of output pixels; the last may do some again."""
    return -(-problem.pixels // pixels)


def kept_blocks(weights: np.ndarray, channels: int) -> np.ndarray:
    """Which blocks of each tile of channels hold anything: bool [groups, tiles, blocks].

    `weights` is int8 [groups, taps, in, out].
    """
    groups, taps, inputs, outputs = weights.shape
    flat = weights.reshape(groups, taps * inputs, outputs) != 0
    flat = np.pad(flat, ((0, 0), (0, -taps * inputs % BLOCK), (0, 0)))
    blocks = np.any(flat.reshape(groups, -1, BLOCK, outputs), axis=2)
    columns = first_channels(outputs, channels)[:, None] + np.arange(channels)
    kept: np.ndarray = np.any(blocks[:, :, columns], axis=3)
    return kept.transpose(0, 2, 1)


def loops(problem: Conv2d, packed: bool) -> Iterator[Loop]:
    """Every loop that the problem's size allows."""
    blocks = reduction_blocks(problem)
    for channels, pixels in TILES:
        if channels > problem.group_outputs or pixels > problem.pixels:
            continue
        for turn in SPARSE_TURNS:
            yield Loop(channels, pixels, turn, True, packed)
        for turn in TURNS:
            if turn <= blocks:
                yield Loop(channels, pixels, turn, False, packed)
        yield from _line_loops(problem, channels, pixels, packed)


def _line_loops(problem: Conv2d, channels: int, pixels: int, packed: bool) -> Iterator[Loop]:
    lines = Lines(problem, packed)
    if not lines.possible or pixels > problem.y.width or repeated_blocks(problem):
        return
    line, columns, blocks = lines.line, problem.kernel[1], reduction_blocks(problem)
    for turn in _LINE_TURNS:
        yield Loop(channels, pixels, turn, True, packed, line)
    for turn in {columns * rows for rows in (1, 2, 4)}:
        if blocks % turn == 0 and turn <= _LONGEST:
            yield Loop(channels, pixels, turn, False, packed, line)


def block_order(problem: Conv2d, line: Line) -> tuple[np.ndarray, np.ndarray]:
    """Blocks in the order of their place in rows of scratch, and these places in words."""
    rows, columns, words = problem.kernel[0], problem.kernel[1], problem.group_inputs // BLOCK
    row, block, column = (index.ravel() for index in np.indices((rows, words, columns)))
    column = np.argsort(line.places)[column]
    places = (row * words + block) * 2 * line.words + np.array(line.places)[column]
    return (row * columns + column) * words + block, places


def entries(problem: Conv2d, kept: np.ndarray, loop: Loop) -> np.ndarray:
    """Blocks that the loop does for each tile of channels, where `kept` is as `kept_blocks` gives it.

    Where blocks are skipped it does at least one, and blocks of zeros where what is skipped exceeds a header's bits.
    """
    if not loop.sparse:
        return np.full(kept.shape[:2], kept.shape[2])
    places = np.arange(kept.shape[2])
    if loop.line:
        order, places = block_order(problem, loop.line)
        kept = kept[:, :, order]
    rows = kept.reshape(-1, kept.shape[2])
    row, column = np.nonzero(rows)
    bridges = np.bincount(row, bridges_of(loop, row, places[column]), len(rows)).astype(np.int64)
    return np.maximum(rows.sum(axis=1) + bridges, 1).reshape(kept.shape[:2])


def bridges_of(loop: Loop, row: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Blocks of zeros before each block at `place` of tile `row`, both in ascending order."""
    first = np.diff(row, prepend=-1) != 0
    if loop.line:
        return np.maximum(np.where(first, place, np.diff(place, prepend=0)) - 1, 0) // longest_skip(loop)
    return (np.where(first, place, np.diff(place, prepend=0) - 1)) // (longest_skip(loop) + 1)


def longest_skip(loop: Loop) -> int:
    """The most that a header can say: words of a line, or blocks."""
    most: int = 2**loop.skip_bits - 1
    return most if loop.line else most // loop.skip_unit


def channels_of(problem: Conv2d, loop: Loop, clip: Clip, shared: bool) -> Channels:
    """What is done with a gathered tile, by code that is `shared` by problems of other sizes or not."""
    ragged, blocks = problem.group_outputs % loop.channels > 0, reduction_blocks(problem)
    far = 2 * int(loop.bytes_of(np.array(blocks))) > (_MOST_SPARSE_BYTES if loop.sparse else _MOST_BYTES)
    if shared:
        return Channels(loop, clip, None, None, ragged, far)
    turns = None if loop.sparse else -(-blocks // loop.turn)
    return Channels(loop, clip, turns, problem.y.pixel_stride, ragged, far)


def instructions(problem: Conv2d, kept: np.ndarray, tile: Channels) -> float:
    """Instructions that one run is expected to take."""
    loop, blocks = tile.loop, kept.shape[2]
    done = entries(problem, kept, loop)
    channels = float(loop.instructions_of(done).sum()) + done.size * (tile.tile_instructions - 3 * (tile.turns == 1))
    if loop.line:
        rows, tiles = problem.y.batch * problem.y.height, -(-problem.y.width // loop.pixels)
        gather = problem.groups * (_ROW_SETUP + Lines(problem, loop.packed).instructions)
        return rows * (tiles * (channels + problem.groups * _TILE_SETUP) + gather)
    setup = _PIXEL_SETUP + (_WINDOW_SETUP if tile.stride is None and problem.taps > 1 else 0)
    gather = problem.groups * loop.pixels * (setup + blocks * _SPREAD)
    return tile_count(problem, loop.pixels) * (channels + gather)


def stream_bytes(problem: Conv2d, kept: np.ndarray, tile: Channels) -> int:
    """Bytes of the constants."""
    done = entries(problem, kept, tile.loop)
    return int(tile.loop.bytes_of(done).sum()) + done.size * tile.own_bytes
