"""From integer sums to real numbers: scales and epilogue, each rounding where the definition has one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from tvm import tirx

from edgeprune.kernels.abi import Activation, EpilogueStep, Format, Residual
from edgeprune.kernels.activation import reference
from edgeprune.kernels.epilogue import apply_epilogue
from edgeprune.kernels.storage import added, apart, written_array
from edgeprune.kernels.vector_math import lanes_of

_BOUNDS = ("Relu", "Clip")


def scaled(sums: Any, scales: Any) -> Any:
    """The real value of int32 sums: converted to float32, then times their scales."""
    return tirx.Cast(_vector("float32", lanes_of(sums)), sums) * scales


def finished(epilogue: Sequence[EpilogueStep], value: Any, load: Callable[[int, Residual], Any]) -> Any:
    """`apply_epilogue`, where no product that comes before is fused with the addition of a float32 residual."""
    position = 0
    for step in epilogue:
        if isinstance(step, Residual):
            summand = value if step.view.format.quantized else apart(value)
            value = added(summand, load(position, step), step.view.format)
            position += 1
        else:
            value = apply_epilogue((step,), value, load)
    return value


def needed(epilogue: tuple[EpilogueStep, ...], stored: Format) -> tuple[EpilogueStep, ...]:
    """`epilogue` without bounds at its end that the bounds of the stored format set anyway."""
    while epilogue and isinstance(epilogue[-1], Activation) and _implied(epilogue[-1], stored):
        epilogue = epilogue[:-1]
    return epilogue


def _implied(step: Activation, stored: Format) -> bool:
    if not stored.quantized or step.name not in _BOUNDS:
        return False
    wide = replace(stored, dtype="int32")
    ends = np.array([stored.low - stored.zero, stored.high - stored.zero], np.float32) * np.float32(stored.scale)
    beyond = np.array([-np.inf, np.inf], np.float32)
    with np.errstate(invalid="ignore"):
        plain, bounded = written_array(ends, wide), written_array(reference(step, beyond), wide)
    return bool((plain == bounded).all())


def _vector(dtype: str, lanes: int) -> str:
    return dtype if lanes == 1 else f"{dtype}x{lanes}"
