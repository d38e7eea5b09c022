"""Prints what depthwise convolution reaches, layer by layer, in float and in stored integers, against its peers.

    python benchmarks/kernel_depthwise.py [--only TEXT] [--rounds N]

Times are minima of alternating rounds on one thread, in microseconds; GMAC/s are those of float32, int16 and uint8
storage of images with channels last. Peers are ONNX Runtime and OpenVINO in float32, and LiteRT (XNNPACK) in int8.
The peers' times hold the cost of a call through their Python interface, which `floor` shows: a depthwise layer of one
pixel.
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
path.insert(0, str(Path(__file__).parent.parent / "tests" / "frontend"))
from harness import Compiled, channels_last, planar, target, window
from stored_formats import with_format

from edgeprune.kernels.abi import FLOAT32, Format, Machine
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

    @property
    def macs(self) -> int:
        return self.channels * self.size[0] * self.size[1] * self.kernel**2


STORAGES = {
    "int16": Format("int16", 0.02, 0, -120, 135),
    "uint8": Format("uint8", 0.02, 120, 0, 255),
}
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
    Shape(64, 25, 5),
    Shape(16, 80, 80),
    Shape(64, 20, 20),
    Shape(128, 40, 40, stride=2),
    Shape(256, 10, 10),
    Shape(512, 5, 5),
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


def litert_runner(shape: Shape, weights: np.ndarray, image: np.ndarray) -> Callable[[], object] | None:
    try:
        from ai_edge_litert.interpreter import Interpreter
        from tflite_writer import Writer
    except ImportError:
        return None
    writer, side = Writer(), shape.kernel
    whole = np.clip(np.rint(weights * 40), -127, 127).astype(np.int8)
    x = writer.tensor((1, shape.height, shape.width, shape.channels), "INT8", (0.02, -8))
    w = writer.constant(whole.T.reshape(1, side, side, -1), (np.full(shape.channels, 0.025), 0, 3))
    b = writer.constant(np.zeros(shape.channels, np.int32), (np.full(shape.channels, 0.0005), 0, 0))
    y = writer.tensor((1, *shape.size, shape.channels), "INT8", (0.02, 8))
    fields = {"padding": 0, "strideH": shape.stride, "strideW": shape.stride, "depthMultiplier": 1}
    fields |= {"dilationHFactor": 1, "dilationWFactor": 1}
    writer.node("DEPTHWISE_CONV_2D", [x, w, b], [y], "DepthwiseConv2DOptions", fields)
    interpreter = Interpreter(model_content=writer.finish([x], [y]), num_threads=1)
    interpreter.allocate_tensors()
    held = np.clip(np.rint(image.transpose(0, 2, 3, 1) / 0.02) - 8, -128, 127).astype(np.int8)
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], held)
    return interpreter.invoke


def own_runner(
    shape: Shape, weights: np.ndarray, image: np.ndarray, layout: str, held: Format = FLOAT32
) -> Callable[[], object]:
    facts = target()
    dot = "vnni" if held.dtype == "uint8" else "pairs"
    machine = Machine(facts.lanes, facts.vector_registers, facts.l1_bytes, facts.l2_bytes, dot)
    place = channels_last if layout == "channels" else planar
    pad = shape.kernel // 2
    (xv, xs), (yv, ys) = (
        place(1, shape.channels, shape.height, shape.width, halo=(pad,) * 4),
        place(1, shape.channels, *shape.size),
    )
    x, y = np.full(xs, held.zero, held.dtype), np.zeros(ys, held.dtype)
    window(x, xv)[:] = np.clip(np.rint(image / 0.02), -120, 135) + held.zero if held.quantized else image
    xv, yv = with_format(xv, held), with_format(yv, held)
    problem = Depthwise(xv, yv, (shape.kernel,) * 2, (shape.stride,) * 2, (1, 1), (pad, pad), False)
    scales = np.full(shape.channels, 0.0005, np.float32) if held.quantized else None
    if held.quantized:
        weights = np.clip(np.rint(weights * 40), -127, 127)
    return Compiled(build_depthwise(problem, weights, None, machine, scales)).prepared([x], y)


def times(shape: Shape, rounds: int) -> list[float]:
    random = np.random.default_rng(0)
    weights = random.standard_normal((shape.channels, shape.kernel**2), np.float32)
    image = random.standard_normal((1, shape.channels, shape.height, shape.width), np.float32)
    runs = [own_runner(shape, weights, image, layout) for layout in ("channels", "planar")]
    runs += [own_runner(shape, weights, image, "channels", held) for held in STORAGES.values()]
    runs.append(onnxruntime_runner(shape, weights, image))
    for runner in (openvino_runner, litert_runner):
        peer = runner(shape, weights, image)
        runs.append(peer if peer else lambda: None)
    return [t * 1e6 for t in fastest(runs, 0.3, rounds)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="")
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    names = ("channels", "planar", *STORAGES, "ort", "openvino", "litert-i8")
    print(f"{'layer':22} " + " ".join(f"{name:>9}" for name in names) + "  GMAC/s: channels, " + ", ".join(STORAGES))
    for name, shape in [("floor", Shape(8, 1, 1)), *((str(shape), shape) for shape in SHAPES)]:
        if options.only in name:
            found = times(shape, options.rounds)
            rates = [shape.macs / found[index] / 1e3 for index in (0, 2, 3)]
            print(f"{name:22} " + " ".join(f"{t:9.1f}" for t in found), end="  ")
            print(" ".join(f"{rate:7.2f}" for rate in rates), flush=True)


if __name__ == "__main__":
    main()
