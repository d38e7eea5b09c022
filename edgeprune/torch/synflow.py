"""SynFlow: before training and without data, keep the weights on the strongest paths."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from edgeprune.errors import EdgepruneError
from edgeprune.torch.network import MaskedNetwork
from edgeprune.torch.schedule import Beforehand


@dataclass(frozen=True)
class SynFlow(Beforehand):
    """Synaptic flow |w| * dR/d|w|, R being the sum of outputs for ones as inputs and absolute weights, in `rounds`.

    Each round keeps density ** (round / rounds) of the weights, so that no layer empties before its time (Tanaka et
    al. 2020, "Pruning neural networks without any data by iteratively conserving synaptic flow", algorithm 1). Batch
    norm is taken with mean 0 and variance 1; all is in float64.
    """

    name: ClassVar[str] = "synflow"

    rounds: int = 100

    def check(self, network: MaskedNetwork) -> None:
        """Raise EdgepruneError (example-missing) without inputs to take the shapes of."""
        if network.example is None:
            raise EdgepruneError(
                "example-missing",
                "schedule 'synflow' needs the shape of the model's inputs",
                where="example",
                hint="write example=images[:1], or a tuple where the model takes several inputs",
                exit_code=2,
            )

    def begin(self, network: MaskedNetwork) -> None:
        """Score and mask round by round."""
        absolute = absolute_copy(network.model)
        density = 1 - network.sparsity
        for done in range(1, self.rounds + 1):
            remaining = (density ** (done / self.rounds) - density) / (1 - density) if density < 1 else 0.0
            network.masks = network.choose(flow(network, absolute), max(0.0, remaining))
        network.apply()


def absolute_copy(model: nn.Module) -> nn.Module:
    """A copy of `model` in float64, in inference mode, with absolute weights and batch norm at rest."""
    absolute = copy.deepcopy(model).double().eval()
    for module in absolute.modules():
        if isinstance(module, nn.modules.batchnorm._NormBase):
            module.reset_running_stats()
    with torch.no_grad():
        for parameter in absolute.parameters():
            parameter.requires_grad_().abs_()
    return absolute


def flow(network: MaskedNetwork, absolute: nn.Module) -> dict[str, Tensor]:
    """The synaptic flow of every weight under the network's masks, by layer name.

    Raises EdgepruneError (flow-unusable) where the flow is not finite.
    """
    assert network.example is not None
    weights = {layer.name: absolute.get_parameter(f"{layer.name}.weight".lstrip(".")) for layer in network.layers}
    with torch.no_grad():
        for name, mask in network.masks.items():
            weights[name].masked_fill_(~mask, 0)
    ones = [
        torch.ones_like(part, dtype=torch.float64) if part.is_floating_point() else part for part in network.example
    ]
    with torch.enable_grad():
        output = absolute(*ones)
        total = sum(part.sum() for part in (output if isinstance(output, (tuple, list)) else [output]))
        found = torch.autograd.grad(total, list(weights.values()), materialize_grads=True)
    scores = {
        name: (weight * gradient).detach() for (name, weight), gradient in zip(weights.items(), found, strict=True)
    }
    if not all(bool(torch.isfinite(score).all()) for score in scores.values()):
        raise EdgepruneError(
            "flow-unusable",
            "the synaptic flow overflows: some products of absolute weights are not finite",
            where="schedule synflow",
            hint="the network is too deep for it, or its weights too large; take schedule='snip'",
        )
    return scores
