from __future__ import annotations

import ctypes
from collections.abc import Callable

import numpy as np
import pytest
from library_runner import load
from scipy import special
from small_plan import small_plan

from edgeprune.lowering.aot import emit_source
from edgeprune.lowering.arena import allocate
from edgeprune.lowering.constants import pack_constants
from edgeprune.lowering.link import build_library
from edgeprune.target import load_target

TARGET = load_target("x86-64-v2")
Function = Callable[..., np.ndarray]


def away_from_zero(x: np.ndarray) -> np.ndarray:
    return np.copysign(np.floor(np.abs(x) + 0.5), x)


def power_of_ten(x: np.ndarray) -> np.ndarray:
    return np.power(10.0, x)


UNARY: dict[str, Function] = {
    "exp": np.exp, "exp2": np.exp2, "exp10": power_of_ten, "expm1": np.expm1,
    "log": np.log, "log2": np.log2, "log10": np.log10, "log1p": np.log1p,
    "sinh": np.sinh, "cosh": np.cosh, "tanh": np.tanh, "asinh": np.arcsinh, "acosh": np.arccosh, "atanh": np.arctanh,
    "sin": np.sin, "cos": np.cos, "tan": np.tan, "asin": np.arcsin, "acos": np.arccos, "atan": np.arctan,
    "erf": special.erf, "erfc": special.erfc, "sqrt": np.sqrt, "fabs": np.abs,
    "floor": np.floor, "ceil": np.ceil, "trunc": np.trunc, "round": away_from_zero,
    "rint": np.rint, "nearbyint": np.rint, "roundeven": np.rint,
}  # fmt: skip
BINARY: dict[str, Function] = {
    "pow": np.power, "fmod": np.fmod, "atan2": np.arctan2, "fmax": np.fmax, "fmin": np.fmin, "copysign": np.copysign,
}  # fmt: skip
# float64 results: units in the last place that the looser ones may be off
LOOSE = {"pow": 3000, "exp10": 3000, "erf": 40, "erfc": 3000, "round": 1, "sinh": 6, "expm1": 6, "atanh": 6, "tan": 6}


def loops(name: str, arity: int, suffix: str, kind: str) -> str:
    declared = ", ".join([kind] * arity)
    given = ", ".join(["x[i]", "y[i]"][:arity])
    return (
        f"{kind} {name}{suffix}({declared});\n"
        f"SHOW void edge_{name}{suffix}(const {kind} *x, const {kind} *y, {kind} *z, int n) "
        f"{{ for (int i = 0; i < n; i++) z[i] = {name}{suffix}({given}); }}\n"
    )


@pytest.fixture(scope="module")
def functions() -> ctypes.CDLL:
    source = '#define SHOW __attribute__((visibility("default")))\n'
    for arity, names in ((1, UNARY), (2, BINARY)):
        for name in names:
            source += loops(name, arity, "f", "float") + loops(name, arity, "", "double")
    source += "float fmaf(float, float, float); double fma(double, double, double);\n"
    source += "SHOW float edge_fmaf(float x, float y, float z) { return fmaf(x, y, z); }\n"
    source += "SHOW double edge_fma(double x, double y, double z) { return fma(x, y, z); }\n"
    plan = small_plan()
    packed = pack_constants(plan)
    sources = {**emit_source(plan, allocate(plan), packed, TARGET), "extra.c": source}
    return load(build_library(plan.functions, sources, packed.blob, TARGET).so)


def evaluate(functions: ctypes.CDLL, name: str, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    result = np.empty_like(x)
    addresses = [ctypes.c_void_p(array.ctypes.data) for array in (x, y, result)]
    getattr(functions, f"edge_{name}{'f' if x.dtype == np.float32 else ''}")(*addresses, x.size)
    return result


EDGES = [0.0, -0.0, 1, -1, 0.5, -0.5, np.inf, -np.inf, np.nan, 1e-45, -1e-45, 1e-38, 3e38, -3e38, 88.72, 88.73]
EDGES += [-103.9, -104.0, 2.5, 3.5, -2.5, 0.49999997, 8388609.5, -8388609.5, 4194304.5, 1e9, 22e9, 710.0, -745.5]


def samples(dtype: type, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    wide = generator.standard_normal(20000) * 10.0 ** generator.integers(-30, 30, 20000)
    near = [generator.standard_normal(20000) * 5, generator.uniform(-1, 1, 20000), generator.uniform(-110, 110, 5000)]
    return np.concatenate([wide, *near, EDGES]).astype(dtype)


def ulps(found: np.ndarray, wanted: np.ndarray, dtype: type) -> np.ndarray:
    """Distance in units in the last place of `dtype`; infinite where one is NaN and the other not."""
    rounded = wanted.astype(dtype)
    error = np.abs(found.astype(np.float64) - wanted) / np.spacing(np.abs(rounded)).astype(np.float64)
    same = (found == rounded) | (np.isnan(found) & np.isnan(rounded))
    return np.where(same, 0, np.where(np.isnan(error), np.inf, error))


@pytest.mark.parametrize("name", UNARY)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_one_argument(functions: ctypes.CDLL, name: str, dtype: type) -> None:
    x = samples(dtype)
    if dtype is np.float64 and name in ("sin", "cos", "tan"):
        x = x[np.abs(x) < 1e15]  # the reference reduces its own way beyond
    if name == "erfc":
        x = x[~((x > 26) & (x < 28))]  # the reference gives 0 for subnormal results
    error = ulps(evaluate(functions, name, x, x), UNARY[name](x.astype(np.float64)), dtype)
    assert error.max() <= (1 if dtype is np.float32 else LOOSE.get(name, 4)), x[error.argmax()]


@pytest.mark.parametrize("name", BINARY)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_two_arguments(functions: ctypes.CDLL, name: str, dtype: type) -> None:
    x, y = samples(dtype), np.random.default_rng(9).permutation(samples(dtype, 1))
    y[::2] = np.rint(y[::2])
    if name == "pow":
        x[::3] = np.abs(x[::3])
    wanted = BINARY[name](x.astype(np.float64), y.astype(np.float64))
    error = ulps(evaluate(functions, name, x, y), wanted, dtype)
    assert error.max() <= (1 if dtype is np.float32 else LOOSE.get(name, 2)), (x[error.argmax()], y[error.argmax()])


def test_fused_multiply_add(functions: ctypes.CDLL) -> None:
    from fractions import Fraction

    functions.edge_fma.restype = ctypes.c_double
    functions.edge_fma.argtypes = [ctypes.c_double] * 3
    generator = np.random.default_rng(3)
    for x, y, z in (generator.standard_normal((300, 3)) * 10.0 ** generator.integers(-9, 9, (300, 3))).tolist():
        for third in (z, -x * y):
            wanted = float(Fraction(x) * Fraction(y) + Fraction(third))
            assert functions.edge_fma(x, y, third) == pytest.approx(wanted, rel=4e-16, abs=0)
