"""What happens to a result between accumulator and store: residual adds and activations, on vector expressions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from tvm import tirx

from edgeprune.kernels.abi import EpilogueStep, Residual, Rounded, View
from edgeprune.kernels.activation import activate, reference
from edgeprune.kernels.storage import added, added_array, rounded, rounded_array


def residuals(epilogue: Sequence[EpilogueStep]) -> tuple[Residual, ...]:
    """The residual steps in order: the kernel takes one input pointer for each, after its own inputs."""
    return tuple(step for step in epilogue if isinstance(step, Residual))


def apply_epilogue(epilogue: Sequence[EpilogueStep], value: Any, load: Callable[[int, Residual], Any]) -> Any:
    """The expression of `epilogue` applied to the float32 or float16 `value` (scalar or vector), in either type.

    `load(i, residual)` gives what is stored of the i-th residual for the same elements, with the same lanes; it is
    called once for each residual step.
    """
    position = 0
    for step in epilogue:
        if isinstance(step, Residual):
            value = added(value, load(position, step), step.view.format)
            position += 1
        elif isinstance(step, Rounded):
            value = rounded(value, step.format)
        else:
            value = activate(step, value)
    return value


def element(view: View, image: Any, channel: Any, row: Any, column: Any) -> Any:
    """Index, in elements, of one value of `view`; the coordinates may be integers or int32 expressions."""
    return (
        image * view.batch_stride
        + channel * view.channel_stride
        + row * view.row_stride
        + column * view.pixel_stride
        + view.offset
    )


def load_vector(buffer: Any, index: Any, stride: int, lanes: int) -> Any:
    """`lanes` values of a flat buffer from `index` on, `stride` elements apart."""
    return tirx.BufferLoad(buffer, [vector_index(index, stride, lanes)])


def vector_index(index: Any, stride: int, lanes: int) -> Any:
    """The index expression of `lanes` values from `index` on, `stride` apart; plain for one lane."""
    return index if lanes == 1 else tirx.Ramp(index, stride, lanes)


def reference_epilogue(
    epilogue: Sequence[EpilogueStep], value: np.ndarray, residual_values: Sequence[np.ndarray], fused: bool = True
) -> np.ndarray:
    """`epilogue` in numpy on a float32 array; `fused`: integers are scaled and added with one rounding.

    `residual_values` holds one array of its shape per residual step, as it is stored.
    """
    remaining = list(residual_values)
    for step in epilogue:
        if isinstance(step, Residual):
            value = added_array(value, remaining.pop(0), step.view.format, fused)
        elif isinstance(step, Rounded):
            value = rounded_array(value, step.format)
        else:
            value = reference(step, value)
    return value
