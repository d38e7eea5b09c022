"""The elementwise functions a kernel can apply: one row each, by ONNX op name."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special
from tvm import tirx

from edgeprune.kernels.abi import Activation
from edgeprune.kernels.storage import converted
from edgeprune.kernels.vector_math import (
    absolute,
    bind,
    constant,
    erf,
    exp,
    log,
    log1p_of_unit,
    maximum,
    minimum,
    select,
    tanh,
)

SIMPLE = frozenset(("Abs", "Clip", "HardSigmoid", "HardSwish", "LeakyRelu", "Neg", "Relu", "Sign", "ThresholdedRelu"))
"""What is computed in float16 as well as float16 can hold it."""


@dataclass(frozen=True)
class Rule:
    """One function of x and two parameters.

    `expression` makes it of a float32 TensorIR expression; `reference` computes it of a numpy array, float64
    inside, with nothing in common with the first.
    """

    expression: Callable[[Any, float, float], Any]
    reference: Callable[[np.ndarray, float, float], np.ndarray]


def activate(activation: Activation, value: Any) -> Any:
    """The TensorIR expression of `activation` of a float32 or float16 expression of any lanes.

    It is float32 where float16 would do the function harm. Raises KeyError where ACTIVATIONS has no row of that name.
    """
    rule = ACTIVATIONS[activation.name]
    if activation.name not in SIMPLE:
        value = converted(value, "float32")
    return bind(value, lambda x: rule.expression(x, activation.alpha, activation.beta), "x")


def reference(activation: Activation, x: np.ndarray) -> np.ndarray:
    """`activation` of `x` in numpy, float32."""
    with np.errstate(all="ignore"):
        wide = ACTIVATIONS[activation.name].reference(x.astype(np.float64), activation.alpha, activation.beta)
        return wide.astype(np.float32)


def _expm1_scaled(x: Any, scale: float) -> Any:
    near = x * (constant(1.0, x) + x * (constant(0.5, x) + x * (constant(1 / 6, x) + x * constant(1 / 24, x))))
    far = exp(x) - constant(1.0, x)
    return constant(scale, x) * select(absolute(x) < constant(0.03, x), near, far)


def _elu(x: Any, alpha: float, gamma: float = 1.0) -> Any:
    return select(x > constant(0.0, x), constant(gamma, x) * x, _expm1_scaled(minimum(x, 0.0), gamma * alpha))


def _celu(x: Any, alpha: float) -> Any:
    below = bind(minimum(x * constant(1 / alpha, x), 0.0), lambda z: _expm1_scaled(z, alpha), "z")
    return select(x > constant(0.0, x), x, below)


def _sigmoid(x: Any) -> Any:
    one = constant(1.0, x)
    return one / (one + exp(constant(0.0, x) - x))


def _hard_sigmoid(x: Any, alpha: float, beta: float) -> Any:
    return minimum(maximum(constant(alpha, x) * x + constant(beta, x), 0.0), 1.0)


def _gelu(x: Any) -> Any:
    return constant(0.5, x) * x * (constant(1.0, x) + erf(x * constant(math.sqrt(0.5), x)))


def _gelu_tanh(x: Any) -> Any:
    inner = constant(math.sqrt(2 / math.pi), x) * (x + constant(0.044715, x) * (x * x) * x)
    return constant(0.5, x) * x * (constant(1.0, x) + tanh(inner))


def _softplus(x: Any) -> Any:
    return maximum(x, 0.0) + log1p_of_unit(exp(constant(0.0, x) - absolute(x)))


def _mish(x: Any) -> Any:
    two = constant(2.0, x)

    def ratio(e: Any) -> Any:
        return bind(e * (e + two), lambda n: n / (n + two), "n")

    return x * bind(exp(minimum(x, 20.0)), ratio, "e")


def _sign(x: Any) -> Any:
    zero, one = constant(0.0, x), constant(1.0, x)
    return select(x > zero, one, select(x < zero, zero - one, x))


def _thresholded(x: Any, alpha: float) -> Any:
    return select(x > constant(alpha, x), x, constant(0.0, x))


def _leaky(x: Any, alpha: float) -> Any:
    return select(x < constant(0.0, x), constant(alpha, x) * x, x)


def _gelu_reference(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * (1 + special.erf(x / np.sqrt(2)))


def _gelu_tanh_reference(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def _selu_reference(x: np.ndarray, alpha: float, gamma: float) -> np.ndarray:
    return gamma * np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


ACTIVATIONS: Mapping[str, Rule] = {
    "Abs": Rule(lambda x, a, b: absolute(x), lambda x, a, b: np.abs(x)),
    "Ceil": Rule(lambda x, a, b: tirx.ceil(x), lambda x, a, b: np.ceil(x)),
    "Celu": Rule(lambda x, a, b: _celu(x, a), lambda x, a, b: np.maximum(x, 0) + a * np.expm1(np.minimum(x, 0) / a)),
    "Clip": Rule(lambda x, a, b: minimum(maximum(x, a), b), lambda x, a, b: np.clip(x, a, b)),
    "Elu": Rule(lambda x, a, b: _elu(x, a), lambda x, a, b: np.where(x > 0, x, a * np.expm1(np.minimum(x, 0)))),
    "Erf": Rule(lambda x, a, b: erf(x), lambda x, a, b: special.erf(x)),
    "Exp": Rule(lambda x, a, b: exp(x), lambda x, a, b: np.exp(x)),
    "Floor": Rule(lambda x, a, b: tirx.floor(x), lambda x, a, b: np.floor(x)),
    "Gelu": Rule(lambda x, a, b: _gelu(x), lambda x, a, b: _gelu_reference(x)),
    "GeluTanh": Rule(lambda x, a, b: _gelu_tanh(x), lambda x, a, b: _gelu_tanh_reference(x)),
    "HardSigmoid": Rule(_hard_sigmoid, lambda x, a, b: np.clip(a * x + b, 0, 1)),
    "HardSwish": Rule(lambda x, a, b: x * _hard_sigmoid(x, 1 / 6, 0.5), lambda x, a, b: x * np.clip(x + 3, 0, 6) / 6),
    "LeakyRelu": Rule(lambda x, a, b: _leaky(x, a), lambda x, a, b: np.where(x < 0, a * x, x)),
    "Log": Rule(lambda x, a, b: log(x), lambda x, a, b: np.log(x)),
    "Mish": Rule(lambda x, a, b: _mish(x), lambda x, a, b: x * np.tanh(np.logaddexp(0, x))),
    "Neg": Rule(lambda x, a, b: constant(0.0, x) - x, lambda x, a, b: -x),
    "Reciprocal": Rule(lambda x, a, b: constant(1.0, x) / x, lambda x, a, b: 1 / x),
    "Relu": Rule(lambda x, a, b: maximum(x, 0.0), lambda x, a, b: np.maximum(x, 0)),
    "Round": Rule(lambda x, a, b: tirx.nearbyint(x), lambda x, a, b: np.rint(x)),
    "Selu": Rule(lambda x, a, b: _elu(x, a, b), lambda x, a, b: _selu_reference(x, a, b)),
    "Sigmoid": Rule(lambda x, a, b: _sigmoid(x), lambda x, a, b: special.expit(x)),
    "Sign": Rule(lambda x, a, b: _sign(x), lambda x, a, b: np.sign(x)),
    "Silu": Rule(lambda x, a, b: x * _sigmoid(x), lambda x, a, b: x * special.expit(x)),
    "Softplus": Rule(lambda x, a, b: _softplus(x), lambda x, a, b: np.logaddexp(0, x)),
    "Softsign": Rule(lambda x, a, b: x / (constant(1.0, x) + absolute(x)), lambda x, a, b: x / (1 + np.abs(x))),
    "Sqrt": Rule(lambda x, a, b: tirx.sqrt(x), lambda x, a, b: np.sqrt(x)),
    "Tanh": Rule(lambda x, a, b: tanh(x), lambda x, a, b: np.tanh(x)),
    "ThresholdedRelu": Rule(lambda x, a, b: _thresholded(x, a), lambda x, a, b: np.where(x > a, x, 0)),
}
