"""Windows over images of one row, one column or one pixel: their border lies beside them all the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from lowered import canonical, graph_model, run_lowered
from onnx import helper

from edgeprune.ir.execute import Session


class Network:
    """Convolutions with random weights, appended one by one."""

    def __init__(self) -> None:
        self.random = np.random.default_rng(0)
        self.nodes: list = []
        self.constants: dict[str, np.ndarray] = {}

    def conv(self, source: str, inputs: int, outputs: int, rank: int, stride: int = 1, group: int = 1) -> str:
        name = f"v{len(self.nodes)}"
        self.constants[f"{name}.w"] = self.random.standard_normal((outputs, inputs // group, *[3] * rank)).astype("f4")
        window = {"strides": [stride] * rank, "pads": [1] * (2 * rank), "group": group}
        self.nodes.append(helper.make_node("Conv", [source, f"{name}.w"], [f"{name}.c"], name=f"{name}.conv", **window))
        self.nodes.append(helper.make_node("Relu", [f"{name}.c"], [name], name=f"{name}.relu"))
        return name

    def concat(self, *sources: str) -> str:
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node("Concat", list(sources), [name], axis=1, name=name))
        return name


def network(shape: list[int], kind: str) -> tuple[Network, str]:
    """Halve an image of `shape`, then look at it through 3 x 3 (or 3) windows."""
    net, rank = Network(), len(shape) - 2
    small = net.conv("x", shape[1], 16, rank, stride=2)
    if kind == "depthwise":
        return net, net.conv(net.conv(small, 16, 16, rank, group=16), 16, 24, rank)
    if kind == "concat":
        return net, net.conv(net.concat(small, net.conv("x", shape[1], 8, rank, stride=2)), 24, 8, rank)
    return net, net.conv(small, 16, 24, rank)


@pytest.mark.parametrize("mode", ["channels", "pixels"])
@pytest.mark.parametrize("kind", ["plain", "depthwise", "concat"])
@pytest.mark.parametrize(
    "shape", [[1, 8, 2], [1, 8, 2, 2], [1, 8, 2, 5], [1, 8, 7, 2]], ids=lambda shape: "x".join(map(str, shape))
)
def test_the_border_of_small_images_is_zero(tmp_path: Path, shape, kind, mode):
    net, result = network(shape, kind)
    model = canonical(graph_model(net.nodes, {"x": shape}, [result], net.constants))
    feeds = {"x": net.random.standard_normal(shape).astype(np.float32)}
    found = run_lowered(model, feeds, tmp_path, mode)[result]
    np.testing.assert_allclose(found, Session(model, 1).run(feeds)[result], rtol=1e-4, atol=1e-4)
