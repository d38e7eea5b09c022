"""Prints what the integer convolution reaches, layer by layer, beside the float32 one.

    python benchmarks/kernel_integer.py [--pattern dense 4x16:0.5 1x16:0.25 2:4] [--only TEXT] [--rounds N] [--search N]

Times are minima of alternating rounds on one thread, in microseconds, less the cost of an empty call from Python.
`GMAC/s` counts kept weights and `limit` is their share of what two multiplies a cycle allow at the clock speed of the
first line; `float` is the float32 kernel on the same zeros, `ratio` how many times faster the integers are. A pattern
is a block and the share of blocks that is kept, or n:m along the inputs.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import numpy as np
from kernel_conv2d import Shape, fastest, linear, measured_gigahertz, point, problem_of
from kernel_conv2d import machine as float_machine

from edgeprune.kernels.abi import Activation, Format, Machine, Residual
from edgeprune.kernels.conv2d.channels import build_channels
from edgeprune.kernels.conv2d.problem import Conv2d
from edgeprune.kernels.integer.integer import SLACK_BYTES, build_variant, choose, estimate_variant, variants

# isort: split
from harness import Compiled, window

SHAPES = (
    Shape(3, 16, 32, 32),
    Shape(16, 16, 32, 32),
    Shape(16, 32, 32, 32, stride=2),
    Shape(32, 32, 16, 16),
    Shape(32, 64, 16, 16, stride=2),
    Shape(64, 64, 8, 8),
    point(8, 16, 48),
    point(16, 32, 24),
    point(32, 64, 24),
    point(64, 64, 12),
    point(128, 128, 12),
    point(128, 256, 6),
    point(256, 256, 10),
    point(512, 512, 5),
    Shape(3, 32, 160, 160, stride=2),
    Shape(128, 128, 28, 28),
    linear(64, 10, 1),
    linear(512, 1000, 1),
)


def machine() -> Machine:
    return replace(float_machine(), dot="pairs")


def pruned(shape: Shape, pattern: str, rng: np.random.Generator) -> np.ndarray:
    """Weights [1, taps, in, out] of -127..127, none zero but those that `pattern` removes."""
    size = (1, shape.kernel**2, shape.inputs, shape.outputs)
    weights = rng.integers(1, 127, size, endpoint=True) * rng.choice([-1, 1], size)
    if pattern == "dense":
        return weights.astype(np.int16)
    if ":" in pattern and "x" not in pattern:
        kept, of = (int(part) for part in pattern.split(":"))
        places = -(-shape.inputs // of)
        order = rng.random((1, size[1], places, of, shape.outputs)).argsort(3).argsort(3)
        mask = (order < kept).reshape(1, size[1], places * of, shape.outputs)[:, :, : shape.inputs]
        return (weights * mask).astype(np.int16)
    block, _, density = pattern.partition(":")
    down, across = (int(part) for part in block.split("x"))
    blocks = (1, size[1], -(-shape.inputs // down), -(-shape.outputs // across))
    count = int(np.prod(blocks))
    mask = np.zeros(count, bool)
    mask[rng.permutation(count)[: max(1, round(count * float(density)))]] = True
    mask = mask.reshape(blocks).repeat(down, 2).repeat(across, 3)[:, :, : shape.inputs, : shape.outputs]
    return (weights * mask).astype(np.int16)


def integer_problem(shape: Shape) -> tuple[Conv2d, int, int]:
    problem, x_size, y_size = problem_of(shape)
    x, y = Format("int16", 0.05, 0, -128, 127), Format("int16", 0.05, 0, -128, 127)
    quantized = replace(problem, x=replace(problem.x, format=x), y=replace(problem.y, format=y))
    return quantized, x_size + SLACK_BYTES // x.itemsize, y_size


def report(shape: Shape, pattern: str, options: argparse.Namespace) -> None:
    rng = np.random.default_rng(1)
    problem, x_size, y_size = integer_problem(shape)
    if options.residual:
        problem = replace(problem, epilogue=(Residual(problem.y), Activation("Relu")))
    weights = pruned(shape, pattern, rng)
    x, y = np.zeros(x_size, np.int16), np.zeros(y_size, np.int16)
    added = [np.zeros(y_size, np.int16)] if options.residual else []
    window(x, problem.x)[:] = rng.integers(-128, 127, window(x, problem.x).shape)
    scales, bias = np.full(shape.outputs, 1e-3, np.float32), np.zeros(shape.outputs, np.int32)
    chosen = choose(problem, weights, machine())
    kernel = build_variant(problem, weights, scales, bias, chosen)
    run = Compiled(kernel).prepared([x, *added], y)
    plain, size, _ = problem_of(shape)
    rival = build_channels(plain, weights.astype(np.float32), bias.astype(np.float32), float_machine())
    peer = Compiled(rival).prepared([np.zeros(size, np.float32)], np.zeros(y_size, np.float32))
    empty = Compiled(kernel).prepared([x, *added], y, 0, 0)
    ours, other, overhead = fastest([run, peer, empty], options.seconds, options.rounds)
    ours, other = ours - overhead, other - overhead
    kept = np.count_nonzero(weights)
    rate = kept * problem.pixels / ours / 1e9
    limit = 4 * machine().lanes * options.gigahertz
    cycles = estimate_variant(problem, weights, chosen, machine())
    size = sum(constant.nbytes for constant in kernel.constants) / kept
    times = f"{1e6 * ours:9.2f} {1e6 * cycles / options.gigahertz / 1e9:9.2f}"
    rates = f"{rate:7.1f} {rate / limit:5.2f} {1e6 * other:9.2f} {other / ours:5.2f} {size:5.2f}"
    print(f"{shape!s:22} {pattern:10} {times} {rates}  {chosen}", flush=True)
    if options.search:
        search(problem, weights, scales, bias, [x, *added], y, options)


def search(problem, weights, scales, bias, inputs, y, options) -> None:
    found = sorted(
        variants(problem, weights, machine()), key=lambda v: estimate_variant(problem, weights, v, machine())
    )[: options.search]
    runs = [Compiled(build_variant(problem, weights, scales, bias, v)).prepared(inputs, y) for v in found]
    times = fastest(runs, options.seconds * 2, options.rounds)
    for seconds, variant in sorted(zip(times, found, strict=True), key=lambda pair: pair[0])[:8]:
        cycles = estimate_variant(problem, weights, variant, machine())
        print(f"      {1e6 * seconds:9.2f} {1e6 * cycles / options.gigahertz / 1e9:9.2f}  {variant}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pattern", nargs="+", default=["dense", "4x16:0.5", "4x16:0.25", "1x16:0.25", "2:4"])
    parser.add_argument("--only", default="")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=0.2)
    parser.add_argument("--gigahertz", type=float, help="clock speed; measured where not given")
    parser.add_argument("--search", type=int, default=0, help="also time this many variants")
    parser.add_argument("--residual", action="store_true", help="add a residual before the activation")
    options = parser.parse_args()
    options.gigahertz = options.gigahertz or measured_gigahertz()
    print(f"{machine().lanes} lanes, {machine().dot}, at {options.gigahertz:.2f} GHz")
    columns = f"{'us':>9} {'estimate':>9} {'GMAC/s':>7} {'limit':>5} {'float us':>9} {'ratio':>5} {'bytes':>5}"
    print(f"{'layer':22} {'pattern':10} {columns}  variant")
    for shape in SHAPES:
        if options.only in str(shape):
            for pattern in options.pattern:
                report(shape, pattern, options)


if __name__ == "__main__":
    main()
