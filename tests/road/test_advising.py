"""Advice on a small network: every layer has a verdict, and the reasons are those that hold."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec
import numpy as np
import onnx_ir as ir
import pytest

from edgeprune import flow
from edgeprune.errors import EdgepruneError
from edgeprune.ir.canonical import canonicalize
from edgeprune.road.advising import SPARSITIES, advise_model
from edgeprune.target import load_target

sys.path.insert(0, str(Path(__file__).parents[1] / "passes"))
from networks import Builder, small_network

V4 = load_target("x86-64-v4")


@pytest.fixture(scope="module")
def report():
    return advise_model(canonicalize(small_network()), V4)


def layer(report, name: str):
    return next(each for each in report["layers"] if each["name"] == name)


def test_every_layer_has_a_verdict(report) -> None:
    assert [each["name"] for each in report["layers"]] == ["first", "a", "b", "depthwise", "wide", "hidden", "last"]
    for each in report["layers"]:
        assert each["verdict"] == ("keep" if each["reason"] else "prune")
        assert set(each["speedup"]) in (set(), {"0.5", "0.75", "0.875"})
    known = [each["share"] for each in report["layers"] if each["share"] is not None]
    assert 0 < sum(known) <= 1.0 + 1e-9
    assert report["target"] == "x86-64-v4"
    assert report["dense_ms"] > 0


def test_a_depthwise_layer_stays_dense(report) -> None:
    found = layer(report, "depthwise")
    assert (found["verdict"], found["pattern"], found["pays_from"]) == ("keep", "", None)
    assert found["reason"] == "depthwise: stays dense, each weight serves one channel only"
    assert found["time_us"] > 0


def test_the_whole_model_is_predicted_at_every_level_of_every_pattern(report) -> None:
    pairs = [(level["pattern"], level["sparsity"]) for level in report["levels"]]
    assert pairs == [(pattern, sparsity) for pattern in V4.patterns for sparsity in SPARSITIES]
    for level in report["levels"]:
        assert level["speedup"] == pytest.approx(report["dense_ms"] / level["latency_ms"])


def test_large_layers_pay_early_and_more_with_sparsity() -> None:
    build = Builder(0, [1, 32, 20, 20])
    x = build.relu("r0", build.convolution("one", build.input, 32))
    x = build.relu("r1", build.convolution("two", x, 32))
    report = advise_model(canonicalize(build.model(build.convolution("three", x, 32))), V4)
    for name in ("one", "two", "three"):
        found = layer(report, name)
        assert found["verdict"] == "prune"
        assert 0 < found["pays_from"] <= 0.3
        assert 1.5 < found["speedup"]["0.5"] < found["speedup"]["0.75"] < found["speedup"]["0.875"]


def test_too_few_channels_are_named() -> None:
    build = Builder(0, [1, 1, 4, 4])
    x = build.convolution("narrow", build.input, 3, kernel=1)
    report = advise_model(canonicalize(build.model(x)), msgspec.structs.replace(V4, patterns=("1x16",)))
    assert layer(report, "narrow")["reason"] == "too few channels: 3 outputs, and the smallest block is 16 wide"


def test_other_work_without_weights_is_listed_and_kept() -> None:
    build = Builder(0, [1, 6, 8])
    x = build.add("Transpose", "turn", [build.input], [1, 8, 6], perm=[0, 2, 1])
    report = advise_model(canonicalize(build.model(build.add("MatMul", "product", [build.input, x], [1, 6, 6]))), V4)
    assert layer(report, "product")["reason"].startswith("no constant weight")


def test_a_package_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.edge"
    path.write_bytes(b"PK")
    with pytest.raises(EdgepruneError) as caught:
        flow.advise(path)
    assert caught.value.exit_code == 2
    assert str(caught.value) == (
        f"{path} is a package: it is pruned and compiled already [model-wanted]\n  where: MODEL\n"
        "  hint:  name the model that it came from; `edgeprune inspect` says what a package has inside"
    )


def test_an_unknown_target_is_refused_before_the_model_is_read() -> None:
    with pytest.raises(EdgepruneError, match="there is no target 'x86-64-v9'"):
        flow.advise("no-such-model.onnx", target="x86-64-v9")


def test_weights_that_arrive_quantized_are_named() -> None:
    build = Builder(0, [1, 8, 6, 6])
    stored = ir.val("stored", const_value=ir.tensor(np.ones((4, 8, 1, 1), np.int8), name="stored"))
    scale = ir.val("scale", const_value=ir.tensor(np.float32(0.1), name="scale"))
    build.constants += [stored, scale]
    weight = build.add("DequantizeLinear", "scaled", [stored, scale], [4, 8, 1, 1])
    y = build.add("Conv", "quantized", [build.input, weight], [1, 4, 6, 6], kernel_shape=[1, 1])
    report = advise_model(canonicalize(build.model(y)), V4)
    assert layer(report, "quantized")["reason"] == "its weights arrive quantized: only float weights are pruned"
