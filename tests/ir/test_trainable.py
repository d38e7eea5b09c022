from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch
from trainable_cases import Case, arrays, build, cases

from edgeprune.errors import EdgepruneError
from edgeprune.frontend.load import load
from edgeprune.ir.execute import Session
from edgeprune.ir.trainable import to_torch, write_back
from edgeprune.ir.trainable_ops import OPS

CASES = list(cases())
RANGES = {"f": (0.05, 0.95), "i": (1, 4), "u": (1, 4), "b": (0, 1)}


def rows(model: ir.Model, seed: int, count: int) -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(seed)
    drawn: list[dict[str, np.ndarray]] = []
    for _ in range(count):
        row: dict[str, Any] = {}
        for value in model.graph.inputs:
            dtype, shape = value.dtype.numpy(), tuple(value.shape)
            low, high = RANGES[dtype.kind]
            drawn_array = rng.uniform(low, high, shape)
            row[value.name] = drawn_array.astype(dtype) if dtype.kind == "f" else drawn_array.round().astype(dtype)
        drawn.append(row)
    return drawn


def batched(model: ir.Model, drawn: list[dict[str, np.ndarray]]) -> dict[str, torch.Tensor]:
    stacked = {name: np.stack([row[name] for row in drawn]) for name in drawn[0]}
    return {name: torch.from_numpy(array[:, 0] if array.shape[1] == 1 else array) for name, array in stacked.items()}


def assert_matches(model: ir.Model, drawn: list[dict[str, np.ndarray]]) -> None:
    session, module = Session(model), to_torch(model)
    expected = [session.run(row) for row in drawn]
    with torch.no_grad():
        found = module(batched(model, drawn))
    for name, tensor in found.items():
        reference = np.stack([outputs[name] for outputs in expected])
        if reference.ndim > 1 and reference.shape[1] == 1:
            reference = reference[:, 0]
        assert tensor.shape == reference.shape
        np.testing.assert_allclose(tensor.numpy(), reference, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("case", CASES, ids=[f"{index}-{case.op}" for index, case in enumerate(CASES)])
def test_op_matches_onnx_runtime_row_by_row(case: Case) -> None:
    values = arrays(case, seed=3)
    model = build(case, values)
    try:
        Session(model)
    except EdgepruneError as error:
        pytest.skip(f"ONNX Runtime has no kernel: {error.hint}")
    fed = [index for index, value in enumerate(values) if index not in case.constant and value is not None]
    assert_matches(model, [{f"i{index}": values[index] for index in fed}])
    if case.inputs[0] is not None and not (case.op == "Gather" and 0 in case.constant):
        assert_matches(model, rows(model, seed=5, count=3))


def test_every_row_has_a_case() -> None:
    assert set(OPS) == {case.op for case in CASES}


def test_op_without_a_row_is_named() -> None:
    model = build(Case("Hardmax", ((1, 4),)), [np.zeros((1, 4), np.float32)])
    with pytest.raises(EdgepruneError) as caught:
        to_torch(model)
    assert caught.value.code == "op-untrainable"
    assert "Hardmax" in caught.value.what and "only" in caught.value.where


def test_computed_shape_is_refused() -> None:
    case = Case("Reshape", ((1, 4), np.array([2, 2], np.int64)))
    model = build(Case("Reshape", case.inputs, (1,)), arrays(case, 0))
    model.graph.initializers["i1"].const_value = None
    with pytest.raises(EdgepruneError):
        to_torch(model)({"i0": torch.zeros(1, 4)})


def convolution() -> ir.Model:
    case = Case("Conv", ((1, 3, 6, 6), (4, 3, 3, 3), (4,)), (1, 2), {"pads": [1, 1, 1, 1]})
    return build(case, arrays(case, 1))


def test_write_back_holds_what_was_trained_and_leaves_the_model_alone() -> None:
    model = convolution()
    before = model.graph.initializers["i1"].const_value.numpy().copy()
    module = to_torch(model)
    assert set(module.weights) == {"i1", "i2"}
    with torch.no_grad():
        module.weights["i1"].mul_(2.0)
    result = write_back(module, model)
    np.testing.assert_array_equal(model.graph.initializers["i1"].const_value.numpy(), before)
    np.testing.assert_array_equal(result.graph.initializers["i1"].const_value.numpy(), before * 2)
    row = rows(result, 2, 1)
    found = module(batched(result, row))["o0"].detach().numpy()
    np.testing.assert_allclose(found, Session(result).run(row[0])["o0"], rtol=1e-4, atol=1e-4)


def test_gradient_matches_finite_differences() -> None:
    model = convolution()
    module = to_torch(model)
    inputs = batched(model, rows(model, 4, 2))
    module(inputs)["o0"].square().sum().backward()
    gradient = module.weights["i1"].grad
    assert gradient is not None
    step, place = 1e-2, (2, 1, 0, 2)
    losses = []
    for sign in (1, -1):
        moved = module.weights["i1"].detach().clone()
        moved[place] += sign * step
        losses.append(module(inputs, {"i1": moved})["o0"].square().sum().item())
    assert gradient[place].item() == pytest.approx((losses[0] - losses[1]) / (2 * step), rel=1e-2)


def test_scalars_and_integers_are_not_trained() -> None:
    case = Case("Mul", ((1, 5), np.array(2.0, np.float32)), (1,))
    assert not to_torch(build(case, arrays(case, 0))).weights


@pytest.mark.parametrize(
    "file",
    [
        "cifar_resnet/resnet20.onnx",
        "squeezenet_dc/squeezenet1.0_deepcompressed.onnx",
        "ultraface/version-RFB-320.onnx",
        "fastestdet/FastestDet.onnx",
        "stories260K/stories260K_t64.onnx",
    ],
)
def test_real_model_in_a_batch_matches_onnx_runtime(data_dir: Path, file: str) -> None:
    model = load(data_dir / "models" / file)
    assert_matches(model, rows(model, seed=1, count=2))
