"""Prints what the pixels convolution reaches at a density of single weights, against ONNX Runtime's dense one.

    python benchmarks/kernel_pixels.py [--density 0.2] [--only TEXT] [--rounds N] [--search N]

Times are minima of alternating rounds on one thread, in microseconds; `GMAC/s` counts the kept weights. --search also
times the N variants that the cost model likes best and prints the fastest.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from sys import path

import numpy as np
from kernel_conv2d import Shape, fastest, onnx_runner, point

path.insert(0, str(Path(__file__).parent.parent / "tests" / "kernels"))
from harness import Compiled, planar, target, window

from edgeprune.kernels.abi import Activation, Kernel, Machine
from edgeprune.kernels.conv2d.pixels import build_pixels, build_variant, estimate_pixels
from edgeprune.kernels.conv2d.pixels_variant import cost, variants
from edgeprune.kernels.conv2d.problem import Conv2d

SHAPES = (
    (Shape(16, 16, 32, 32), 0.2),
    (Shape(32, 32, 16, 16), 0.2),
    (Shape(64, 64, 8, 8), 0.2),
    (Shape(16, 32, 32, 32, stride=2), 0.2),
    (Shape(32, 64, 16, 16, stride=2), 0.2),
    (point(96, 16, 55), 1 / 3),
    (point(16, 64, 55), 1 / 3),
    (Shape(16, 64, 55, 55), 1 / 3),
    (point(256, 32, 27), 1 / 3),
    (point(32, 128, 27), 1 / 3),
    (Shape(32, 128, 27, 27), 1 / 3),
    (point(512, 64, 13), 1 / 3),
    (point(64, 256, 13), 1 / 3),
    (Shape(64, 256, 13, 13), 1 / 3),
    (point(512, 1000, 13), 1 / 3),
)


def machine() -> Machine:
    facts = target()
    return Machine(facts.lanes, facts.vector_registers, facts.l1_bytes, facts.l2_bytes)


def problem_of(shape: Shape) -> tuple[Conv2d, int, int]:
    right = shape.pad + (-(shape.width + 2 * shape.pad) % machine().lanes if shape.pad else 0)
    halo = (shape.pad, shape.pad, shape.pad, right)
    x, x_size = planar(1, shape.inputs, shape.height, shape.width, halo=halo)
    y, y_size = planar(1, shape.outputs, *shape.size)
    pads, strides = (shape.pad,) * 2, (shape.stride,) * 2
    relu = (Activation("Relu"),)
    return Conv2d(x, y, (shape.kernel,) * 2, strides, pads=pads, bias=True, epilogue=relu), x_size, y_size


def aligned(elements: int) -> np.ndarray:
    """Zeros from a cache line on, as in the arena of a compiled model."""
    memory = np.zeros(elements + 16, np.float32)
    start = -memory.ctypes.data % 64 // 4
    return memory[start : start + elements]


def runner(kernel: Kernel, x: np.ndarray, y: np.ndarray) -> Callable[[], object]:
    return Compiled(kernel).prepared([x], y)


def measure(shape: Shape, density: float, rounds: int, search: int) -> None:
    random = np.random.default_rng(0)
    weights = random.standard_normal((1, shape.kernel**2, shape.inputs, shape.outputs), np.float32)
    sparse = np.where(random.random(weights.shape) < density, weights, np.float32(0))
    bias = random.standard_normal(shape.outputs, np.float32)
    problem, x_size, y_size = problem_of(shape)
    x, y = aligned(x_size), aligned(y_size)
    window(x, problem.x)[:] = random.standard_normal((1, shape.inputs, shape.height, shape.width), np.float32)
    kept = int(np.count_nonzero(sparse))
    ranked = sorted(variants(problem, machine()), key=lambda variant: cost(problem, variant, kept, machine()))
    kernels = [build_pixels(problem, sparse, bias, machine())]
    kernels += [build_variant(problem, sparse, bias, variant) for variant in ranked[1:search]]
    image = np.ascontiguousarray(window(x, problem.x))
    runs = [onnx_runner(shape, weights, bias, image), *(runner(kernel, x, y) for kernel in kernels)]
    peer, *times = fastest(runs, 0.2, rounds)
    estimate = estimate_pixels(problem, sparse, machine())
    line = f"{shape!s:22} {density:5.2f} {peer * 1e6:9.1f} {times[0] * 1e6:9.1f} {peer / times[0]:6.2f}x"
    line += f" {kernels[0].macs / times[0] / 1e9:7.1f} {estimate / times[0] / 1e9:6.2f}  {kernels[0].label}"
    best = int(np.argmin(times))
    print(line + (f"  best {times[best] * 1e6:.1f} {kernels[best].label}" if best else ""), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--density", type=float)
    parser.add_argument("--only", default="")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--search", type=int, default=1)
    options = parser.parse_args()
    print(f"{'layer':22} {'kept':>5} {'ort':>9} {'pixels':>9} {'ratio':>7} {'GMAC/s':>7} {'est/ns':>6}  variant")
    for shape, density in SHAPES:
        if options.only in str(shape):
            measure(shape, options.density or density, options.rounds, options.search)


if __name__ == "__main__":
    main()
