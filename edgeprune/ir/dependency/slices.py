"""What units own of the tensors of a model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

Role = Literal["out", "in", "affine", "scale", "product"]
"""What an input does for the units along its axis: makes them, reads them, shifts and scales them, says their
quantization, or (computed, no constant) holds them where activations are multiplied."""


@dataclass(frozen=True)
class UnitSlice:
    """What the units of a group own of one axis of a node's input.

    `node` names the node whose input `index` it is; `units` [size of the axis] holds the unit that every place
    belongs to, -1 where it belongs to none. `role`: "out" makes the units, "in" reads them, "affine" scales or
    shifts them, "scale" holds their quantization, "product" is no constant but what the node multiplies.
    """

    node: str
    index: int
    axis: int
    role: Role
    units: np.ndarray
