"""One-shot magnitude pruning: cut at once, then train what is left."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from edgeprune.torch.levels import Rule
from edgeprune.torch.network import MaskedNetwork
from edgeprune.torch.schedule import Scored


@dataclass(frozen=True)
class OneShot(Scored):
    """Keep the largest weights from the start."""

    name: ClassVar[str] = "one-shot"
    rule: ClassVar[Rule] = "uniform"

    def scores(self, network: MaskedNetwork) -> Mapping[str, Tensor]:
        """Squared weights."""
        return network.squares()
