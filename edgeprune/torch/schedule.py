"""What every schedule answers: which masks hold from which step on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from torch.utils.hooks import RemovableHandle

from edgeprune.torch.levels import Rule
from edgeprune.torch.network import MaskedNetwork


@dataclass(frozen=True)
class Schedule:
    """When masks are chosen, and from what; the fields of a subclass are its options.

    `in_training` says whether it needs the number of steps, `rule` how it shares out the sparsity unless told.
    """

    name: ClassVar[str]
    rule: ClassVar[Rule] = "uniform"
    in_training: ClassVar[bool] = True

    def check(self, network: MaskedNetwork) -> None:
        """Raise EdgepruneError where the schedule needs what it was not given."""

    def attach(self, network: MaskedNetwork) -> list[RemovableHandle]:
        """Put hooks where the schedule needs them; they are removed at the end."""
        return []

    def begin(self, network: MaskedNetwork) -> None:
        """Before the first step; not called where a saved state is taken up."""

    def update(self, network: MaskedNetwork, done: int) -> None:
        """After the optimizer's step number `done`, counted from 1."""

    def end(self, network: MaskedNetwork, done: int) -> None:
        """Reach the asked levels, whatever step the training ended at."""


@dataclass(frozen=True)
class Beforehand(Schedule):
    """Masks that are there before the first step, and held."""

    rule: ClassVar[Rule] = "raw"
    in_training: ClassVar[bool] = False


@dataclass(frozen=True)
class Scored(Beforehand, ABC):
    """Masks that are chosen once, by scores."""

    def begin(self, network: MaskedNetwork) -> None:
        """Choose and hold."""
        network.hold(network.choose(self.scores(network)))

    @abstractmethod
    def scores(self, network: MaskedNetwork) -> Mapping[str, Tensor]:
        """What is worth keeping, by layer name, in the weights' shapes."""
