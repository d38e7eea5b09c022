"""Whole compiled models for processors with AVX-512 or VNNI, through their C interface, against ONNX Runtime."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import emulation
import numpy as np
import onnx
import onnxruntime
import pytest
from emulated_target import become
from lowered import canonical, graph_model
from onnx import helper, numpy_helper
from processors import PROCESSORS
from qdq_networks import NETWORKS

from edgeprune.deploy.local import LocalRunner
from edgeprune.errors import EdgepruneError
from edgeprune.lowering.build import build
from edgeprune.lowering.lower import lower
from edgeprune.pattern import Pattern, parse_pattern
from edgeprune.target import Target, load_target


@dataclass(frozen=True)
class Facts:
    target: Target


def image_network(seed: int) -> onnx.ModelProto:
    """Dense, strided and depthwise convolutions, a sum, pools, a linear layer and a softmax, with odd sizes."""
    random = np.random.default_rng(seed)
    shapes = {"a": (37, 3, 3, 3), "b": (48, 37, 3, 3), "c": (48, 1, 3, 3), "d": (48, 48, 1, 1), "e": (10, 48)}
    weights = {name: random.normal(size=shape) / np.sqrt(np.prod(shape[1:])) for name, shape in shapes.items()}
    nodes = [
        helper.make_node("Conv", ["x", "a"], ["1"], pads=[1, 1, 1, 1]),
        helper.make_node("LeakyRelu", ["1"], ["2"], alpha=0.1),
        helper.make_node("Conv", ["2", "b"], ["3"], pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("HardSwish", ["3"], ["4"]),
        helper.make_node("Conv", ["4", "c"], ["5"], pads=[1, 1, 1, 1], group=48),
        helper.make_node("Conv", ["5", "d"], ["6"]),
        helper.make_node("Add", ["6", "4"], ["7"]),
        helper.make_node("Sigmoid", ["7"], ["8"]),
        helper.make_node("MaxPool", ["8"], ["9"], kernel_shape=[3, 3], strides=[2, 2]),
        helper.make_node("GlobalAveragePool", ["9"], ["10"]),
        helper.make_node("Flatten", ["10"], ["11"]),
        helper.make_node("Gemm", ["11", "e"], ["12"], transB=1),
        helper.make_node("Softmax", ["12"], ["probabilities"]),
    ]
    constants = {name: weight.astype(np.float32) for name, weight in weights.items()}
    return graph_model(nodes, {"x": [1, 3, 13, 17]}, ["probabilities", "8"], constants)


def kept(shape: tuple[int, ...], pattern: Pattern, random: np.random.Generator) -> np.ndarray:
    """Which weights (outputs, inputs, ...) stay: a third of the blocks at random, or `keep` of every `group`."""
    turned = (*shape[2:], -(-shape[1] // pattern.block_k), -(-shape[0] // pattern.block_n))
    score = random.random(turned)
    chosen = score < 1 / 3
    if pattern.group is not None and pattern.keep is not None:
        for start in range(0, turned[-2], pattern.group):
            part = score[..., start : start + pattern.group, :]
            chosen[..., start : start + pattern.group, :] = part.argsort(-2).argsort(-2) < pattern.keep
    wide = chosen.repeat(pattern.block_k, -2).repeat(pattern.block_n, -1)[..., : shape[1], : shape[0]]
    return np.moveaxis(wide, (-1, -2), (0, 1))


def pruned(model: onnx.ModelProto, pattern: str) -> onnx.ModelProto:
    """The model with its matrices and kernels of more than one input set to 0 where `pattern` removes them."""
    random = np.random.default_rng(0)
    for tensor in model.graph.initializer:
        weight = numpy_helper.to_array(tensor)
        if weight.ndim > 1 and weight.shape[1] > 1:
            stays = kept(weight.shape, parse_pattern(pattern), random)
            tensor.CopyFrom(numpy_helper.from_array(np.where(stays, weight, 0).astype(weight.dtype), tensor.name))
    return model


def compiled(model: onnx.ModelProto, target: Target, folder: Path) -> Path:
    path = folder / "model.so"
    path.write_bytes(build(lower(canonical(model), target), target).library)
    return path


@pytest.mark.parametrize(
    ("name", "pattern", "target", "threads"),
    [
        ("image", "1x1", "x86-64-v4", 2),
        ("image", "1x16", "x86-64-v4-vnni", 1),
        ("image", "2:4", "x86-64-v3-vnni", 2),
        ("residual", "1:4", "x86-64-v4-vnni", 2),
        ("residual", "2x16", "x86-64-v4", 1),
        ("windows", "1x1", "x86-64-v4", 2),
        ("dense", "1:4", "x86-64-v4-vnni", 1),
    ],
)
def test_a_model_equals_onnx_runtime(name, pattern, target, threads, tmp_path, monkeypatch):
    model = pruned(image_network(1) if name == "image" else NETWORKS[name](seed=1), pattern)
    facts = load_target(target)
    become(facts, monkeypatch)
    plain = onnxruntime.SessionOptions()
    plain.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), plain, providers=["CPUExecutionProvider"])
    shape = session.get_inputs()[0].shape
    before = emulation.executed()
    with LocalRunner(compiled(model, facts, tmp_path), Facts(facts), threads) as runner:
        for seed in range(2):
            feeds = {"x": np.random.default_rng(seed).normal(size=shape).astype(np.float32)}
            found = runner.run(feeds)
            for output, expected in zip(session.get_outputs(), session.run(None, feeds), strict=True):
                largest = np.abs(expected).max()
                off = np.abs(found[output.name] - expected).max() / largest
                assert off <= {"image": 1e-5, "dense": 2**-7}.get(name, 1e-6)
    assert emulation.executed() > before


def test_a_processor_without_vnni_is_refused(tmp_path, monkeypatch):
    """By the library itself: Python is kept from looking first."""
    facts = load_target("x86-64-v4-vnni")
    path = compiled(image_network(2), facts, tmp_path)
    become(facts, monkeypatch)
    emulation.become(PROCESSORS["Skylake-SP"])
    with pytest.raises(EdgepruneError) as caught:
        LocalRunner(path, Facts(facts))
    assert caught.value.code == "cpu-missing-features"
