"""Prints what the channels convolution reaches, layer by layer, against ONNX Runtime's dense one.

    python benchmarks/kernel_conv2d.py [--density 1 0.25 0.125] [--only TEXT] [--rounds N] [--search]

Times are minima of alternating rounds on one thread, in microseconds; ours leave out the cost of an empty call from
Python, ONNX Runtime's are those of a bound session of one node. `peak` is the share of two multiply-adds a cycle that
the kept weights use, at the clock speed of the first line; `share` is time over kept share x dense time.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from sys import path

import numpy as np
import onnx
import onnxruntime

path.insert(0, str(Path(__file__).parent.parent / "tests" / "kernels"))
from harness import Compiled, channels_last, target, window

from edgeprune.kernels.abi import Activation, Machine
from edgeprune.kernels.conv2d.channels import build_variant, choose, estimate, variants
from edgeprune.kernels.conv2d.problem import Conv2d


@dataclass(frozen=True)
class Shape:
    inputs: int
    outputs: int
    height: int
    width: int
    kernel: int = 3
    stride: int = 1
    pad: int = 1
    batch: int = 1

    def __str__(self) -> str:
        size = f"{self.kernel}x{self.kernel}" + (f" s{self.stride}" if self.stride > 1 else "")
        return f"{size} {self.inputs}->{self.outputs} @{self.height}x{self.width}" + (
            f" b{self.batch}" if self.batch > 1 else ""
        )

    @property
    def size(self) -> tuple[int, int]:
        return tuple((n + 2 * self.pad - self.kernel) // self.stride + 1 for n in (self.height, self.width))


def point(inputs: int, outputs: int, side: int) -> Shape:
    return Shape(inputs, outputs, side, side, 1, 1, 0)


def linear(inputs: int, outputs: int, batch: int) -> Shape:
    return Shape(inputs, outputs, 1, 1, 1, 1, 0, batch)


SHAPES = (
    Shape(16, 16, 32, 32),
    Shape(32, 32, 16, 16),
    Shape(64, 64, 8, 8),
    Shape(16, 32, 32, 32, stride=2),
    Shape(32, 64, 16, 16, stride=2),
    Shape(3, 16, 32, 32),
    Shape(3, 96, 227, 227, 7, 2, 0),
    point(64, 16, 55),
    point(16, 64, 55),
    Shape(16, 64, 55, 55),
    Shape(32, 128, 27, 27),
    Shape(64, 256, 13, 13),
    point(512, 1000, 13),
    Shape(128, 128, 28, 28),
    Shape(512, 512, 14, 14),
    point(24, 24, 44),
    point(48, 48, 22),
    point(96, 96, 11),
    Shape(256, 12, 4, 5),
    Shape(16, 32, 60, 80, stride=2),
    linear(64, 10, 1),
    linear(512, 1000, 1),
    linear(512, 1000, 8),
)


def onnx_session(shape: Shape, weights: np.ndarray, bias: np.ndarray) -> onnxruntime.InferenceSession:
    from onnx import TensorProto, helper, numpy_helper

    size = [shape.batch, shape.inputs, shape.height, shape.width]
    if shape.height == shape.width == 1:
        node = helper.make_node("Gemm", ["x", "w", "b"], ["z"], transB=1)
        matrix, inputs, outputs = weights[0, 0].T, size[:2], [shape.batch, shape.outputs]
    else:
        attributes = {"kernel_shape": [shape.kernel] * 2, "strides": [shape.stride] * 2, "pads": [shape.pad] * 4}
        node = helper.make_node("Conv", ["x", "w", "b"], ["z"], **attributes)
        matrix = weights[0].transpose(2, 1, 0).reshape(shape.outputs, shape.inputs, shape.kernel, shape.kernel)
        inputs, outputs = size, [shape.batch, shape.outputs, *shape.size]
    constants = [numpy_helper.from_array(np.ascontiguousarray(matrix), "w"), numpy_helper.from_array(bias, "b")]
    graph = helper.make_graph(
        [node, helper.make_node("Relu", ["z"], ["y"])],
        "layer",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, inputs)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, outputs)],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def onnx_runner(shape: Shape, weights: np.ndarray, bias: np.ndarray, x: np.ndarray) -> Callable[[], object]:
    session = onnx_session(shape, weights, bias)
    binding = session.io_binding()
    fed = x.reshape(shape.batch, shape.inputs) if shape.height == shape.width == 1 else x
    binding.bind_ortvalue_input("x", onnxruntime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(fed)))
    binding.bind_output("y")
    return lambda: session.run_with_iobinding(binding)


def problem_of(shape: Shape) -> tuple[Conv2d, int, int]:
    pad = (shape.pad,) * 4
    if shape.height == shape.width == 1:
        x, x_size = channels_last(1, shape.inputs, 1, shape.batch)
        y, y_size = channels_last(1, shape.outputs, 1, shape.batch)
    else:
        x, x_size = channels_last(shape.batch, shape.inputs, shape.height, shape.width, halo=pad)
        y, y_size = channels_last(shape.batch, shape.outputs, *shape.size)
    kernel, strides = (shape.kernel,) * 2, (shape.stride,) * 2
    return Conv2d(x, y, kernel, strides, pads=pad[:2], bias=True, epilogue=(Activation("Relu"),)), x_size, y_size


def pruned(shape: Shape, density: float, rng: np.random.Generator) -> np.ndarray:
    weights = rng.normal(size=(1, shape.kernel**2, shape.inputs, shape.outputs)).astype(np.float32)
    blocks = -(-shape.outputs // 16)
    kept = (
        rng.random((1, shape.kernel**2, shape.inputs, blocks)) < density
        if density < 1
        else np.ones((1, 1, 1, blocks), bool)
    )
    return weights * kept.repeat(16, -1)[..., : shape.outputs]


def fastest(runs: list[Callable[[], object]], seconds: float, rounds: int) -> list[float]:
    """The least time of each of `runs`, in seconds, over alternating rounds that last about `seconds` in all."""
    repeats = []
    for run in runs:
        run()
        start = time.perf_counter()
        run()
        repeats.append(max(1, int(seconds / rounds / len(runs) / max(time.perf_counter() - start, 1e-7))))
    best = [float("inf")] * len(runs)
    for _ in range(rounds):
        for i, run in enumerate(runs):
            for _ in range(repeats[i]):
                start = time.perf_counter()
                run()
                best[i] = min(best[i], time.perf_counter() - start)
    return best


def machine() -> Machine:
    facts = target()
    return Machine(facts.lanes, facts.vector_registers, facts.l1_bytes, facts.l2_bytes)


def our_runner(problem: Conv2d, weights: np.ndarray, bias: np.ndarray, variant, x: np.ndarray, y: np.ndarray):
    kernel = build_variant(problem, weights, bias, variant)
    return kernel, Compiled(kernel).prepared([x], y)


def dependent_chain(entries: int) -> Callable[[], object]:
    shape = linear(entries, machine().lanes, 1)
    problem, x_size, y_size = problem_of(shape)
    weights, bias = np.ones((1, 1, entries, shape.outputs), np.float32), np.zeros(shape.outputs, np.float32)
    variant = next(v for v in variants(problem, machine()) if v.parts[0].chains == 1)
    return our_runner(problem, weights, bias, variant, np.ones(x_size, np.float32), np.ones(y_size, np.float32))[1]


def measured_gigahertz() -> float:
    """The clock speed, from multiply-adds that wait for each other: four cycles each."""
    short, long = fastest([dependent_chain(500), dependent_chain(1500)], 0.5, 20)
    return 1000 * 4 / (long - short) / 1e9


def report(shape: Shape, densities: list[float], options: argparse.Namespace) -> None:
    rng = np.random.default_rng(1)
    problem, x_size, y_size = problem_of(shape)
    x, y = np.zeros(x_size, np.float32), np.zeros(y_size, np.float32)
    window(x, problem.x)[:] = rng.normal(size=window(x, problem.x).shape)
    bias = rng.normal(size=shape.outputs).astype(np.float32)
    fed = window(x, problem.x)
    fed = fed[0, :, 0].T[:, :, None, None] if shape.height == shape.width == 1 else fed
    dense = pruned(shape, 1, rng)
    runs, kernels, chosen = [onnx_runner(shape, dense, bias, fed)], [], []
    for density in densities:
        weights = pruned(shape, density, rng)
        variant = choose(problem, weights, machine())
        kernel, run = our_runner(problem, weights, bias, variant, x, y)
        runs.append(run)
        kernels.append(kernel)
        chosen.append((variant, estimate(problem, weights, variant, machine())))
    empty = Compiled(kernels[0]).prepared([x], y, 0, 0)
    peer, *times, overhead = fastest([*runs, empty], options.seconds, options.rounds)
    times = [seconds - overhead for seconds in times]
    for density, kernel, (variant, cycles), seconds in zip(densities, kernels, chosen, times, strict=True):
        peak = kernel.macs / seconds / (2 * machine().lanes * options.gigahertz * 1e9)
        share = seconds / times[0] / (kernel.macs / kernels[0].macs)
        estimated = cycles / options.gigahertz / 1e9
        ratios = f"{peer / seconds:6.2f} {peak:5.2f} {share:6.2f}"
        figures = f"{1e6 * peer:9.1f} {1e6 * seconds:9.1f} {ratios} {1e6 * estimated:9.1f}"
        print(f"{shape!s:28} {density:5.3f} {figures}  {variant}", flush=True)
        if options.search:
            search(problem, weights if density == densities[-1] else dense, bias, x, y, options)


def search(problem: Conv2d, weights: np.ndarray, bias: np.ndarray, x: np.ndarray, y: np.ndarray, options) -> None:
    found = sorted(variants(problem, machine()), key=lambda v: estimate(problem, weights, v, machine()))[
        : options.search
    ]
    runs = [our_runner(problem, weights, bias, variant, x, y)[1] for variant in found]
    times = fastest(runs, options.seconds * 2, options.rounds)
    for seconds, variant in sorted(zip(times, found, strict=True), key=lambda pair: pair[0])[:8]:
        cycles = estimate(problem, weights, variant, machine())
        print(
            f"      {1e6 * seconds:9.1f} estimated {1e6 * cycles / options.gigahertz / 1e9:9.1f}  {variant}", flush=True
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--density", type=float, nargs="+", default=[1.0, 0.25, 0.125])
    parser.add_argument("--only", default="")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=0.6)
    parser.add_argument("--gigahertz", type=float, help="clock speed; measured where not given")
    parser.add_argument("--search", type=int, default=0, help="also time this many variants")
    options = parser.parse_args()
    options.gigahertz = options.gigahertz or measured_gigahertz()
    print(f"{target().name} at {options.gigahertz:.2f} GHz")
    columns = f"{'ORT':>9} {'ours':>9} {'ratio':>6} {'peak':>5} {'share':>6} {'estimate':>9}"
    print(f"{'layer':28} {'kept':>5} {columns}  variant")
    for shape in SHAPES:
        if options.only in str(shape):
            report(shape, options.density, options)


if __name__ == "__main__":
    main()
