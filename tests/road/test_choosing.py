"""Budgets on a small network: they are met by what was compiled, or the shortfall says by how much not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeprune import flow
from edgeprune.ir.cost import model_cost
from edgeprune.options import Options
from edgeprune.passes.recover_loss import distillation_for
from edgeprune.progress import silent
from edgeprune.road.beginning import begin
from edgeprune.road.thinning import DENSITIES, Thinner

CARD = """
metric = "top1"
[train]
file = "rows.npz"
rows = "0:96"
[test]
file = "rows.npz"
rows = "96:"
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three convolutions and a classifier on 4 x 12 x 12, and rows that it labels itself."""
    generator = np.random.default_rng(5)

    def weight(*shape: int) -> np.ndarray:
        return (generator.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))).astype(np.float32)

    arrays = {
        "w1": weight(32, 4, 3, 3),
        "w2": weight(64, 32, 3, 3),
        "w3": weight(32, 64, 3, 3),
        "w4": weight(6, 32),
        "b4": weight(6, 1)[:, 0],
    }
    nodes = []
    value = "image"
    for index in (1, 2, 3):
        nodes.append(helper.make_node("Conv", [value, f"w{index}"], [f"c{index}"], f"conv{index}", pads=[1, 1, 1, 1]))
        nodes.append(helper.make_node("Relu", [f"c{index}"], [f"r{index}"], f"relu{index}"))
        value = f"r{index}"
    nodes += [
        helper.make_node("GlobalAveragePool", [value], ["g"], "pool"),
        helper.make_node("Flatten", ["g"], ["f"], "flatten"),
        helper.make_node("Gemm", ["f", "w4", "b4"], ["logits"], "classify", transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 4, 12, 12])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 6])],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    folder = tmp_path_factory.mktemp("budget")
    network = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(network, folder / "small.onnx")
    rows = generator.standard_normal((160, 4, 12, 12)).astype(np.float32)
    session = onnxruntime.InferenceSession(str(folder / "small.onnx"), providers=["CPUExecutionProvider"])
    labels = [int(session.run(None, {"image": row[None]})[0].argmax()) for row in rows]
    np.savez(folder / "rows.npz", x=rows, y=np.array(labels))
    (folder / "card.toml").write_text(CARD)
    return folder / "small.onnx"


@pytest.fixture(scope="module")
def dense(model: Path) -> dict:
    """The facts of the dense package."""
    return flow.compile(model, options=Options(dense=True)).inspection


def _compile(model: Path, **choices: object) -> flow.CompileResult:
    options = Options(epochs=0, max_drop=100.0, **choices)  # type: ignore[arg-type]
    return flow.compile(model, data=model.parent / "card.toml", options=options)


def test_a_size_budget_is_met_by_the_package(model, dense):
    budget = dense["total_bytes"] - 0.6 * dense["weights_bytes"]
    found = _compile(model, size=budget)
    assert found.met and 0.85 * budget <= found.inspection["total_bytes"] <= budget
    assert found.inspection["nonzero_weights"] < found.inspection["weights"]
    search = found.inspection["search"]
    assert search["predicted"]["size"] == pytest.approx(found.inspection["total_bytes"], rel=0.1)


def test_a_size_budget_is_used_up_on_a_microcontroller(model):
    def compiled(**choices: object) -> dict:
        options = Options(epochs=0, max_drop=100.0, precision="int8", **choices)  # type: ignore[arg-type]
        return flow.compile(model, data=model.parent / "card.toml", target="cortex-m4", options=options).inspection

    dense = compiled(dense=True)
    budget = dense["total_bytes"] - 0.4 * dense["weights_bytes"]
    assert 0.85 * budget <= compiled(size=budget)["total_bytes"] <= budget


def test_a_budget_that_asks_for_nothing_costs_nothing(model, dense):
    found = _compile(model, latency=1000.0, size=10 * dense["total_bytes"])
    assert found.met and found.inspection["nonzero_weights"] == dense["nonzero_weights"]
    assert found.inspection["search"]["kind"] == "measured"


def test_an_impossible_budget_says_how_close_it_came(model):
    found = _compile(model, size=1000.0, latency=1e-6, precision="fp32")
    assert not found.met and found.package is None
    assert "over the budget of 1,000" in found.shortfall and "size is " in found.shortfall
    assert "latency is 0.0" in found.shortfall and "ms (measured)" in found.shortfall
    assert found.inspection["nonzero_weights"] < 0.5 * found.inspection["weights"]


def test_an_energy_budget_prints_its_assumptions(model):
    found = _compile(model, energy=1e-9)
    assert not found.met and "mJ (predicted)" in found.shortfall
    assert any("pJ" in line for line in found.inspection["search"]["assumptions"])


def test_less_memory_means_fewer_channels(model, dense):
    found = _compile(model, ram=0.7 * dense["ram_bytes"])
    assert found.met and found.inspection["ram_bytes"] <= 0.7 * dense["ram_bytes"]
    assert found.inspection["dense_macs"] < dense["dense_macs"]


def test_channels_by_hand_leave_a_smaller_model(model, dense):
    found = _compile(model, pattern="channel", sparsity=0.4)
    facts = found.inspection
    assert facts["weights"] <= 0.6 * dense["weights"] and facts["dense_macs"] <= 0.6 * dense["dense_macs"]
    assert facts["nonzero_weights"] == facts["weights"]
    row = {"image": np.random.default_rng(0).standard_normal((1, 4, 12, 12)).astype(np.float32)}
    assert found.package is not None
    session = onnxruntime.InferenceSession(found.package.member("model.onnx"), providers=["CPUExecutionProvider"])
    assert np.allclose(found.package.run(row)["logits"], session.run(None, row)[0], rtol=1e-3, atol=1e-4)


def test_a_limit_on_the_drop_alone_goes_as_far_as_it_allows(model):
    options = Options(epochs=0, max_drop=25.0)
    found = flow.compile(model, data=model.parent / "card.toml", options=options)
    assert found.inspection["search"]["objective"] == "latency"
    assert found.inspection["nonzero_weights"] < found.inspection["weights"]


def test_a_level_without_a_pattern_takes_the_coarsest_that_keeps_the_limit(model):
    lenient = _compile(model, sparsity=0.3).inspection
    assert {layer["pattern"] for layer in lenient["layers"] if layer["density"] < 1} == {"1x16"}
    strict = flow.compile(
        model,
        data=model.parent / "card.toml",
        options=Options(epochs=0, max_drop=0.0, sparsity=0.9, best_effort=True),
    ).inspection
    assert len({layer["pattern"] for layer in strict["layers"] if layer["density"] < 1}) == 1


def test_fewer_channels_reach_what_fewer_weights_cannot(model, dense):
    """The library's code and biases leave little room: without a pattern, channels go too, and all shrinks."""
    budget = dense["total_bytes"] - 0.95 * dense["weights_bytes"]
    found = _compile(model, size=budget).inspection
    assert found["search"]["channels"] < 1.0
    assert found["dense_macs"] < dense["dense_macs"] and found["weights"] < dense["weights"]
    by_pattern = _compile(model, size=budget, pattern="1x16").inspection
    assert by_pattern["search"]["channels"] == 1.0 and by_pattern["dense_macs"] == dense["dense_macs"]
    assert found["total_bytes"] < by_pattern["total_bytes"]


def test_a_start_of_fewer_channels_is_taught_by_the_whole_model(model):
    options = Options(epochs=0)
    drafter = next(begin(model, "host", model.parent / "card.toml", None, options).drafters(silent))
    thinner = Thinner(drafter.judge, drafter.target, options, silent)
    assert thinner.judge_of(0) is drafter.judge
    start = len(DENSITIES)
    thin = thinner.judge_of(start)
    assert thin.master is drafter.judge.original and thinner.judge_of(start) is thin
    whole, left = model_cost(drafter.judge.original), model_cost(thin.original)
    assert left.dense_macs <= DENSITIES[-1] * whole.dense_macs and left.weights <= DENSITIES[-1] * whole.weights
    taught = distillation_for(thin.master, "top1", True, thin.original)
    shapes = [
        {value.name: value.shape for node in each.graph for value in node.outputs}
        for each in (thin.master, thin.original)
    ]
    assert all(shapes[0][name] == shapes[1][name] for name in taught.features)
