"""SNIP: before training, keep the weights that the loss reacts to most."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from edgeprune.torch.gradients import check_loss, left_as_it_was, weight_gradients
from edgeprune.torch.network import MaskedNetwork
from edgeprune.torch.schedule import Scored


@dataclass(frozen=True)
class SNIP(Scored):
    """Connection sensitivity |g * w| of one batch (Lee et al. 2019, "SNIP: Single-shot network pruning", eq. 5)."""

    name: ClassVar[str] = "snip"

    def check(self, network: MaskedNetwork) -> None:
        """Raise EdgepruneError (loss-missing)."""
        check_loss(network, self.name)

    def scores(self, network: MaskedNetwork) -> Mapping[str, Tensor]:
        """|gradient * weight|."""
        with left_as_it_was(network):
            gradients = weight_gradients(network)
        return {layer.name: (gradients[layer.name] * layer.weight).detach().abs().float() for layer in network.layers}
