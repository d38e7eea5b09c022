"""Operators that work on each element, or on rows of the last axis."""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir

from edgeprune.frontend.tflite.activation import activated, bounded
from edgeprune.frontend.tflite.call import Call
from edgeprune.frontend.tflite.graph import shape_of

Convert = Callable[[Call], None]


def unary(op: str, **attributes: float | int | str) -> Convert:
    """One ONNX operator, in the order of axes at hand."""

    def convert(call: Call) -> None:
        order = call.order(0)
        call.put(call.add(op, call.get(0, order), **attributes), order)

    return convert


def clip(lowest: float, highest: float) -> Convert:
    """An activation that keeps its input between two numbers."""

    def convert(call: Call) -> None:
        order = call.order(0)
        call.put(bounded(call, call.get(0, order), lowest, highest), order)

    return convert


def binary(op: str, *, then: str = "", swapped: bool = False) -> Convert:
    """One ONNX operator on two inputs that broadcast, `then` another on its result, and the fused activation."""

    def convert(call: Call) -> None:
        order = call.common_order(0, 1)
        operands = [call.aligned(place, order) for place in ((1, 0) if swapped else (0, 1))]
        value = call.add(op, *operands)
        call.put(activated(call, call.add(then, value) if then else value), order)

    return convert


def divide(call: Call) -> None:
    """Division; of integers it rounds towards zero, as ONNX does."""
    binary("Div")(call)


def floor_divide(call: Call) -> None:
    """The quotient rounded down."""
    if call.get(0).dtype == ir.DataType.FLOAT:
        binary("Div", then="Floor")(call)
        return
    left, right = (call.add("Cast", call.get(place), to=int(ir.DataType.DOUBLE)) for place in (0, 1))
    quotient = call.add("Floor", call.add("Div", left, right))
    call.put(call.add("Cast", quotient, to=int(call.get(0).dtype or ir.DataType.INT32)))


def floor_modulo(call: Call) -> None:
    """The rest after rounding down; it has the sign of the divisor."""
    left, right = call.get(0), call.get(1)
    if left.dtype != ir.DataType.FLOAT:
        call.put(call.add("Mod", left, right))
        return
    whole = call.add("Floor", call.add("Div", left, right))
    call.put(call.add("Sub", left, call.add("Mul", whole, right)))


def not_equal(call: Call) -> None:
    """Where two inputs differ."""
    call.put(call.add("Not", call.add("Equal", call.get(0), call.get(1))))


def squared_difference(call: Call) -> None:
    """(a - b) squared."""
    order = call.common_order(0, 1)
    difference = call.add("Sub", call.aligned(0, order), call.aligned(1, order))
    call.put(call.add("Mul", difference, difference), order)


def square(call: Call) -> None:
    """x times x."""
    order = call.order(0)
    call.put(call.add("Mul", call.get(0, order), call.get(0, order)), order)


def reciprocal_root(call: Call) -> None:
    """1 / sqrt(x)."""
    order = call.order(0)
    call.put(call.add("Reciprocal", call.add("Sqrt", call.get(0, order))), order)


def add_n(call: Call) -> None:
    """The sum of all inputs."""
    call.put(call.add("Sum", *(call.get(place) for place in range(len(call.operator.inputs)))))


def leaky_relu(call: Call) -> None:
    """x, or alpha * x where it is negative."""
    unary("LeakyRelu", alpha=float(call.option("Alpha")))(call)


def gelu(call: Call) -> None:
    """x * normal distribution(x), or its approximation by tanh."""
    unary("Gelu", approximate="tanh" if call.option("Approximate") else "none")(call)


def prelu(call: Call) -> None:
    """x, or slope * x where it is negative; slopes broadcast from the last axis."""
    order = call.common_order(0)
    call.put(call.add("PRelu", call.get(0, order), call.aligned(1, order)), order)


def cast(call: Call) -> None:
    """Another type, by TFLite's rules those of C."""
    result = call.result()
    if result.dtype is None:
        raise call.refuse(f"type {result.kind}")
    order = call.order(0)
    kind = ir.DataType.FLOAT if result.dtype.kind == "f" else ir.DataType.from_numpy(result.dtype)
    call.put(call.add("Cast", call.get(0, order), to=int(kind)), order)


def softmax(call: Call) -> None:
    """Over the last axis; `Beta` scales the input."""
    _over_last_axis(call, "Softmax", float(call.option("Beta", 1.0)))


def log_softmax(call: Call) -> None:
    """The logarithm of softmax, over the last axis."""
    _over_last_axis(call, "LogSoftmax", 1.0)


def _over_last_axis(call: Call, op: str, beta: float) -> None:
    order = call.order(0)
    if not order:
        raise call.corrupt("a single number has no last axis")
    value = call.get(0, order)
    if beta != 1.0:
        value = call.add("Mul", value, call.constant(beta))
    call.put(call.add(op, value, axis=order.index(len(order) - 1)), order)


def l2_normalization(call: Call) -> None:
    """x / sqrt(sum of squares over the last axis), a sum of at least 1e-12."""
    order = call.order(0)
    value = call.get(0, order)
    last = call.vector([order.index(len(order) - 1)])
    total = call.add("ReduceSumSquare", value, last, keepdims=1)
    length = call.add("Sqrt", call.add("Max", total, call.constant(1e-12)))
    call.put(activated(call, call.add("Div", value, length)), order)


def local_response_normalization(call: Call) -> None:
    """x / (bias + alpha * sum of squares of the `Radius` channels on each side) ** beta."""
    size = 2 * int(call.option("Radius")) + 1
    order = call.order(0) if len(call.order(0)) != 4 else (0, 3, 1, 2)
    if len(order) != 4 or size < 1:
        raise call.corrupt("the input is no image")
    call.put(
        call.add(
            "LRN",
            call.get(0, order),
            size=size,
            alpha=float(call.option("Alpha")) * size,
            beta=float(call.option("Beta")),
            bias=float(call.option("Bias")),
        ),
        order,
    )


def select(call: Call) -> None:
    """Elements of the second input where the first is true, else of the third."""
    condition, yes, no = (call.get(place) for place in range(3))
    missing = len(shape_of(yes)) - len(shape_of(condition))
    if call.operator.name == "SELECT" and len(shape_of(condition)) == 1 and missing > 0:
        condition = call.reshaped(condition, (*shape_of(condition), *(1,) * missing))
    call.put(call.add("Where", condition, yes, no))


def zeros_like(call: Call) -> None:
    """Zeros in the shape of the input."""
    value = call.get(0)
    assert value.dtype is not None
    call.put(call.add("Expand", call.constant(0, value.dtype.numpy()), call.vector(shape_of(value))))
