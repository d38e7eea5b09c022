"""Float32 functions as TensorIR expressions of plain arithmetic, so that every lane stays in vector registers.

Each function takes a float32 expression, scalar or vector, and gives one of the same lanes; those that only compare,
add and multiply take float16 too. Polynomials of exp,
tanh and erf are those of the Cephes mathematical library (S. L. Moshier), good to about 1e-7 relative.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from tvm import DataType, tirx

HALF = "float16"
LARGEST_HALF = 65504.0
"""The largest number of float16."""

_EXP = (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1)
_TANH = (-5.70498872745e-3, 2.06390887954e-2, -5.37397155531e-2, 1.33314422036e-1, -3.33332819422e-1)
_ERF = (7.853861353153693e-5, -8.010193625184903e-4, 5.188327685732524e-3, -2.685381193529856e-2)
_ERF_REST = (1.128358514861418e-1, -3.761262582423300e-1, 1.128379165726710)
_LOG = (7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1)
_LOG_REST = (-1.6668057665e-1, 2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1)
# log(1 - erf(a)) for a in [1, 4], fitted at Chebyshev nodes with the weight that makes erf's relative error even
_LOG_ERFC = (
    1.693737431e-4,
    -2.787490143e-3,
    2.122259513e-2,
    -1.018707231e-1,
    -6.395142674e-1,
    -1.126294732,
    -5.302263889e-4,
)
_LN2_HIGH, _LN2_LOW = 0.693359375, -2.12194440e-4


def lanes_of(value: Any) -> int:
    """The number of float32 lanes of an expression."""
    return int(DataType(str(value.ty)).lanes)


def real_type(value: Any) -> str:
    """The type in which a real-valued expression is computed further: float16 if it is that, else float32."""
    return HALF if str(value.ty).startswith(HALF) else "float32"


def constant(value: float, like: Any, dtype: str | None = None) -> Any:
    """`value` in every lane of an expression as wide as `like`, and of its real type unless `dtype` says another."""
    scalar = tirx.const(value, dtype or real_type(like))
    lanes = lanes_of(like)
    return scalar if lanes == 1 else tirx.Broadcast(scalar, lanes)


def bind(value: Any, body: Callable[[Any], Any], name: str = "v") -> Any:
    """`body` of a variable that holds `value`, so that a value used twice is computed once."""
    variable = tirx.Var(name, str(value.ty))
    return tirx.Let(variable, value, body(variable))


def polynomial(x: Any, coefficients: Sequence[float]) -> Any:
    """The polynomial in `x`, highest power first, by Horner's rule."""
    total = constant(coefficients[0], x)
    for coefficient in coefficients[1:]:
        total = total * x + constant(coefficient, x)
    return total


def select(condition: Any, chosen: Any, otherwise: Any) -> Any:
    """`chosen` in the lanes where `condition` holds, else `otherwise`; both are computed."""
    return tirx.Select(condition, chosen, otherwise)


def maximum(x: Any, bound: float) -> Any:
    """The larger of `x` and the scalar `bound`."""
    return tirx.max(x, constant(_within(bound, x), x))


def minimum(x: Any, bound: float) -> Any:
    """The smaller of `x` and the scalar `bound`."""
    return tirx.min(x, constant(_within(bound, x), x))


def _within(bound: float, like: Any) -> float:
    """`bound` as far as the type of `like` can hold it."""
    return min(max(bound, -LARGEST_HALF), LARGEST_HALF) if real_type(like) == HALF else bound


def absolute(x: Any) -> Any:
    """The magnitude of `x`."""
    return tirx.max(x, constant(0.0, x) - x)


def _integer(value: Any) -> str:
    lanes = lanes_of(value)
    return "int32" if lanes == 1 else f"int32x{lanes}"


def _power_of_two(exponent: Any) -> Any:
    bits = (tirx.Cast(_integer(exponent), exponent) + constant(127, exponent, "int32")) * constant(
        1 << 23, exponent, "int32"
    )
    return tirx.reinterpret(str(exponent.ty), bits)


def exp(x: Any) -> Any:
    """e to the power of `x`; results stay within the finite normal float32 numbers."""

    def reduced(x: Any, n: Any) -> Any:
        return x - n * constant(_LN2_HIGH, x) - n * constant(_LN2_LOW, x)

    def series(r: Any) -> Any:
        return polynomial(r, _EXP) * (r * r) + r + constant(1.0, r)

    def scaled(x: Any) -> Any:
        whole = tirx.floor(x * constant(1 / math.log(2), x) + constant(0.5, x))
        return bind(whole, lambda n: bind(reduced(x, n), series, "r") * _power_of_two(n), "n")

    return bind(minimum(maximum(x, -87.3), 88.37), scaled, "x")


def log(x: Any) -> Any:
    """The natural logarithm of positive `x`; minus infinity at zero, NaN below."""

    def split(bits: Any) -> Any:
        lowest = constant(0x3F3504F3, x, "int32")
        exponent = tirx.shift_right(bits - lowest, constant(23, x, "int32"))
        return bind(exponent, lambda e: mantissa(bits, e), "e")

    def mantissa(bits: Any, e: Any) -> Any:
        fraction = tirx.reinterpret(str(x.ty), bits - e * constant(1 << 23, x, "int32"))
        return bind(fraction - constant(1.0, x), lambda m: combined(m, tirx.Cast(str(x.ty), e)), "m")

    def combined(m: Any, e: Any) -> Any:
        tail = polynomial(m, _LOG + _LOG_REST) * m * (m * m) - constant(0.5, m) * (m * m)
        return m + (tail + e * constant(_LN2_LOW, m)) + e * constant(_LN2_HIGH, m)

    zero = constant(0.0, x)
    value = bind(tirx.reinterpret(_integer(x), x), split, "bits")
    below = select(x < zero, constant(math.nan, x), value)
    return select(tirx.EQ(x, zero), constant(-math.inf, x), below)


def log1p_of_unit(t: Any) -> Any:
    """log(1 + t) for t in [0, 1], as twice the area hyperbolic tangent of t / (2 + t)."""
    odd = [1 / (2 * power + 1) for power in range(8, -1, -1)]

    def series(s: Any) -> Any:
        return constant(2.0, s) * s * polynomial(s * s, odd)

    return bind(t, lambda t: bind(t / (t + constant(2.0, t)), series, "s"), "t")


def tanh(x: Any) -> Any:
    """The hyperbolic tangent."""

    def small(x: Any) -> Any:
        return x + x * (x * x) * polynomial(x * x, _TANH)

    def large(x: Any) -> Any:
        one, two = constant(1.0, x), constant(2.0, x)
        return one - two / (exp(x + x) + one)

    def either(x: Any) -> Any:
        return select(absolute(x) < constant(0.625, x), small(x), large(x))

    return bind(minimum(maximum(x, -20.0), 20.0), either, "x")


def erf(x: Any) -> Any:
    """The error function: a series up to 1, one minus the exponential of a polynomial beyond."""

    def small(x: Any) -> Any:
        return x * polynomial(x * x, _ERF + _ERF_REST)

    def large(x: Any) -> Any:
        return bind(minimum(absolute(x), 4.0), lambda a: constant(1.0, a) - exp(polynomial(a, _LOG_ERFC)), "a")

    def either(x: Any) -> Any:
        tail = bind(large(x), lambda tail: select(x < constant(0.0, x), constant(0.0, x) - tail, tail), "tail")
        return select(absolute(x) < constant(1.0, x), small(x), tail)

    return bind(x, either, "x")
