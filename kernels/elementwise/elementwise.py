"""Fused elementwise arithmetic over broadcast tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from tvm import tirx

from edgeprune.kernels import script, vector_math
from edgeprune.kernels.abi import Activation, Kernel, Machine, View
from edgeprune.kernels.activation import activate
from edgeprune.kernels.elementwise.axes import Units, advanced, merged, ordered, vectors, view_axes
from edgeprune.kernels.script import Memory

Step = Activation | tuple[Any, ...]


@dataclass(frozen=True)
class Elementwise:
    """y = program(inputs), element by element.

    `program` is in postfix order: ("input", i) and ("constant", value) push a value, an `Activation` replaces the
    last one, and (name,) of BINARY, ("Pow",) or ("Where",) takes its operands, the first one pushed first. An input
    that is broadcast along an axis has stride 0 there. `y` may be one of the inputs, in place, but must not otherwise
    overlap them.
    """

    y: View
    inputs: tuple[View, ...]
    program: tuple[Step, ...]


def build_elementwise(problem: Elementwise, machine: Machine) -> Kernel:
    """The kernel of `problem` over (inputs..., y).

    Raises ValueError where the program does not leave one value, KeyError where it names an unknown operator.
    """
    axes = merged(ordered(view_axes((problem.y, *problem.inputs))))
    return Kernel(_function(problem, machine.lanes), Units.of(axes).count, label="elementwise")


@lru_cache(maxsize=512)
def _function(problem: Elementwise, lanes: int) -> Any:
    views = (problem.y, *problem.inputs)
    axes = merged(ordered(view_axes(views)))
    units, strides = Units.of(axes), axes[-1].strides

    def body(memories: list[Memory], begin: Any, end: Any) -> None:
        def run(places: list[Any], extent: int) -> None:
            for first, width in vectors(extent, lanes):
                at = advanced(places, axes[-1], first)
                values = [
                    script.let(memory.load(index, width, stride))
                    for memory, index, stride in zip(memories[:-1], at[1:], strides[1:], strict=True)
                ]
                memories[-1].store(at[0], evaluate(problem.program, values, width), width, strides[0])

        units.emit(begin, end, [view.offset for view in views], run)

    return script.kernel_function([script.FLOAT] * len(views), body)


def evaluate(program: Sequence[Step], inputs: Sequence[Any], lanes: int) -> Any:
    """The expression of `program` over input expressions of `lanes` lanes.

    Raises ValueError and KeyError as `build_elementwise`.
    """
    stack: list[Any] = []
    for position, step in enumerate(program):
        if isinstance(step, Activation):
            stack.append(activate(step, stack.pop()))
        elif step[0] == "input":
            stack.append(inputs[step[1]])
        elif step[0] == "constant":
            stack.append(script.splat(float(step[1]), lanes))
        elif step[0] == "Where":
            condition, chosen, otherwise = stack[-3:]
            stack[-3:] = [tirx.Select(tirx.NE(condition, script.splat(0.0, lanes)), chosen, otherwise)]
        else:
            left, right = stack[-2:]
            constant = _constant(program[position - 1])
            stack[-2:] = [_binary(step[0], left, right, constant)]
    if len(stack) != 1:
        raise ValueError(f"the program leaves {len(stack)} values")
    return stack[0]


def _constant(step: Step) -> float | None:
    return None if isinstance(step, Activation) or step[0] != "constant" else float(step[1])


def _binary(name: str, left: Any, right: Any, constant: float | None) -> Any:
    if name == "Pow" and constant is not None:
        return _constant_power(script.keep(left), constant)
    if name == "Pow":
        return power(script.keep(left), script.keep(right))
    if name == "PRelu":
        left = script.keep(left)
    return BINARY[name](left, right)


def _constant_power(base: Any, exponent: float) -> Any:
    if exponent == 0.5:
        return tirx.sqrt(base)
    if exponent != int(exponent) or abs(exponent) > 16:
        return power(base, vector_math.constant(exponent, base))
    result = vector_math.constant(1.0, base)
    for _ in range(abs(int(exponent))):
        result = result * base
    return vector_math.constant(1.0, base) / result if exponent < 0 else result


def power(base: Any, exponent: Any) -> Any:
    """`base` to the power of `exponent`; a negative base needs a whole exponent, else the result is NaN.

    Both are plain values, such as `script.keep` gives, and are used more than once.
    """
    zero, one, two = (vector_math.constant(value, base) for value in (0.0, 1.0, 2.0))
    magnitude = vector_math.absolute(base)
    size = script.keep(vector_math.exp(exponent * vector_math.log(script.keep(magnitude))))
    half = script.keep(exponent / two)
    odd = tirx.Select(tirx.NE(tirx.floor(half), half), zero - size, size)
    whole = tirx.EQ(tirx.floor(exponent), exponent)
    below = tirx.Select(whole, odd, vector_math.constant(float("nan"), base))
    signed = tirx.Select(base < zero, below, size)
    at_zero = tirx.Select(exponent > zero, zero, vector_math.constant(float("inf"), base))
    vanishing = tirx.Select(tirx.EQ(base, zero), at_zero, signed)
    return tirx.Select(tirx.EQ(exponent, zero), one, vanishing)


def _flag(condition: Any, like: Any) -> Any:
    return tirx.Select(condition, vector_math.constant(1.0, like), vector_math.constant(0.0, like))


def _prelu(x: Any, slope: Any) -> Any:
    return tirx.Select(x < vector_math.constant(0.0, x), slope * x, x)


BINARY: Mapping[str, Callable[[Any, Any], Any]] = {
    "Add": lambda a, b: a + b,
    "Sub": lambda a, b: a - b,
    "Mul": lambda a, b: a * b,
    "Div": lambda a, b: a / b,
    "Max": tirx.max,
    "Min": tirx.min,
    "PRelu": _prelu,
    "Greater": lambda a, b: _flag(a > b, a),
    "GreaterOrEqual": lambda a, b: _flag(a >= b, a),
    "Less": lambda a, b: _flag(a < b, a),
    "LessOrEqual": lambda a, b: _flag(a <= b, a),
    "Equal": lambda a, b: _flag(tirx.EQ(a, b), a),
}
