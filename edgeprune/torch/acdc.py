"""AC/DC: phases under masks alternate with phases without."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from edgeprune.torch.network import MaskedNetwork
from edgeprune.torch.schedule import Schedule


@dataclass(frozen=True)
class ACDC(Schedule):
    """After a warm-up, compressed and decompressed phases in turn, then compressed to the end.

    All lengths are shares of the training. Masks are chosen by magnitude at the start of each compressed phase; in a
    decompressed one all weights train, those that were masked from zero (Peste et al. 2021, "AC/DC: Alternating
    compressed/decompressed training of deep neural networks", algorithm 1 and section 4.1).
    """

    name: ClassVar[str] = "acdc"

    warmup: float = 0.1
    phase: float = 0.05
    final: float = 0.8

    def compressed(self, done: int, steps: int) -> bool:
        """Whether masks hold after `done` of `steps` steps."""
        share = done / steps
        if share < self.warmup:
            return False
        return share >= self.final or int((share - self.warmup) / self.phase + 1e-9) % 2 == 0

    def update(self, network: MaskedNetwork, done: int) -> None:
        """Change over where a phase ends."""
        now, masked = self.compressed(done, network.steps), bool(network.masks)
        if now and not masked:
            network.hold(network.choose())
        elif masked and not now:
            network.hold({})

    def end(self, network: MaskedNetwork, done: int) -> None:
        """Compress where the last phase was a decompressed one."""
        if not network.masks:
            network.hold(network.choose())
