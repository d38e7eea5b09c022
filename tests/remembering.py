"""Small models that remember: states go in and come out, and what they compute, by ONNX Runtime fed by hand."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

Grid = tuple[float, int]
INPUTS, UNITS = 5, 6


class _Graph:
    """Nodes and constants of a model in the making."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, name: str, value: np.ndarray) -> str:
        self.constants.append(numpy_helper.from_array(value, name))
        return name

    def weight(self, name: str, *shape: int, size: float = 0.5) -> str:
        return self.constant(name, self.random.normal(0, size, shape).astype(np.float32))

    def add(self, op: str, inputs: list[str], *outputs: str, **attributes: object) -> str:
        self.nodes.append(helper.make_node(op, inputs, list(outputs), outputs[0] or outputs[1], **attributes))
        return outputs[0]

    def on_grid(self, value: str, grid: Grid | None, result: str = "") -> str:
        """`value` rounded to 8 bits, as `result`."""
        if grid is None:
            return self.add("Identity", [value], result) if result else value
        result = result or f"{value}_dq"
        scale = self.constant(f"{result}_scale", np.float32(grid[0]))
        zero = self.constant(f"{result}_zero", np.int8(grid[1]))
        self.add("QuantizeLinear", [value, scale, zero], f"{result}_q")
        return self.add("DequantizeLinear", [f"{result}_q", scale, zero], result)

    def model(self, inputs: dict[str, list[int]], outputs: list[str]) -> onnx.ModelProto:
        ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()]
        results = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
        graph = helper.make_graph(self.nodes, "remembering", ports, results, self.constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def recurrent(op: str, steps: int = 2, seed: int = 1, units: int = UNITS, size: float = 0.5) -> onnx.ModelProto:
    """An LSTM (states h=hn, c=cn) or a GRU (h=hn) over `steps` rows of `x`, and a linear layer that gives `y`."""
    graph, gates = _Graph(seed), {"LSTM": 4, "GRU": 3}[op]
    states = {"h": "hn", "c": "cn"} if op == "LSTM" else {"h": "hn"}
    weights = [
        graph.weight("w", 1, gates * units, INPUTS, size=size),
        graph.weight("r", 1, gates * units, units, size=size),
        graph.weight("b", 1, 2 * gates * units),
    ]
    extra = {"linear_before_reset": 1} if op == "GRU" else {}
    graph.add(op, ["x", *weights, "", *states], "seen", *states.values(), hidden_size=units, **extra)
    graph.add("Squeeze", ["hn", graph.constant("first", np.array([0], np.int64))], "last")
    graph.add("Gemm", ["last", graph.weight("v", units, 3)], "y")
    ports = {"x": [steps, 1, INPUTS], **{name: [1, 1, units] for name in states}}
    return graph.model(ports, ["y", *states.values()])


def window(state_in: Grid | None = None, state_out: Grid | None = None, seed: int = 2) -> onnx.ModelProto:
    """A weighted sum `y` over the last four rows of `x`, of which the state past=past_next has three."""
    graph = _Graph(seed)
    fresh = graph.on_grid("x", state_in)
    joined = graph.add("Concat", [graph.on_grid("past", state_in), fresh], "joined", axis=1)
    flat = graph.add("Reshape", [joined, graph.constant("row", np.array([1, 4 * INPUTS], np.int64))], "flat")
    graph.on_grid(graph.add("Gemm", [flat, graph.weight("w", 4 * INPUTS, 3)], "sum"), state_out, "y")
    bounds = [graph.constant(name, np.array([at], np.int64)) for name, at in (("from", 1), ("to", 4), ("axis", 1))]
    graph.on_grid(graph.add("Slice", [joined, *bounds], "newest"), state_out, "past_next")
    return graph.model({"x": [1, 1, INPUTS], "past": [1, 3, INPUTS]}, ["y", "past_next"])


def swapped(seed: int = 3) -> onnx.ModelProto:
    """States that change places: a=b_next and b=a_next, with `y` from both."""
    graph = _Graph(seed)
    graph.add("Add", ["a", "x"], "a_next")
    graph.add("Mul", ["b", graph.constant("half", np.float32([0.5]))], "b_next")
    graph.add("Sub", ["a", "b"], "y")
    shape = [1, INPUTS]
    return graph.model({"a": shape, "x": shape, "b": shape}, ["a_next", "y", "b_next"])


def fed_by_hand(
    model: onnx.ModelProto, states: dict[str, str], rows: dict[str, np.ndarray], reset_every: int = 0
) -> dict[str, np.ndarray]:
    """What ONNX Runtime gives for `rows` one after another, each state fed with the output of the row before."""
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    zeros = {port.name: np.zeros(port.shape, np.float32) for port in session.get_inputs() if port.name in states}
    names = [port.name for port in session.get_outputs()]
    held, found = zeros, []
    for index in range(len(next(iter(rows.values())))):
        held = zeros if reset_every and index % reset_every == 0 else held
        outputs = dict(zip(names, session.run(names, {**{k: v[index] for k, v in rows.items()}, **held}), strict=True))
        held = {name: outputs.pop(result) for name, result in states.items()}
        found.append(outputs)
    return {name: np.stack([row[name] for row in found]) for name in found[0]}


def texts(states: dict[str, str]) -> tuple[str, ...]:
    """`states` as the user writes them."""
    return tuple(f"{name}={result}" for name, result in states.items())
