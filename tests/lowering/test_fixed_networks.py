"""Whole int8 networks in fixed point: against the specification in whole numbers, and an emulated board beside them."""

from __future__ import annotations

import functools
from pathlib import Path

import fixed_oracle
import numpy as np
import onnx_ir as ir
import pytest
from board_runner import on_board
from library_runner import Context, build, load
from lowered import canonical
from onnx_ir.passes.common import RemoveUnusedNodesPass
from qdq_networks import NETWORKS

from edgeprune import flow
from edgeprune.data import random_samples
from edgeprune.ir.execute import Session
from edgeprune.ir.ports import input_specs
from edgeprune.ir.states import with_states
from edgeprune.lowering.lower import lower
from edgeprune.road.twin import twin_target
from edgeprune.target import load_target

TARGET = "cortex-m4"
EXACT = {
    "mlperf_tiny/ic_resnet8_int8": 3.0,
    "mlperf_tiny/kws_dscnn_int8": 40.0,
    "mlperf_tiny/vww_mbv1_025_int8": 1.0,
    "mlperf_tiny/sww_int8": 20.0,
    "microwakeword/okay_nabu": 8.0,
    "import_edge/person_detect": 1.0,
    "coral/mobilenet_v1_0.25_128_quant": 1.0,
}
"""Models that are integers throughout, and how large the random inputs are that reach most of their range."""
CHIPS = {"cortex-m0plus": "emulated-m0plus", "cortex-m4": "emulated-m4", "riscv32imc": "emulated-rv32"}
ON_BOARD = ("mlperf_tiny/sww_int8", "microwakeword/okay_nabu")


@functools.cache
def before_softmax(path: Path) -> ir.Model:
    """The model at `path` up to where a last softmax would hide small differences."""
    model = with_states(flow.load_model(path), ["none"])
    for index, value in enumerate(model.graph.outputs):
        last = value.producer().inputs[0].producer().inputs[0].producer()
        if last.op_type == "Softmax":
            model.graph.outputs[index] = last.inputs[0]
    return RemoveUnusedNodesPass()(model).model


def twin(model: ir.Model) -> Context:
    target = twin_target(load_target(TARGET))
    plan = lower(model, target)
    return Context(load(build(plan, target).so), plan.inputs, plan.outputs)


def rows(model: ir.Model, count: int, scale: float) -> list[dict[str, np.ndarray]]:
    samples = random_samples(input_specs(model), count, seed=5)
    return [{name: scale * array for name, array in samples.row(index).items()} for index in range(count)]


@pytest.mark.parametrize("name", EXACT)
def test_networks_are_what_the_specification_says(name: str, data_dir: Path) -> None:
    model = before_softmax(data_dir / "models" / f"{name}.tflite")
    compiled, seen = twin(model), []
    for feeds in rows(model, 3, EXACT[name]):
        got, wanted = compiled.run(feeds), fixed_oracle.run(model, feeds)
        for output in got:
            assert np.array_equal(got[output], wanted[output])
        seen.append(wanted)
    assert any(not np.array_equal(array, seen[1][output]) for output, array in seen[0].items())


@pytest.mark.parametrize("name", NETWORKS)
def test_small_networks_are_near_onnx_runtime(name: str) -> None:
    model = canonical(NETWORKS[name](seed=1))
    compiled, session, off = twin(model), Session(model, 1), []
    for feeds in rows(model, 2, 1.0):
        got, wanted = compiled.run(feeds), session.run(feeds)
        for output, array in wanted.items():
            largest = float(np.abs(array.astype(float)).max()) or 1.0
            off.append((np.abs(got[output].astype(float) - array) / largest).ravel())
    found = np.concatenate(off)
    assert np.mean(found > 0.05) < 0.01 and found.max() < 0.1


@pytest.mark.parametrize("name", ON_BOARD)
def test_board_gives_what_this_machine_gives(name: str, data_dir: Path) -> None:
    model = with_states(flow.load_model(data_dir / "models" / f"{name}.tflite"), ["none"])
    same_on_board(model, TARGET, rows(model, 2, 10.0))


@pytest.mark.parametrize(("name", "target"), [("joined", "cortex-m0plus"), ("dense", "riscv32imc")])
def test_cores_without_floats_give_the_same(name: str, target: str) -> None:
    model = canonical(NETWORKS[name](seed=2))
    same_on_board(model, target, rows(model, 1, 1.0))


def same_on_board(model: ir.Model, name: str, feeds: list[dict[str, np.ndarray]]) -> None:
    compiled, (_, board) = twin(model), on_board(model, name, CHIPS[name])
    for row in feeds:
        given = {key: array.astype(np.float32) for key, array in row.items()}
        there = board.run_rows({key: array[None] for key, array in given.items()})
        for output, array in compiled.run(given).items():
            assert np.array_equal(there[output].reshape(array.shape), array)
