"""Random masks at Erdős-Rényi-kernel levels: the baseline that other masks before training must beat."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from edgeprune.torch.levels import Rule
from edgeprune.torch.network import MaskedNetwork
from edgeprune.torch.rigl import random_scores
from edgeprune.torch.schedule import Scored


@dataclass(frozen=True)
class ERKRandom(Scored):
    """Keep weights at random, by the seed of the Pruner (Mocanu et al. 2018; Evci et al. 2020, section 3)."""

    name: ClassVar[str] = "erk-random"
    rule: ClassVar[Rule] = "erk"

    def scores(self, network: MaskedNetwork) -> Mapping[str, Tensor]:
        """Uniform random numbers."""
        return random_scores(network)
