"""What measured best: exact OBS for blocks of many weights, where it is cheap, and ALPS for everything else.

On resnet20 (CIFAR-10) the refitted error of a layer by exact OBS is 0.98 of that by ALPS with 4x16 blocks, as large
with 1x16, and 1.04 to 1.15 times as large with single weights and 2:4; by SparseGPT it is 1.17 to 1.3 times as large.
In one shot on 256 rows (top-1 of 500, mean of three seeds) half of the 4x16 blocks leave 0.898 by exact OBS and 0.878
by ALPS, a quarter of the 1x16 blocks 0.793 and 0.780.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgeprune.data.samples import Samples
from edgeprune.passes.criteria.alps import Alps
from edgeprune.passes.criteria.criterion import Choice, MaskProblem
from edgeprune.passes.criteria.curvature import single_saliencies
from edgeprune.passes.criteria.obs import Obs, operations

COARSE = 16
"""Blocks of so many weights are coarse."""

CHEAP = 1e9
"""Exact OBS is taken up to so many multiplications in a layer."""


@dataclass(frozen=True)
class Auto:
    """Exact OBS or ALPS, by the pattern and the size of the layer; `steps` are those of ALPS."""

    steps: int = 150
    up_front: bool = False

    def saliencies(self, model: ir.Model, samples: Samples, seed: int = 0) -> dict[str, np.ndarray]:
        """What the layer's output changes by when one weight goes and the others make up for it."""
        return single_saliencies(model, samples, seed)

    def choose(self, problem: MaskProblem) -> Choice:
        """The mask of the one that suits the problem."""
        pattern = problem.level.pattern
        if pattern.block_k * pattern.block_n >= COARSE and operations(problem) <= CHEAP:
            return Obs().choose(problem)
        return Alps(self.steps).choose(problem)
