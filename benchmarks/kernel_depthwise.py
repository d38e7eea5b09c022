"""Prints what depthwise convolution reaches, layer by layer, against ONNX Runtime and OpenVINO.

    python benchmarks/kernel_depthwise.py [--only TEXT] [--rounds N]

Times are minima of alternating rounds on one thread, in microseconds. The peers' times hold the cost of a call through
their Python interface, which `floor` shows: a depthwise layer of one pixel.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from sys import path

import numpy as np
import onnxruntime
from kernel_conv2d import fastest
from onnx import TensorProto, helper, numpy_helper

path.insert(0, str(Path(__file__).parent.parent / "tests" / "kernels"))
from harness import Compiled, channels_last, planar, target, window

from edgeprune.kernels.abi import Machine
from edgeprune.kernels.depthwise.depthwise import build_depthwise
from edgeprune.kernels.depthwise.problem import Depthwise


@dataclass(frozen=True)
class Shape:
    channels: int
    height: int
    width: int
    kernel: int = 3
    stride: int = 1

    def __str__(self) -> str:
        return f"{self.kernel}x{self.kernel} s{self.stride} {self.channels}@{self.height}x{self.width}"

    @property
    def size(self) -> tuple[int, int]:
        return -(-self.height // self.stride), -(-self.width // self.stride)


SHAPES = (
    Shape(64, 30, 40),
    Shape(16, 120, 160),
    Shape(128, 15, 20),
    Shape(48, 22, 22),
    Shape(96, 22, 22, 5),
    Shape(64, 30, 40, stride=2),
    Shape(16, 120, 160, stride=2),
    Shape(96, 22, 22, 5, 2),
    Shape(58, 11, 11),
)


def model_bytes(shape: Shape, weights: np.ndarray) -> bytes:
    attributes = {"strides": [shape.stride] * 2, "pads": [shape.kernel // 2] * 4, "group": shape.channels}
    node = helper.make_node("Conv", ["x", "w"], ["y"], **attributes)
    filters = weights.reshape(shape.channels, 1, shape.kernel, shape.kernel)
    graph = helper.make_graph(
        [node],
        "layer",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, shape.channels, shape.height, shape.width])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, shape.channels, *shape.size])],
        [numpy_helper.from_array(filters, "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9).SerializeToString()


def onnxruntime_runner(shape: Shape, weights: np.ndarray, image: np.ndarray) -> Callable[[], object]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model_bytes(shape, weights), options, providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    binding.bind_ortvalue_input("x", onnxruntime.OrtValue.ortvalue_from_numpy(image))
    binding.bind_output("y")
    return lambda: session.run_with_iobinding(binding)


def openvino_runner(shape: Shape, weights: np.ndarray, image: np.ndarray) -> Callable[[], object] | None:
    try:
        import openvino
    except ImportError:
        return None
    core = openvino.Core()
    model = core.read_model(model_bytes(shape, weights))
    request = core.compile_model(model, "CPU", {"INFERENCE_NUM_THREADS": 1}).create_infer_request()
    request.set_input_tensor(openvino.Tensor(image, shared_memory=True))
    return lambda: (request.start_async(), request.wait())


def own_runner(shape: Shape, weights: np.ndarray, image: np.ndarray, layout: str) -> Callable[[], object]:
    facts = target()
    machine = Machine(facts.lanes, facts.vector_registers, facts.l1_bytes, facts.l2_bytes)
    place = channels_last if layout == "channels" else planar
    pad = shape.kernel // 2
    xv, xs = place(1, shape.channels, shape.height, shape.width, halo=(pad,) * 4)
    yv, ys = place(1, shape.channels, *shape.size)
    x, y = np.zeros(xs, np.float32), np.zeros(ys, np.float32)
    window(x, xv)[:] = image
    problem = Depthwise(xv, yv, (shape.kernel,) * 2, (shape.stride,) * 2, (1, 1), (pad, pad), False)
    return Compiled(build_depthwise(problem, weights, None, machine)).prepared([x], y)


def times(shape: Shape, rounds: int) -> list[float]:
    random = np.random.default_rng(0)
    weights = random.standard_normal((shape.channels, shape.kernel**2), np.float32)
    image = random.standard_normal((1, shape.channels, shape.height, shape.width), np.float32)
    runs = [own_runner(shape, weights, image, layout) for layout in ("channels", "planar")]
    runs.append(onnxruntime_runner(shape, weights, image))
    peer = openvino_runner(shape, weights, image)
    return [t * 1e6 for t in fastest([*runs, *([peer] if peer else [])], 0.2, rounds)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="")
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    print(f"{'layer':22} {'channels':>9} {'planar':>9} {'ort':>9} {'openvino':>9}")
    for name, shape in [("floor", Shape(8, 1, 1)), *((str(shape), shape) for shape in SHAPES)]:
        if options.only in name:
            print(f"{name:22} " + " ".join(f"{t:9.1f}" for t in times(shape, options.rounds)), flush=True)


if __name__ == "__main__":
    main()
