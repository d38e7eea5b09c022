"""The Winograd kernel as TensorIR: tiles of inputs are transformed, multiplied position by position, transformed back.

A unit of work keeps what it transforms in memory of its own. Everything is in whole vectors of channels; in the
products every lane of an input vector is a factor.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from edgeprune.kernels import script
from edgeprune.kernels.abi import View
from edgeprune.kernels.conv2d.problem import Conv2d
from edgeprune.kernels.conv2d.winograd_variant import POSITIONS, Variant
from edgeprune.kernels.epilogue import apply_epilogue, element, residuals
from edgeprune.kernels.script import Memory
from edgeprune.kernels.storage import stored


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

    @property
    def lanes(self) -> int:
        """Channels of a vector."""
        return self.variant.lanes

    @property
    def size(self) -> int:
        """Elements of a transformed tile of one vector of channels."""
        return POSITIONS * self.lanes

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
    dtypes = [problem.real] * (3 + count + problem.bias)
    down, across = problem.y.height // (2 * variant.rows), problem.y.width // (2 * variant.columns)

    def body(memories: list[Memory], begin: Any, end: Any) -> None:
        bias = memories[2 + count] if problem.bias else None
        inputs = script.local_array(variant.tiles * problem.x.channels * POSITIONS, problem.real)
        products = script.local_array(variant.tiles * problem.y.channels * POSITIONS, problem.real)
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
    view, lanes = work.problem.x, work.lanes
    packs = view.channels // lanes
    top, left = work.problem.pads
    with script.serial(0, work.variant.tiles) as tile:
        row, column = work.corner(tile)
        first = script.let(element(view, work.image, 0, row - top, column - left))
        with script.serial(0, packs) as pack:
            origin, place = script.let(first + pack * lanes), script.let((tile * packs + pack) * work.size)
            rows = [
                [work.x.load(origin + (i * view.row_stride + j * view.pixel_stride), lanes) for j in range(4)]
                for i in range(4)
            ]
            across = [[script.keep(value) for value in _differences(values)] for values in rows]
            for j in range(4):
                for i, value in enumerate(_differences([line[j] for line in across])):
                    work.inputs.store(place + (i * 4 + j) * lanes, value, lanes)


def _differences(values: Sequence[Any]) -> list[Any]:
    """One line of the input's transform."""
    a, b, c, d = values
    return [a - c, b + c, c - b, b - d]


def _sums(values: Sequence[Any]) -> list[Any]:
    """One line of the output's transform."""
    a, b, c, d = values
    return [a + b + c, b - c - d]


def _multiply(work: _Work) -> None:
    variant, lanes = work.variant, work.lanes
    packs = work.problem.x.channels // lanes
    width = lanes * variant.vectors
    blocks = work.problem.y.channels // width
    with script.serial(0, POSITIONS) as position, script.serial(0, blocks) as block:
        weights = script.let((position * blocks + block) * work.problem.x.channels * width)
        with script.serial(0, variant.tiles // variant.together) as group:
            tile = script.let(group * variant.together)
            sums = script.local_array(variant.together * width, work.problem.real)
            places = [
                (t, v, (t * variant.vectors + v) * lanes)
                for t in range(variant.together)
                for v in range(variant.vectors)
            ]
            for _, _, at in places:
                sums.store(at, script.splat(0.0, lanes, work.problem.real), lanes)
            source = script.let(tile * packs * work.size + position * lanes)
            with script.serial(0, packs) as pack:
                _turn(work, sums, source + pack * work.size, weights + pack * (lanes * width))
            target = script.let(
                (tile * blocks * variant.vectors + block * variant.vectors) * work.size + position * lanes
            )
            for t, v, at in places:
                place = target + (t * blocks * variant.vectors + v) * work.size
                work.products.store(place, sums.load(at, lanes), lanes)


def _turn(work: _Work, sums: Memory, source: Any, weights: Any) -> None:
    """A vector of input channels of the tiles at hand times the block of weights."""
    variant, lanes = work.variant, work.lanes
    step = work.problem.x.channels // lanes * work.size
    values = [script.let(work.inputs.load(source + t * step, lanes)) for t in range(variant.together)]
    for lane in range(lanes):
        for v in range(variant.vectors):
            factors = script.let(work.weights.load(weights + (lane * variant.vectors + v) * lanes, lanes))
            for t, value in enumerate(values):
                at = (t * variant.vectors + v) * lanes
                spread = script.splat(script.shuffle([value], [lane]), lanes)
                sums.store(at, sums.load(at, lanes) + spread * factors, lanes)


def _transform_outputs(work: _Work) -> None:
    problem, lanes = work.problem, work.lanes
    packs = problem.y.channels // lanes
    views = [problem.y, *(step.view for step in residuals(problem.epilogue))]
    with script.serial(0, work.variant.tiles) as tile:
        row, column = work.corner(tile)
        corners = [script.let(element(view, work.image, 0, row, column)) for view in views]
        with script.serial(0, packs) as pack:
            place = script.let((tile * packs + pack) * work.size)
            lines = [[work.products.load(place + (i * 4 + j) * lanes, lanes) for j in range(4)] for i in range(4)]
            across = [[script.keep(value) for value in _sums(values)] for values in lines]
            channel = script.let(pack * lanes)
            bias = script.let(work.bias.load(channel, lanes)) if work.bias else None
            for j in range(2):
                for i, value in enumerate(_sums([line[j] for line in across])):
                    total = value if bias is None else value + bias
                    _store(work, views, [corner + channel for corner in corners], (i, j), total)


def _store(work: _Work, views: Sequence[View], places: Sequence[Any], at: tuple[int, int], value: Any) -> None:
    lanes = work.lanes
    steps = [at[0] * view.row_stride + at[1] * view.pixel_stride for view in views]

    def residual(number: int, _: Any) -> Any:
        return work.residuals[number].load(places[number + 1] + steps[number + 1], lanes)

    total = apply_epilogue(work.problem.epilogue, value, residual)
    work.y.store(places[0] + steps[0], stored(total, views[0].format), lanes)
