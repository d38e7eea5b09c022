"""The Winograd kernel as TensorIR: tiles of inputs are transformed, multiplied position by position, transformed back.

A unit of work keeps what it transforms in memory of its own. Everything is in vectors of four channels; in the products
every lane of an input vector is a factor.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from edgeprune.kernels import script
from edgeprune.kernels.abi import View
from edgeprune.kernels.conv2d.problem import Conv2d
from edgeprune.kernels.conv2d.winograd_variant import LANES, POSITIONS, Variant
from edgeprune.kernels.epilogue import apply_epilogue, element, residuals
from edgeprune.kernels.script import Memory

_TILE = POSITIONS * LANES


@dataclass(frozen=True)
class _Work:
    """What one unit of work is about: its pointers, its first tile and the transformed tiles."""

    problem: Conv2d
    variant: Variant
    x: Memory
    residuals: Sequence[Memory]
    weights: Memory
    bias: Memory | None
    y: Memory
    image: Any
    row: Any
    column: Any
    inputs: Memory
    products: Memory

    def corner(self, tile: Any) -> tuple[Any, Any]:
        """The first output row and column of tile `tile` of the unit."""
        columns = self.variant.columns
        return script.let((self.row + tile // columns) * 2), script.let((self.column + tile % columns) * 2)


def unit_count(problem: Conv2d, variant: Variant) -> int:
    """Units of work of the whole problem."""
    return problem.pixels // (4 * variant.tiles)


@lru_cache(maxsize=256)
def winograd_function(problem: Conv2d, variant: Variant) -> Any:
    """The function over (x, residuals..., weights, [bias], y)."""
    count = len(residuals(problem.epilogue))
    dtypes = [script.FLOAT] * (3 + count + problem.bias)
    down, across = problem.y.height // (2 * variant.rows), problem.y.width // (2 * variant.columns)

    def body(memories: list[Memory], begin: Any, end: Any) -> None:
        bias = memories[2 + count] if problem.bias else None
        inputs = script.local_array(variant.tiles * problem.x.channels * POSITIONS)
        products = script.local_array(variant.tiles * problem.y.channels * POSITIONS)
        with script.serial(begin, end) as unit:
            place = script.let(unit % (down * across))
            row, column = script.let(place // across * variant.rows), script.let(place % across * variant.columns)
            work = _Work(
                problem, variant, memories[0], memories[1 : 1 + count], memories[1 + count], bias, memories[-1],
                script.let(unit // (down * across)), row, column, inputs, products,
            )  # fmt: skip
            _transform_inputs(work)
            _multiply(work)
            _transform_outputs(work)

    return script.kernel_function(dtypes, body)


def _transform_inputs(work: _Work) -> None:
    view, quads = work.problem.x, work.problem.x.channels // LANES
    top, left = work.problem.pads
    with script.serial(0, work.variant.tiles) as tile:
        row, column = work.corner(tile)
        first = script.let(element(view, work.image, 0, row - top, column - left))
        with script.serial(0, quads) as quad:
            origin, place = script.let(first + quad * LANES), script.let((tile * quads + quad) * _TILE)
            rows = [
                [work.x.load(origin + (i * view.row_stride + j * view.pixel_stride), LANES) for j in range(4)]
                for i in range(4)
            ]
            across = [[script.keep(value) for value in _differences(values)] for values in rows]
            for j in range(4):
                for i, value in enumerate(_differences([line[j] for line in across])):
                    work.inputs.store(place + (i * 4 + j) * LANES, value, LANES)


def _differences(values: Sequence[Any]) -> list[Any]:
    """One line of the input's transform."""
    a, b, c, d = values
    return [a - c, b + c, c - b, b - d]


def _sums(values: Sequence[Any]) -> list[Any]:
    """One line of the output's transform."""
    a, b, c, d = values
    return [a + b + c, b - c - d]


def _multiply(work: _Work) -> None:
    variant, quads = work.variant, work.problem.x.channels // LANES
    width = LANES * variant.vectors
    blocks = work.problem.y.channels // width
    with script.serial(0, POSITIONS) as position, script.serial(0, blocks) as block:
        weights = script.let((position * blocks + block) * work.problem.x.channels * width)
        with script.serial(0, variant.tiles // variant.together) as group:
            tile = script.let(group * variant.together)
            sums = script.local_array(variant.together * width)
            places = [
                (t, v, (t * variant.vectors + v) * LANES)
                for t in range(variant.together)
                for v in range(variant.vectors)
            ]
            for _, _, at in places:
                sums.store(at, script.splat(0.0, LANES), LANES)
            source = script.let(tile * quads * _TILE + position * LANES)
            with script.serial(0, quads) as quad:
                _turn(work, sums, source + quad * _TILE, weights + quad * (LANES * width))
            target = script.let((tile * blocks * variant.vectors + block * variant.vectors) * _TILE + position * LANES)
            for t, v, at in places:
                place = target + (t * blocks * variant.vectors + v) * _TILE
                work.products.store(place, sums.load(at, LANES), LANES)


def _turn(work: _Work, sums: Memory, source: Any, weights: Any) -> None:
    """Four input channels of the tiles at hand times the block of weights."""
    variant, step = work.variant, work.problem.x.channels // LANES * _TILE
    values = [script.let(work.inputs.load(source + t * step, LANES)) for t in range(variant.together)]
    for lane in range(LANES):
        for v in range(variant.vectors):
            factors = script.let(work.weights.load(weights + (lane * variant.vectors + v) * LANES, LANES))
            for t, value in enumerate(values):
                at = (t * variant.vectors + v) * LANES
                spread = script.splat(script.shuffle([value], [lane]), LANES)
                sums.store(at, sums.load(at, LANES) + spread * factors, LANES)


def _transform_outputs(work: _Work) -> None:
    problem, quads = work.problem, work.problem.y.channels // LANES
    views = [problem.y, *(step.view for step in residuals(problem.epilogue))]
    with script.serial(0, work.variant.tiles) as tile:
        row, column = work.corner(tile)
        corners = [script.let(element(view, work.image, 0, row, column)) for view in views]
        with script.serial(0, quads) as quad:
            place = script.let((tile * quads + quad) * _TILE)
            lines = [[work.products.load(place + (i * 4 + j) * LANES, LANES) for j in range(4)] for i in range(4)]
            across = [[script.keep(value) for value in _sums(values)] for values in lines]
            channel = script.let(quad * LANES)
            bias = script.let(work.bias.load(channel, LANES)) if work.bias else None
            for j in range(2):
                for i, value in enumerate(_sums([line[j] for line in across])):
                    total = value if bias is None else value + bias
                    _store(work, views, [corner + channel for corner in corners], (i, j), total)


def _store(work: _Work, views: Sequence[View], places: Sequence[Any], at: tuple[int, int], value: Any) -> None:
    steps = [at[0] * view.row_stride + at[1] * view.pixel_stride for view in views]

    def residual(number: int, _: Any) -> Any:
        return work.residuals[number].load(places[number + 1] + steps[number + 1], LANES)

    total = apply_epilogue(work.problem.epilogue, value, residual)
    work.y.store(places[0] + steps[0], total, LANES)
