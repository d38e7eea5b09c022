"""The shapes one Winograd kernel can take, and what they cost."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

from edgeprune.kernels.abi import Activation, Machine, Residual
from edgeprune.kernels.conv2d.channels_variant import multiplies_by_element
from edgeprune.kernels.conv2d.problem import LONGEST_SUM, Conv2d
from edgeprune.kernels.vector_math import HALF

POSITIONS = 16
"""Values of a transformed tile: 4 x 4 inputs give 2 x 2 outputs."""

_SIDE = 2
_ISSUE = 1.5
_INPUT, _OUTPUT, _EPILOGUE = 62.0, 44.0, 12.0
_UNIT, _TURN = 60.0, 8.0
_BUFFER_BYTES = 65536


@dataclass(frozen=True)
class Variant:
    """A unit of work is `rows` x `columns` tiles of 2 x 2 outputs.

    Their products take `together` tiles and `vectors` vectors of `lanes` output channels at a time.
    """

    rows: int
    columns: int
    together: int
    vectors: int
    lanes: int = 4

    @property
    def tiles(self) -> int:
        """Tiles of a unit."""
        return self.rows * self.columns

    def __str__(self) -> str:
        return f"{self.rows}x{self.columns} by {self.together}x{self.vectors * self.lanes}"


def fits(problem: Conv2d, machine: Machine) -> bool:
    """Whether the kernel can do `problem`: 3 x 3 in one real type, dense, steps of one, whole tiles and vectors."""
    plain = all(
        isinstance(step, Activation) or (isinstance(step, Residual) and _is_alike(problem, step))
        for step in problem.epilogue
    )
    lanes = machine.lanes_of(problem.x.format)
    steps = (*problem.kernel, *problem.strides, *problem.dilations, problem.groups) == (3, 3, 1, 1, 1, 1, 1)
    sizes = (problem.y.height % _SIDE, problem.y.width % _SIDE, problem.x.channels % lanes, problem.y.channels % lanes)
    strides = (problem.x.channel_stride, problem.y.channel_stride) == (1, 1)
    real = problem.x.format == problem.y.format and not problem.x.format.quantized
    whole = steps and strides and not any(sizes) and real
    short = problem.real != HALF or problem.x.channels <= LONGEST_SUM
    return multiplies_by_element(machine) and whole and plain and short


def _is_alike(problem: Conv2d, step: Residual) -> bool:
    return step.view.channel_stride == 1 and step.view.format == problem.x.format


def variants(problem: Conv2d, machine: Machine) -> list[Variant]:
    """Every shape that leaves registers for the factors, and whose transformed tiles stay in the caches."""
    down, across = problem.y.height // _SIDE, problem.y.width // _SIDE
    lanes = machine.lanes_of(problem.x.format)
    a_tile = POSITIONS * problem.x.format.itemsize * (problem.x.channels + problem.y.channels)
    most = max(1, min(_BUFFER_BYTES, machine.l2_bytes // 4) // a_tile)
    blocks = problem.y.channels // lanes
    found = []
    for rows, columns in product(_divisors(down), _divisors(across)):
        if rows * columns > most or (rows > 1 and columns < across):
            continue
        for together, vectors in product(_divisors(rows * columns), _divisors(blocks)):
            if together * (vectors + 1) + 2 <= machine.registers and vectors <= 4:
                found.append(Variant(rows, columns, together, vectors, lanes))
    return found


def _divisors(count: int) -> list[int]:
    return [size for size in range(1, count + 1) if count % size == 0]


def cost(problem: Conv2d, variant: Variant) -> float:
    """Cycles of one run on one core."""
    inputs, outputs = problem.x.channels // variant.lanes, problem.y.channels // variant.lanes
    tiles = problem.pixels / _SIDE**2
    sums = variant.together * variant.vectors
    turn = variant.lanes * sums + variant.together + (variant.lanes * variant.vectors + 1) // 2 + _TURN
    product_of_tile = POSITIONS * outputs / variant.vectors * (inputs * turn + 2 * sums + _TURN) / variant.together
    steps = 4 * _EPILOGUE * (1 + len(problem.epilogue)) / 3
    transforms = inputs * _INPUT + outputs * (_OUTPUT + steps)
    units = tiles / variant.tiles
    return (tiles * (product_of_tile + transforms) + units * _UNIT) / _ISSUE


def cheapest(problem: Conv2d, machine: Machine) -> tuple[float, Variant]:
    """The variant of lowest cost, with its cost; `fits` holds."""
    return min(((cost(problem, variant), variant) for variant in variants(problem, machine)), key=lambda pair: pair[0])
