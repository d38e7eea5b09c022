from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
from library_runner import Context, build, load
from onnx import TensorProto, helper, numpy_helper
from region_cases import CASES, F, I, feeds_of, model_of, reals, recurrent, reference, whole, x

from edgeprune.errors import EdgepruneError
from edgeprune.lowering.plan import Buffer, Call, Constant, Layer, Plan, Port
from edgeprune.lowering.region import Region, lower_region
from edgeprune.target import load_target

TARGET = load_target("x86-64-v2")


def plan_of(model: onnx.ModelProto, region: Region, prefix: str = "") -> Plan:
    def ports(values: list[onnx.ValueInfoProto], names: dict[str, str]) -> tuple[Port, ...]:
        return tuple(
            Port(
                prefix + value.name,
                tuple(axis.dim_value for axis in value.type.tensor_type.shape.dim),
                str(helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)),
                names[value.name],
            )
            for value in values
        )

    outputs = ports(list(model.graph.output), region.outputs)
    given = {port.buffer for port in outputs}
    return Plan(
        ports(list(model.graph.input), region.inputs),
        outputs,
        tuple(Buffer(name, size) for name, size in region.buffers.items() if name not in given),
        tuple(Constant(name, value) for name, value in region.constants.items()),
        tuple(Call(c.symbol, c.arguments, c.writes, c.units, Layer(c.label, c.label, "tvm")) for c in region.calls),
        region.functions,
    )


def joined(plans: list[Plan]) -> Plan:
    parts = {
        field.name: tuple(item for plan in plans for item in getattr(plan, field.name))
        for field in dataclasses.fields(Plan)
        if field.name != "functions"
    }
    return Plan(**parts, functions={symbol: func for plan in plans for symbol, func in plan.functions.items()})


@pytest.fixture(scope="module")
def results() -> dict[str, np.ndarray]:
    """The outputs of every case, computed by one library with three threads."""
    plans = [
        plan_of(model, lower_region(model, TARGET, f"c{i}"), f"{name}/")
        for i, (name, model) in enumerate(CASES.items())
    ]
    plan = joined(plans)
    feeds = {f"{name}/{key}": value for name, model in CASES.items() for key, value in feeds_of(model).items()}
    context = Context(load(build(plan, TARGET).so), plan.inputs, plan.outputs, threads=3)
    made = context.run(feeds)
    context.close()
    return made


@pytest.mark.parametrize("name", CASES)
def test_one_op(results: dict[str, np.ndarray], name: str) -> None:
    for key, wanted in reference(CASES[name], feeds_of(CASES[name])).items():
        found = results[f"{name}/{key}"]
        assert found.dtype == wanted.dtype
        np.testing.assert_allclose(
            found.astype(np.float64), wanted.astype(np.float64), rtol=3e-5, atol=3e-6, equal_nan=True
        )


def run(model: onnx.ModelProto, threads: int = 2) -> dict[str, np.ndarray]:
    plan = plan_of(model, lower_region(model, TARGET, "r"))
    context = Context(load(build(plan, TARGET).so), plan.inputs, plan.outputs, threads)
    made = context.run(feeds_of(model))
    context.close()
    return made


def block() -> onnx.ModelProto:
    """A chain with an alias, a value that is used twice, and outputs of every awkward kind."""
    nodes = [
        helper.make_node("Softmax", ["x"], ["s"], axis=-1),
        helper.make_node("Reshape", ["s", "flat"], ["r"]),
        helper.make_node("MatMul", ["r", "w"], ["m"]),
        helper.make_node("Add", ["m", "b"], ["a"]),
        helper.make_node("Relu", ["a"], ["y"]),
        helper.make_node("Reshape", ["x", "flat"], ["passed"]),
        helper.make_node("Identity", ["b"], ["fixed"]),
    ]
    shapes = {"y": [16, 24], "r": [16, 16], "s": [2, 8, 16], "passed": [16, 16], "fixed": [24]}
    constants = {"flat": whole(16, 16), "w": reals(16, 24), "b": reals(24)}
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 8, 16])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def test_a_chain_with_aliases_and_awkward_outputs() -> None:
    model = block()
    found = run(model)
    for name, wanted in reference(model, feeds_of(model)).items():
        np.testing.assert_allclose(found[name], wanted, rtol=2e-5, atol=1e-6)


def test_every_output_has_a_buffer_of_its_own_that_a_call_writes() -> None:
    region = lower_region(block(), TARGET, "r")
    assert set(Counter(region.outputs.values()).values()) == {1}
    written = {name for call in region.calls for name in call.writes}
    assert set(region.outputs.values()) <= written & set(region.buffers)
    known = {*region.buffers, *region.constants, *region.inputs.values()}
    assert all(set(call.arguments) <= known and set(call.writes) <= set(call.arguments) for call in region.calls)
    assert all(name.startswith("r") for name in [*known, *region.functions])
    assert all(type(call.label) is str for call in region.calls)


def test_lowering_twice_gives_the_same_library() -> None:
    model = block()
    first, second = (build(plan_of(model, lower_region(model, TARGET, "r")), TARGET) for _ in range(2))
    assert first.so == second.so


@pytest.mark.parametrize(("op", "constants"), [("NonZero", {}), ("Compress", {"c": np.array([True, False, True])})])
def test_what_has_no_static_form_is_a_clear_error(op: str, constants: dict[str, np.ndarray]) -> None:
    model = model_of(op, x(3, 4), constants)
    with pytest.raises(EdgepruneError, match=op) as caught:
        lower_region(model, TARGET, "r")
    assert caught.value.code == "op-unsupported"
    assert f"the_{op}" in caught.value.where
    assert "lowering" in caught.value.where


def test_a_rare_form_of_a_recurrent_layer_is_a_clear_error() -> None:
    with pytest.raises(EdgepruneError, match="LSTM with attribute clip") as caught:
        lower_region(recurrent("LSTM", 4, 1, clip=1.0), TARGET, "r")
    assert caught.value.code == "op-unsupported"


def test_the_error_names_the_op_among_others() -> None:
    model = block()
    model.graph.node.append(helper.make_node("NoSuchOp", ["y"], ["z"], name="odd"))
    with pytest.raises(EdgepruneError, match="NoSuchOp") as caught:
        lower_region(model, TARGET, "r")
    assert caught.value.where == "node odd, stage lowering"


def test_a_small_language_model_as_one_region(data_dir: Path) -> None:
    model = onnx.load(data_dir / "models" / "stories260K" / "stories260K_t64.onnx")
    found = run(model)["logits"]
    wanted = reference(model, feeds_of(model))["logits"]
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-3)


@pytest.mark.parametrize("op", ["Gather", "GatherElements", "GatherND"])
def test_an_index_beyond_the_data_reads_the_nearest_entry(op: str) -> None:
    shape = (2, 1) if op == "GatherND" else (2, 6)
    model = model_of(op, {"x": ((5, 6), F), "i": (shape, I)})
    feeds = feeds_of(model)
    given, near = (np.broadcast_to(np.array(pair, np.int64)[:, None], shape) for pair in ([10**15, -(10**15)], [4, 0]))
    plan = plan_of(model, lower_region(model, TARGET, "r"))
    context = Context(load(build(plan, TARGET).so), plan.inputs, plan.outputs, 1)
    found = context.run({**feeds, "i": given})["y0"]
    context.close()
    np.testing.assert_array_equal(found, reference(model, {**feeds, "i": near})["y0"])
