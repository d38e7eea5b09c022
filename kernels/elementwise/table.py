"""Functions of one stored integer as a table of all its values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from edgeprune.kernels.abi import Activation, Format, Rounded
from edgeprune.kernels.activation import reference
from edgeprune.kernels.elementwise.program import Step
from edgeprune.kernels.storage import read_array, rounded_array, written_array

MOST_VALUES = 1024
_COSTLY = frozenset(
    (
        "Celu",
        "Elu",
        "Erf",
        "Exp",
        "Gelu",
        "GeluTanh",
        "Log",
        "Mish",
        "Pow",
        "Selu",
        "Sigmoid",
        "Silu",
        "Softplus",
        "Tanh",
    )
)


def table_of(program: Sequence[Step], inputs: Sequence[Format], output: Format) -> np.ndarray | None:
    """What `output` stores of `program` for every value that its one input stores, lowest first.

    None where arithmetic is as fast, which takes a step without exponentials or logarithms, and where there are
    more inputs or too many values.
    """
    if len(inputs) != 1 or not inputs[0].quantized or not output.quantized:
        return None
    low, high = inputs[0].low, inputs[0].high
    if high - low >= MOST_VALUES or not any(_name(step) in _COSTLY for step in program):
        return None
    values = read_array(np.arange(low, high + 1), inputs[0])
    with np.errstate(all="ignore"):
        results = _evaluated(program, values)
    return written_array(np.where(np.isnan(results), np.float32(0), results), output)


def _name(step: Step) -> str:
    return step.name if isinstance(step, Activation) else "" if isinstance(step, Rounded) else str(step[0])


def _evaluated(program: Sequence[Step], values: np.ndarray) -> np.ndarray:
    """`program` of float32 `values` in numpy."""
    stack: list[Any] = []
    for step in program:
        if isinstance(step, Activation):
            stack.append(reference(step, stack.pop()))
        elif isinstance(step, Rounded):
            stack.append(rounded_array(stack.pop(), step.format))
        elif step[0] == "input":
            stack.append(values)
        elif step[0] == "constant":
            stack.append(np.full_like(values, step[1]))
        elif step[0] == "Where":
            stack[-3:] = [np.where(stack[-3] != 0, stack[-2], stack[-1])]
        else:
            stack[-2:] = [ARRAYS[step[0]](stack[-2], stack[-1]).astype(np.float32)]
    if len(stack) != 1:
        raise ValueError(f"the program leaves {len(stack)} values")
    result: np.ndarray = stack[0]
    return result


ARRAYS: Mapping[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Div": np.divide,
    "Max": np.maximum,
    "Min": np.minimum,
    "Pow": np.power,
    "PRelu": lambda a, b: np.where(a < 0, a * b, a),
    "Greater": np.greater,
    "GreaterOrEqual": np.greater_equal,
    "Less": np.less,
    "LessOrEqual": np.less_equal,
    "Equal": np.equal,
}
