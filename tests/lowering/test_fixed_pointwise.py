"""Sums, differences and products of integers whose shapes broadcast: whole numbers, LiteRT, an emulated board."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from library_runner import Context, build, load

from edgeprune import flow
from edgeprune.kernels.abi import Format
from edgeprune.kernels.fixed_point.addition import Addition
from edgeprune.kernels.fixed_point.multiplication import Multiplication
from edgeprune.lowering.lower import lower
from edgeprune.lowering.plan import Call, Plan
from edgeprune.road.twin import twin_target
from edgeprune.target import load_target

sys.path[:0] = [str(Path(__file__).parents[1] / "frontend")]

from tflite_writer import Writer  # noqa: E402

TARGET = load_target("cortex-m4")
LEFT, RIGHT, OUT = (0.05, 3), (0.02, -5), (0.07, 11)
IMAGE = (2, 4, 5, 6)
SHAPES = [
    (IMAGE, (1, 1, 1, 6)),
    ((1, 1, 1, 6), IMAGE),
    (IMAGE, (2, 4, 5, 1)),
    (IMAGE, (1, 1, 1, 1)),
    ((2, 4, 1, 6), (1, 1, 5, 6)),
    ((3, 7), (3, 1)),
    ((2, 3, 5), (5,)),
    (IMAGE, IMAGE),
]
OPS = ("ADD", "SUB", "MUL")
NONE, RELU, RELU6 = 0, 1, 3
DTYPES = {"INT8": np.int8, "UINT8": np.uint8}


def model_of(
    op: str,
    shapes: tuple[tuple[int, ...], tuple[int, ...]],
    constant: np.ndarray | None = None,
    fused: int = NONE,
    kind: str = "INT8",
    swapped: bool = False,
) -> bytes:
    """A model of one operator, with the second input `constant` where that is given, or the first where `swapped`."""
    moved = 128 if kind == "UINT8" else 0
    left, right, out = ((scale, zero + moved) for scale, zero in (LEFT, RIGHT, OUT))
    writer = Writer()
    first = writer.tensor(shapes[0], kind, left)
    second = writer.tensor(shapes[1], kind, right) if constant is None else writer.constant(constant, right)
    result = writer.tensor(np.broadcast_shapes(*shapes), kind, out)
    operands = [second, first] if swapped else [first, second]
    writer.node(op, operands, [result], f"{op.title()}Options", {"fusedActivationFunction": fused})
    return writer.finish([first, second] if constant is None else [first], [result])


def formats(kind: str) -> list[Format]:
    return [Format("int8", float(np.float32(scale)), zero, -128, 127) for scale, zero in (LEFT, RIGHT, OUT)]


def arithmetic(op: str, fused: int, swapped: bool = False) -> Addition | Multiplication:
    left, right, out = formats("INT8")
    left, right = (right, left) if swapped else (left, right)
    low = -128 if fused == NONE else out.zero
    high = min(127, out.zero + round(6 / out.scale)) if fused == RELU6 else 127
    if op == "MUL":
        return Multiplication.of(left, right, out, low, high)
    return Addition.of(left, right, out, low, high, 1 if op == "ADD" else -1)


def stored(shape: tuple[int, ...], seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(-128, 128, shape).astype(np.int8)


def real(array: np.ndarray, form: Format) -> np.ndarray:
    return ((array.astype(np.float64) - form.zero) * form.scale).astype(np.float32)


def planned(content: bytes, path: Path) -> tuple[ir.Model, Plan]:
    path.write_bytes(content)
    model = flow.load_model(path)
    return model, lower(model, twin_target(TARGET))


def computed(content: bytes, path: Path, arrays: list[np.ndarray]) -> np.ndarray:
    """What the compiled model stores of int8 inputs; every kernel of it works on integers."""
    model, plan = planned(content, path)
    kernels = [step.layer.kernel for step in lower(model, TARGET).steps if isinstance(step, Call)]
    assert sum(kernel.startswith("fixed") for kernel in kernels) == 1
    assert all(kernel.startswith(("fixed", "move")) for kernel in kernels)
    context = Context(load(build(plan, twin_target(TARGET)).so), plan.inputs, plan.outputs)
    names = [value.name for value in model.graph.inputs]
    feeds = {name: real(array, form) for name, array, form in zip(names, arrays, formats("INT8"), strict=False)}
    (found,) = context.run(feeds).values()
    out = formats("INT8")[2]
    return (np.rint(found / np.float32(out.scale)) + out.zero).astype(np.int8)


def litert(content: bytes, arrays: list[np.ndarray]) -> np.ndarray:
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    reference = Interpreter(model_content=content, experimental_op_resolver_type=OpResolverType.BUILTIN_REF)
    reference.allocate_tensors()
    for port, array in zip(reference.get_input_details(), arrays, strict=True):
        reference.set_tensor(port["index"], array)
    reference.invoke()
    return reference.get_tensor(reference.get_output_details()[0]["index"])


def near(found: np.ndarray, wanted: np.ndarray) -> None:
    """LiteRT's wheel rounds twice, which differs by one step in a result of some hundred."""
    difference = np.abs(found.astype(int) - wanted.astype(int))
    assert difference.max() <= 1 and np.count_nonzero(difference) <= 1 + 0.01 * difference.size


@pytest.mark.parametrize("shapes", SHAPES)
def test_two_inputs(shapes: tuple[tuple[int, ...], tuple[int, ...]], tmp_path: Path) -> None:
    arrays = [stored(shape, seed) for seed, shape in enumerate(shapes)]
    op, fused = OPS[len(shapes[1]) % 3], RELU6 if shapes[0] == IMAGE else NONE
    content = model_of(op, shapes, fused=fused)
    found = computed(content, tmp_path / "m.tflite", arrays)
    np.testing.assert_array_equal(found, arithmetic(op, fused).apply(*arrays))
    near(found, litert(content, arrays))


@pytest.mark.parametrize(
    ("op", "shape"), [("ADD", (6,)), ("SUB", (4, 1, 6)), ("SUB", ()), ("MUL", (1,)), ("MUL", (6,)), ("MUL", IMAGE)]
)
def test_a_constant(op: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    x, constant = stored(IMAGE, 0), stored(shape, 1)
    swapped = op == "SUB"
    content = model_of(op, (IMAGE, shape), constant, RELU, swapped=swapped)
    found = computed(content, tmp_path / "m.tflite", [x])
    operands = (constant, x) if swapped else (x, constant)
    np.testing.assert_array_equal(found, arithmetic(op, RELU, swapped).apply(*operands))
    near(found, litert(content, [x]))


def test_unsigned_integers_are_signed_ones_moved(tmp_path: Path) -> None:
    x, constant = stored(IMAGE, 0), stored((6,), 1)
    moved = (constant.astype(int) + 128).astype(np.uint8)
    content = model_of("MUL", (IMAGE, (6,)), moved, kind="UINT8")
    found = computed(content, tmp_path / "m.tflite", [x])
    np.testing.assert_array_equal(found, arithmetic("MUL", NONE).apply(x, constant))
