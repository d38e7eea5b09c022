"""GraSP: before training, keep the weights that carry the flow of gradients."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from edgeprune.torch.gradients import check_loss, left_as_it_was, weight_gradients
from edgeprune.torch.network import MaskedNetwork
from edgeprune.torch.schedule import Scored


@dataclass(frozen=True)
class GraSP(Scored):
    """w * (H g), signed: what the squared gradient norm loses where a weight goes.

    Wang et al. 2020, "Picking winning tickets before training by preserving gradient flow", equation 8, with the sign
    that makes the highest worth keeping. The paper divides the network's outputs by 200 inside the loss.
    """

    name: ClassVar[str] = "grasp"

    def check(self, network: MaskedNetwork) -> None:
        """Raise EdgepruneError (loss-missing)."""
        check_loss(network, self.name)

    def scores(self, network: MaskedNetwork) -> Mapping[str, Tensor]:
        """Weight times the product of Hessian and gradient."""
        weights = [layer.weight for layer in network.layers]
        with left_as_it_was(network):
            gradients = weight_gradients(network, create_graph=True)
            norm = torch.stack([(gradient * gradient.detach()).sum() for gradient in gradients.values()]).sum()
            products = torch.autograd.grad(norm, weights, materialize_grads=True)
        return {
            layer.name: (layer.weight * product).detach().float()
            for layer, product in zip(network.layers, products, strict=True)
        }
