"""int8 convolution and linear layers in integers against numpy, bit for bit, on the host and on an emulated core."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from board_harness import BoardKernel, core
from forms import check, image_view, int8, machine, on_board, on_host
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeprune.kernels.abi import Kernel, Machine
from edgeprune.kernels.conv2d.problem import Conv2d
from edgeprune.kernels.fixed_point.arithmetic import Requantize
from edgeprune.kernels.fixed_point.product import build_fixed_product, build_loop, build_plain, estimate_fixed_product
from edgeprune.kernels.fixed_point.product_loop import Loop
from edgeprune.kernels.fixed_point.product_overlap import product_overlap
from edgeprune.kernels.fixed_point.product_variant import loops
from edgeprune.kernels.fixed_point.reference import product_reference


@dataclass(frozen=True)
class Case:
    """A product with its numbers and an input."""

    problem: Conv2d
    weights: np.ndarray
    bias: np.ndarray | None
    requantize: Requantize
    image: np.ndarray

    def build(self, machine: Machine) -> Kernel:
        return build_fixed_product(self.problem, self.weights, self.bias, self.requantize, machine)

    def build_loop(self, loop: Loop, shared: bool = False) -> Kernel:
        return build_loop(self.problem, self.weights, self.bias, self.requantize, loop, shared)

    @property
    def want(self) -> np.ndarray:
        return product_reference(self.problem, self.image, self.weights, self.bias, self.requantize)


def make(
    shape: tuple[int, int, int, int],
    outputs: int,
    kernel: tuple[int, int] = (1, 1),
    strides: tuple[int, int] = (1, 1),
    dilations: tuple[int, int] = (1, 1),
    groups: int = 1,
    pads: tuple[int, int, int, int] = (0, 0, 0, 0),
    density: float = 1.0,
    block: tuple[int, int] = (4, 2),
    zeros: tuple[int, int] = (-128, 3),
    bounds: tuple[int, int] = (-128, 127),
    bias: bool = True,
    widest: int = 127,
    factor: float | None = None,
    seed: int = 0,
) -> Case:
    """`shape` is (batch, height, width, channels), `pads` top, left, bottom, right."""
    generator, inputs, taps = np.random.default_rng(seed), shape[3] // groups, kernel[0] * kernel[1]
    size = [
        (shape[a + 1] + pads[a] + pads[a + 2] - (kernel[a] - 1) * dilations[a] - 1) // strides[a] + 1 for a in (0, 1)
    ]
    x = image_view(shape, int8(zero=zeros[0]))
    y = image_view((shape[0], *size, outputs * groups), int8(zero=zeros[1]))
    problem = Conv2d(x, y, kernel, strides, dilations, pads[:2], groups, bias)
    kept = generator.random((groups, -(-taps * inputs // block[0]), -(-outputs // block[1]))) < density
    mask = kept.repeat(block[0], 1).repeat(block[1], 2)[:, : taps * inputs, :outputs]
    weights = generator.integers(-widest, widest + 1, (groups, taps * inputs, outputs)) * mask
    real = factor or 0.02 / np.sqrt(taps * inputs)
    requantize = Requantize.of(generator.uniform(0.3, 2, outputs * groups) * real, zeros[1], *bounds)
    return Case(
        problem,
        weights.reshape(groups, taps, inputs, outputs).astype(np.int8),
        generator.integers(-3000, 3000, outputs * groups).astype(np.int32) if bias else None,
        requantize,
        generator.integers(-128, 128, shape).astype(np.int8),
    )


LAYERS: dict[str, dict[str, Any]] = {
    "small input channels": {"shape": (1, 9, 8, 3), "outputs": 8, "kernel": (3, 3), "pads": (1, 1, 1, 1)},
    "stride two": {"shape": (1, 9, 12, 8), "outputs": 6, "kernel": (3, 3), "strides": (2, 2), "pads": (0, 1, 1, 1)},
    "one input channel": {"shape": (1, 19, 7, 1), "outputs": 4, "kernel": (10, 4), "strides": (2, 2),
                          "pads": (4, 1, 5, 1)},
    "pointwise": {"shape": (1, 5, 5, 32), "outputs": 12},
    "pointwise with steps": {"shape": (2, 5, 6, 16), "outputs": 5, "strides": (2, 2)},
    "linear": {"shape": (1, 1, 1, 64), "outputs": 10},
    "linear of few rows": {"shape": (1, 1, 3, 37), "outputs": 7},
    "groups": {"shape": (1, 4, 5, 12), "outputs": 3, "kernel": (2, 3), "groups": 3, "pads": (1, 1, 0, 1)},
    "odd runs": {"shape": (1, 6, 6, 5), "outputs": 3, "kernel": (2, 2), "dilations": (2, 3), "pads": (1, 2, 1, 2)},
    "many odd inputs": {"shape": (2, 3, 3, 30), "outputs": 2, "kernel": (3, 2), "pads": (1, 1, 1, 0)},
    "an image smaller than its kernel": {"shape": (1, 2, 2, 4), "outputs": 4, "kernel": (5, 5), "pads": (2, 2, 2, 2)},
}  # fmt: skip


@pytest.mark.parametrize(("name", "density"), [*zip(LAYERS, [1.0, 0.4] * 6, strict=False)])
def test_layers(name: str, density: float) -> None:
    case = make(**LAYERS[name], density=density, seed=len(name))
    check(case.build, [case.image], case.want)


@pytest.mark.parametrize(("size", "outputs"), [((1, 3, 3, 25), 31), ((1, 6, 6, 57), 30)])
def test_code_that_a_layer_before_has_is_taken_again(size: tuple[int, int, int, int], outputs: int) -> None:
    first, second = make((1, 6, 6, 106), 57), make(size, outputs)
    known: set[Any] = set()
    kernels = [
        build_fixed_product(case.problem, case.weights, case.bias, case.requantize, machine("smlad"), known)
        for case in (first, second)
    ]
    alone = second.build(machine("smlad"))
    assert kernels[0].func is kernels[1].func is not alone.func and len(known) == 1
    on_board(kernels[1], [second.image], second.want)


@settings(max_examples=3, derandomize=True)
@given(st.data())
def test_any_problem(data: Any) -> None:
    small, pair = st.integers(1, 3), st.tuples(st.integers(1, 3), st.integers(1, 3))
    kernel, dilations, groups = data.draw(pair), data.draw(pair), data.draw(small)
    reach = [(kernel[a] - 1) * dilations[a] for a in (0, 1)]
    pads = tuple(data.draw(st.integers(0, reach[i % 2])) for i in range(4))
    size = [max(1, reach[a] + 1 - pads[a] - pads[a + 2]) + data.draw(st.integers(0, 5)) for a in (0, 1)]
    case = make(
        (data.draw(st.integers(1, 2)), *size, groups * data.draw(st.integers(1, 9))),
        data.draw(st.integers(1, 9)),
        kernel,
        data.draw(pair),
        dilations,
        groups,
        pads,  # type: ignore[arg-type]
        data.draw(st.sampled_from([0.0, 0.3, 1.0])),
        data.draw(st.sampled_from([(4, 1), (4, 2), (1, 1)])),
        (data.draw(st.integers(-128, 127)), data.draw(st.integers(-128, 127))),
        data.draw(st.sampled_from([(-128, 127), (-3, 127), (-128, 40)])),
        data.draw(st.booleans()),
        seed=data.draw(st.integers(0, 99)),
    )
    check(case.build, [case.image], case.want)


@pytest.mark.parametrize("tile", [(2, 4, 1), (1, 8, 2), (2, 3, 3), (4, 1, 4), (1, 1, 5), (2, 4, 7)])
def test_loops(tile: tuple[int, int, int]) -> None:
    case = make((1, 3, 7, 10), 9, (2, 2), density=0.5, factor=0.004)
    on_board(case.build_loop(Loop(*tile, False, tile[1] > 3)), [case.image], case.want)


@pytest.mark.parametrize("tile", [(2, 4, 4), (1, 8, 8), (2, 3, 8), (4, 1, 4), (1, 1, 8), (2, 2, 4)])
@pytest.mark.parametrize("density", [0.0, 0.06, 0.7])
def test_loops_that_skip(tile: tuple[int, int, int], density: float) -> None:
    case = make((1, 2, 7, 50), 9, (2, 2), density=density, pads=(0, 0, 0, 3), factor=0.004)
    on_board(case.build_loop(Loop(*tile, True, tile[1] != 3)), [case.image], case.want)


LINES: dict[str, dict[str, Any]] = {
    "three taps": {"shape": (1, 4, 9, 8), "outputs": 4, "kernel": (3, 3), "pads": (1, 1, 1, 1)},
    "stride two": {"shape": (2, 7, 16, 4), "outputs": 3, "kernel": (3, 3), "strides": (2, 2), "pads": (0, 0, 1, 1)},
    "stride beyond the kernel": {"shape": (1, 7, 17, 12), "outputs": 2, "strides": (3, 3)},
    "dilations": {"shape": (1, 7, 13, 4), "outputs": 4, "kernel": (2, 3), "strides": (1, 2), "dilations": (3, 3),
                  "pads": (1, 4, 2, 5)},
    "groups": {"shape": (1, 3, 6, 16), "outputs": 2, "kernel": (3, 2), "groups": 2, "pads": (2, 1, 2, 0)},
    "many channels": {"shape": (1, 2, 4, 76), "outputs": 3, "kernel": (2, 2), "pads": (0, 0, 1, 1)},
}  # fmt: skip


@pytest.mark.parametrize(("name", "sparse"), [*zip(LINES, [True, False] * 3, strict=True)])
def test_inputs_in_lines(name: str, sparse: bool) -> None:
    case = make(**LINES[name], density=0.5, factor=0.004)
    found = [loop for loop in loops(case.problem, packed=True) if loop.line and loop.sparse == sparse]
    chosen = np.random.default_rng(len(name)).choice(len(found), 3, replace=False)
    for number, loop in enumerate(found[i] for i in chosen):
        kernel = case.build_loop(replace(loop, packed=number > 0))
        on_board(kernel, [case.image], case.want)


@pytest.mark.parametrize("name", LINES)
def test_shared_code(name: str) -> None:
    case = make(**LINES[name], density=0.5, factor=0.004)
    kept = [Loop(1, 8, 8, True), Loop(2, 3, 1, False), Loop(1, 5, 4, True, packed=False), Loop(2, 4, 4, True)]
    for loop in kept[len(name) % 2 :: 2]:
        on_board(case.build_loop(loop, shared=True), [case.image], case.want)


@pytest.mark.parametrize("inputs", [5, 6, 11])
def test_shared_code_for_channels_that_are_not_whole_blocks(inputs: int) -> None:
    case = make((2, 3, 5, inputs), 5, density=0.7, factor=0.004)
    for loop in (Loop(2, 4, 2, False), Loop(1, 8, 4, True, packed=False)):
        on_board(case.build_loop(loop, shared=True), [case.image], case.want)
    pairs = make((1, 3, 5, 2 * inputs), 3, groups=2, factor=0.004)
    on_board(pairs.build_loop(Loop(2, 4, 1, False), shared=True), [pairs.image], pairs.want)


def test_sizes_and_weights_beyond_16_bits() -> None:
    far = make((1, 1, 2, 33_000), 3, widest=1, density=0.3, factor=0.0003)
    for loop in (Loop(2, 2, 4, False), Loop(1, 2, 8, True, packed=False)):
        on_board(far.build_loop(loop, shared=True), [far.image], far.want)


def test_layers_of_other_sizes_have_the_same_code() -> None:
    kernels = [
        make(shape, outputs, kernel, strides, pads=pads).build(machine("smlad"))
        for shape, outputs, kernel, strides, pads in (
            ((1, 6, 6, 32), 32, (3, 3), (1, 1), (1, 1, 1, 1)),
            ((1, 8, 4, 48), 18, (3, 3), (2, 2), (0, 0, 1, 1)),
            ((2, 7, 3, 64), 16, (1, 1), (2, 2), (0, 0, 0, 0)),
        )
    ]
    assert all("shared" in kernel.label for kernel in kernels)
    assert len({id(kernel.func) for kernel in kernels}) == 1


def test_weights_and_sums_too_wide_to_pack() -> None:
    case = make((1, 3, 4, 8), 4, (3, 3), pads=(1, 1, 1, 1), widest=128)
    assert (case.weights == -128).any() and "plain" in case.build(machine("smlad")).label
    check(case.build, [case.image], case.want)
    wide = make((1, 1, 4, 2000), 2, factor=0.0001)
    assert "2x4" in wide.build(machine("smlad")).label and "dense plain" in wide.build(machine("smlad")).label
    check(wide.build, [wide.image], wide.want)


@pytest.mark.parametrize("factor", [200.0, 0.7, 1e-6, 1e-9])
def test_factors_of_any_size(factor: float) -> None:
    case = make((1, 2, 3, 8), 5, factor=factor)
    check(case.build, [case.image], case.want)


def test_channels_without_weights_and_long_gaps() -> None:
    case = make((1, 1, 4, 4 * 600), 4, density=0.01, block=(4, 4))
    case.weights[..., :2] = 0
    case.weights[0, 0, 4 * 590, 2] = 5
    check(case.build, [case.image], case.want)
    empty = make((1, 1, 4, 16), 4, density=0.0)
    check(empty.build, [empty.image], empty.want)


def test_other_cores() -> None:
    case = make((1, 5, 6, 8), 5, density=0.6)
    for cpu in ("cortex-m3", "cortex-m7"):
        on_board(case.build(machine(core(cpu).dot)), [case.image], case.want, cpu)


def test_units_in_parts() -> None:
    case = make((1, 5, 6, 8), 6, (3, 3), pads=(1, 1, 1, 1))
    kernel, found = case.build(machine("smlad")), np.zeros_like(case.want)
    board = BoardKernel(kernel, core("cortex-m4"))
    for begin, end in ((0, 3), (3, 4), (4, kernel.units)):
        part = found.copy()
        board([case.image], part, begin, end)
        found = np.where(part != found, part, found)
    np.testing.assert_array_equal(found, case.want)


@pytest.mark.parametrize("name", ["pointwise", "pointwise with steps", "groups", "stride two"])
def test_overlap_is_the_largest(name: str) -> None:
    case = make(**LAYERS[name], factor=0.0004)
    kernel = build_plain(case.problem, case.weights, case.bias, case.requantize)
    (distance,) = kernel.overlaps
    assert distance is not None
    generator, spoilt = np.random.default_rng(1), False
    for _ in range(20):
        image = generator.integers(-128, 128, case.image.shape).astype(np.int8)
        want = replace(case, image=image).want
        np.testing.assert_array_equal(written_over(kernel, image, want, distance), want)
        spoilt = spoilt or bool((written_over(kernel, image, want, distance + 1) != want).any())
    assert spoilt


def written_over(kernel: Kernel, image: np.ndarray, want: np.ndarray, distance: int) -> np.ndarray:
    """The output, where it begins `distance` bytes after the input."""
    margin = want.size + abs(distance)
    room = np.zeros(2 * margin + image.size + want.size, np.int8)
    inputs, output = room[margin:][: image.size], room[margin + distance :][: want.size]
    inputs[:] = image.ravel()
    on_host(kernel, [inputs], output)
    return output.reshape(want.shape)


def test_overlap_of_tiles_by_brute_force() -> None:
    generator = np.random.default_rng(0)
    for _ in range(8):
        kernel, strides, pads = (tuple(generator.integers(low, 4, 2)) for low in (1, 1, 0))
        groups = int(generator.integers(1, 3))
        shape = (int(generator.integers(1, 3)), *generator.integers(4, 7, 2), groups * int(generator.integers(1, 4)))
        pads = tuple(min(p, k - 1) for p, k in zip(pads, kernel, strict=True))
        problem = make(shape, int(generator.integers(1, 4)), kernel, strides, groups=groups, pads=(*pads, 0, 0)).problem
        pixels = min(int(generator.integers(1, 5)), problem.pixels)
        assert product_overlap(problem, pixels) == traced(problem, pixels)


def traced(problem: Conv2d, pixels: int) -> int:
    """The largest distance, by following every read and write."""
    x, y = problem.x, problem.y
    reads: list[set[int]] = []
    writes: list[set[int]] = []
    for unit in range(-(-problem.pixels // pixels)):
        start = min(unit * pixels, problem.pixels - pixels)
        for group in range(problem.groups):
            read, written = set(), set()
            for pixel in range(start, start + pixels):
                image, row, column = np.unravel_index(pixel, (y.batch, y.height, y.width))
                for tap in range(problem.taps):
                    down, right = divmod(tap, problem.kernel[1])
                    at = row * problem.strides[0] - problem.pads[0] + down * problem.dilations[0]
                    beside = column * problem.strides[1] - problem.pads[1] + right * problem.dilations[1]
                    if 0 <= at < x.height and 0 <= beside < x.width:
                        first = ((image * x.height + at) * x.width + beside) * x.channels + group * problem.group_inputs
                        read |= set(range(first, first + problem.group_inputs))
                first = pixel * y.channels + group * problem.group_outputs
                written |= set(range(first, first + problem.group_outputs))
            reads.append(read)
            writes.append(written)
    distance, size = -1000, x.batch * x.height * x.width * x.channels
    while distance < size and all(
        min(set().union(*reads[i + 1 :]), default=10**6) > max(set().union(*writes[: i + 1])) + distance + 1
        for i in range(len(reads))
    ):
        distance += 1
    return distance


def test_estimates_fall_with_the_weights() -> None:
    cost = {
        density: [
            estimate_fixed_product(case.problem, case.weights, machine(dot)) / case.problem.dense_macs
            for dot in ("smlad", "mla")
        ]
        for density in (1.0, 0.5, 0.25)
        for case in [make((1, 8, 8, 64), 64, (3, 3), pads=(1, 1, 1, 1), density=density)]
    }
    assert cost[1.0][0] < 0.85 and cost[0.5][0] < 0.55 and cost[0.25][0] < 0.32
    assert cost[1.0][1] > 1.7 * cost[0.5][1] > 2.5 * cost[0.25][1]


def test_the_estimate_is_what_is_counted() -> None:
    small = make((1, 21, 10, 1), 32, (10, 4), (2, 2))
    for case in (small, make((1, 6, 6, 32), 32), make((1, 6, 6, 16), 16, (3, 3), density=0.5)):
        kernel = case.build(machine("smlad"))
        run = BoardKernel(kernel, core("cortex-m4"))([case.image], np.empty_like(case.want))
        assert run.instructions == pytest.approx(kernel.cycles, rel=0.1)


def test_images_with_borders_and_biases_too_large_are_refused() -> None:
    case = make((1, 3, 4, 8), 4, (3, 3))
    with pytest.raises(ValueError, match="leaves int32"):
        Case(case.problem, case.weights, np.full(4, 2**31 - 1, np.int32), case.requantize, case.image).build(
            machine("smlad")
        )
    bordered = Conv2d(replace(case.problem.x, row_stride=40), case.problem.y, (3, 3))
    with pytest.raises(ValueError, match="channels-last and dense"):
        build_fixed_product(bordered, case.weights, case.bias, case.requantize, machine("smlad"))
