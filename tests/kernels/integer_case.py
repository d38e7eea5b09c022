"""Problems for the integer convolution, with their data and what numpy makes of them."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
from harness import Compiled, channels_last, planar, window
from hypothesis import strategies as st

from edgeprune.kernels.abi import FLOAT32, Activation, Format, Machine, Residual, Rounded
from edgeprune.kernels.conv2d.problem import Conv2d
from edgeprune.kernels.integer.dot import IDIOMS
from edgeprune.kernels.integer.integer import SLACK_BYTES, build_integer
from edgeprune.kernels.integer.reference import convolve_integer

MACHINES = {
    "sse": Machine(4, 16, 32768, 262144, "pairs"),
    "avx2": Machine(8, 16, 32768, 524288, "pairs"),
    "generic": Machine(4, 16, 32768, 262144, "generic"),
    "generic8": Machine(8, 16, 32768, 262144, "generic"),
    "bytes": Machine(8, 16, 32768, 524288, "bytes"),
    "bytes4": Machine(4, 16, 32768, 524288, "bytes"),
}
"""What runs here: `bytes` stands for vnni, with the same packing and the same code around its product."""

PAIRS = Format("int16", 0.043, 0, -128, 127)
BYTES = Format("uint8", 0.043, 117, 0, 255)
SIGNED = Format("int8", 0.043, -11, -128, 127)
STORED = (
    FLOAT32,
    Format("int16", 0.37, 0, -100, 155),
    Format("uint8", 0.52, 3, 0, 255),
    Format("int8", 0.7, -9, -128, 127),
)


def storage_of(machine: Machine) -> Format:
    return {"uint8": BYTES, "int8": SIGNED, "int16": PAIRS}[IDIOMS[machine.dot].storage]


def filled(format: Format, size: int, rng: np.random.Generator) -> np.ndarray:
    if not format.quantized:
        return rng.normal(size=size).astype(np.float32)
    return rng.integers(format.low, format.high, size, endpoint=True).astype(format.dtype)


class Case:
    """A problem with its data; output channels are a slice of a wider buffer whose other cells must stay."""

    def __init__(
        self, problem: Conv2d, sizes: tuple[int, ...], density: float, block: tuple[int, int], widest: int, seed: int
    ) -> None:
        rng = np.random.default_rng(seed)
        self.problem = problem
        format = problem.x.format
        slack = np.full(SLACK_BYTES // format.itemsize, format.high, format.dtype)
        self.x = np.concatenate([np.full(sizes[0], format.zero, format.dtype), slack])
        view = window(self.x, problem.x)
        view[:] = filled(format, view.size, rng).reshape(view.shape)
        views = [step.view for step in problem.epilogue if isinstance(step, Residual)]
        behind = SLACK_BYTES // 2
        self.added = [filled(view.format, size + behind, rng) for view, size in zip(views, sizes[2:], strict=True)]
        self.views = views
        self.y = np.full(sizes[1], 77, problem.y.format.dtype)
        groups, taps, inputs, outputs = (problem.groups, problem.taps, problem.group_inputs, problem.group_outputs)
        values = rng.integers(-widest, widest, (groups, taps, inputs, outputs), endpoint=True)
        kept = rng.random((groups, taps, -(-inputs // block[0]), -(-outputs // block[1]))) < density
        kept = kept.repeat(block[0], 2).repeat(block[1], 3)[:, :, :inputs, :outputs]
        self.weights = (values * kept).astype(np.int16)
        self.scales = rng.uniform(1e-4, 2e-3, groups * outputs).astype(np.float32)
        self.bias = rng.integers(-5000, 5000, groups * outputs).astype(np.int32) if problem.bias else None

    def build(self, machine: Machine, channel_offsets: np.ndarray | None = None):
        return build_integer(self.problem, self.weights, self.scales, self.bias, machine, channel_offsets)

    def expected(self, fused: bool, channel_order: np.ndarray | None = None) -> np.ndarray:
        x = window(self.x, self.problem.x)
        x = x if channel_order is None else x[:, channel_order]
        added = [window(a, view) for a, view in zip(self.added, self.views, strict=True)]
        return convolve_integer(self.problem, x, self.weights, self.scales, self.bias, added, fused)

    def check(
        self, kernel, fused=True, channel_order=None, cuts: tuple[int, ...] = (), exact: bool = True, compiled=Compiled
    ) -> None:
        run = compiled(kernel)
        bounds = sorted({0, kernel.units, *(cut % (kernel.units + 1) for cut in cuts)})
        for begin, end in reversed(list(pairwise(bounds))):
            run([self.x, *self.added], self.y, begin, end)
        expected, found = self.expected(fused, channel_order), window(self.y, self.problem.y)
        if exact:
            np.testing.assert_array_equal(found, expected)
        else:
            np.testing.assert_allclose(found.astype(np.float64), expected.astype(np.float64), rtol=1e-5, atol=1.0)
        window(self.y, self.problem.y)[:] = 77
        assert (self.y == 77).all(), "the kernel wrote outside its output"


def make(
    *, machine=MACHINES["avx2"], batch=1, inputs=8, outputs=16, height=9, width=11, kernel=(3, 3), strides=(1, 1),
    dilations=(1, 1), pads=(1, 1), groups=1, bias=True, steps=(), density=1.0, block=(1, 1), around=(0, 0),
    planar_input=False, planar_output=False, stored=STORED[1], widest=127, seed=0,
) -> Case:  # fmt: skip
    span = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    size = [max(1, (n + 2 * p - s) // t + 1) for n, p, s, t in zip((height, width), pads, span, strides, strict=True)]
    reach = [(o - 1) * t + s - p - n for o, t, s, p, n in zip(size, strides, span, pads, (height, width), strict=True)]
    halo = (pads[0], pads[1], max(0, reach[0]), max(0, reach[1]))
    x, x_size = (planar if planar_input else channels_last)(batch, inputs, height, width, halo=halo)
    if planar_output:
        y, y_size = planar(batch, outputs, *size, halo=(1, 0, 0, 1))
    else:
        y, y_size = channels_last(batch, outputs, *size, halo=(0, 1, 1, 0), around=around)
    epilogue, sizes = [], [x_size, y_size]
    for step in steps:
        if isinstance(step, Format):
            view, elements = channels_last(batch, outputs, *size, around=(1, 2))
            epilogue.append(Residual(replace(view, format=step)))
            sizes.append(elements)
        else:
            epilogue.append(step)
    x, y = replace(x, format=storage_of(machine)), replace(y, format=stored)
    problem = Conv2d(x, y, kernel, strides, dilations, pads, groups, bias, tuple(epilogue))
    assert problem.halo() == halo
    return Case(problem, tuple(sizes), density, block, widest, seed)


STEPS = (*STORED, Activation("Relu"), Activation("Clip", -1, 2), Activation("Clip", 0, 6), Rounded(STORED[2]))


@st.composite
def cases(draw, machine: Machine) -> Case:
    groups = draw(st.sampled_from([1, 1, 1, 2, 3]))
    small = st.integers(1, 3)
    return make(
        machine=machine,
        batch=draw(st.sampled_from([1, 1, 2])),
        inputs=groups * draw(st.integers(1, 18)),
        outputs=groups * draw(st.integers(1, 45)),
        height=draw(st.integers(1, 13)),
        width=draw(st.integers(1, 15)),
        kernel=(draw(small), draw(small)),
        strides=(draw(small), draw(small)),
        dilations=(draw(small), draw(small)),
        pads=(draw(st.integers(0, 2)), draw(st.integers(0, 2))),
        groups=groups,
        bias=draw(st.booleans()),
        steps=draw(st.lists(st.sampled_from(STEPS), max_size=3)),
        density=draw(st.sampled_from([0.0, 0.1, 0.5, 1.0])),
        block=draw(st.sampled_from([(1, 1), (1, 16), (2, 8), (4, 16)])),
        around=draw(st.sampled_from([(0, 0), (3, 5), (0, 7)])),
        planar_input=draw(st.booleans()),
        planar_output=draw(st.booleans()),
        stored=draw(st.sampled_from(STORED)),
        widest=draw(st.sampled_from([127, 255])),
        seed=draw(st.integers(0, 9)),
    )
