"""Programs of elementwise steps as TensorIR expressions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tvm import tirx

from edgeprune.kernels import script, vector_math
from edgeprune.kernels.abi import Activation, Format, Rounded
from edgeprune.kernels.activation import SIMPLE, activate
from edgeprune.kernels.storage import added, centred, multiplied_and_added, real, rounded

Step = Activation | Rounded | tuple[Any, ...]
_SIMPLE_STEPS = frozenset(("input", "Add", "Sub", "Mul", "Max", "Min", "PRelu"))


@dataclass(frozen=True)
class Held:
    """An operand as it was loaded: what `format` stores; `as_it_is`: its real numbers are computed with in its type."""

    value: Any
    format: Format
    as_it_is: bool = False

    def real(self) -> Any:
        """The expression of its numbers, float32 unless it is taken as it is."""
        return self.value if self.as_it_is else real(self.value, self.format)


def is_simple(program: Sequence[Step]) -> bool:
    """Whether float16 computes `program` as well as it can hold what that gives: no functions, and no constants."""
    return all(
        step.name in SIMPLE if isinstance(step, Activation) else isinstance(step, tuple) and step[0] in _SIMPLE_STEPS
        for step in program
    )


def evaluate(program: Sequence[Step], inputs: Sequence[Held], lanes: int) -> Any:
    """The expression of `program`, in postfix order as `Elementwise` has it, over `inputs` of `lanes` lanes.

    Raises ValueError where the program does not leave one value, KeyError where it names an unknown operator.
    """
    stack: list[Any] = []
    for position, step in enumerate(program):
        if isinstance(step, Activation):
            stack.append(activate(step, _real(stack.pop())))
        elif isinstance(step, Rounded):
            stack.append(rounded(_real(stack.pop()), step.format))
        elif step[0] == "input":
            stack.append(inputs[step[1]])
        elif step[0] == "constant":
            stack.append(script.splat(float(step[1]), lanes))
        elif step[0] == "Where":
            condition, chosen, otherwise = (_real(value) for value in stack[-3:])
            stack[-3:] = [tirx.Select(tirx.NE(condition, script.splat(0.0, lanes)), chosen, otherwise)]
        else:
            left, right = stack[-2:]
            stack[-2:] = [_binary(step[0], left, right, _constant(program[position - 1]))]
    if len(stack) != 1:
        raise ValueError(f"the program leaves {len(stack)} values")
    return _real(stack[0])


def _real(value: Any) -> Any:
    return value.real() if isinstance(value, Held) else value


def _is_integer(value: Any) -> bool:
    return isinstance(value, Held) and value.format.quantized


def _constant(step: Step) -> float | None:
    return float(step[1]) if isinstance(step, tuple) and step[0] == "constant" else None


def _binary(name: str, left: Any, right: Any, constant: float | None) -> Any:
    if name == "Add" and (_is_integer(left) or _is_integer(right)):
        whole, other = (right, left) if _is_integer(right) else (left, right)
        return added(_real(other), whole.value, whole.format)
    if name == "Sub" and (_is_integer(left) or _is_integer(right)):
        return _difference(left, right)
    left, right = _real(left), _real(right)
    if name == "Pow" and constant is not None:
        return _constant_power(script.keep(left), constant)
    if name == "Pow":
        return power(script.keep(left), script.keep(right))
    if name == "PRelu":
        left = script.keep(left)
    return BINARY[name](left, right)


def _difference(left: Any, right: Any) -> Any:
    """left - right where one of them is of integers, which are scaled and added with one rounding."""
    if _is_integer(right):
        whole, sign, other = right, -1.0, _real(left)
    else:
        whole, sign, other = left, 1.0, _negative(_real(right))
    value = centred(whole.value, whole.format)
    return multiplied_and_added(value, vector_math.constant(sign * whole.format.scale, value), other)


def _negative(value: Any) -> Any:
    return vector_math.constant(-1.0, value) * value


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
