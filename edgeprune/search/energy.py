"""What an inference costs in energy: a model of work done, bytes moved and time spent, with its assumptions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from edgeprune.errors import EdgepruneError
from edgeprune.target import EnergyFacts, Target

Precision = Literal["fp32", "fp16", "int8"]

_MILLI = 1e9
"""Picojoules in a millijoule."""


@dataclass(frozen=True)
class EnergyModel:
    """Millijoules on `target` in `precision` with `threads` cores at work.

    The weights stay in the second-level cache from one inference to the next where all of them fit
    (`weights_near`), else each is read from memory once an inference. Activations pass through the second-level
    cache. (The split into arithmetic, memory by level and time follows Horowitz 2014.)
    """

    target: str
    facts: EnergyFacts
    precision: Precision
    weights_near: bool
    threads: int = 1

    def of(self, macs: float, weight_bytes: float, activation_bytes: float, time_us: float) -> float:
        """Millijoules of `macs` multiply-accumulates, of bytes moved, and of being on for `time_us`; sums add up."""
        moved = weight_bytes * self._weight_byte_pj + activation_bytes * self.facts.l2_byte_pj
        static = self.facts.static_watts * self.threads * time_us * 1e6
        return (macs * self._mac_pj + moved + static) / _MILLI

    def assumptions(self) -> tuple[str, ...]:
        """What the figures rest on, one sentence each."""
        place = "the second-level cache" if self.weights_near else "memory, once an inference"
        return (
            f"energy is predicted for {self.target}, not measured",
            f"one {self.precision} multiply-accumulate takes {self._mac_pj:g} pJ; those with a zero weight take none",
            f"weights come from {place}: {self._weight_byte_pj:g} pJ a byte",
            f"activations pass through the second-level cache: {self.facts.l2_byte_pj:g} pJ a byte",
            f"being on takes {self.facts.static_watts:g} W a core, {self.threads} at work",
            f"figures: {self.facts.source}",
        )

    @property
    def _mac_pj(self) -> float:
        if self.precision == "fp16":
            return self.facts.fp32_mac_pj / 2  # twice as many in a vector
        return self.facts.int8_mac_pj if self.precision == "int8" else self.facts.fp32_mac_pj

    @property
    def _weight_byte_pj(self) -> float:
        return self.facts.l2_byte_pj if self.weights_near else self.facts.memory_byte_pj


def energy_model(
    target: Target, weights_bytes: float, *, precision: Precision = "fp32", threads: int = 1
) -> EnergyModel:
    """The energy model of `target` for a model whose weights take `weights_bytes`.

    Raises EdgepruneError (energy-unknown) where the target has no energy facts.
    """
    if target.energy is None:
        raise EdgepruneError(
            "energy-unknown",
            f"nothing is known of the energy that {target.name} takes",
            where=f"target {target.name}",
            hint="add a section [energy] to its file in targets/, or leave --energy out",
        )
    near = weights_bytes <= target.l2_bytes
    return EnergyModel(target.name, target.energy, precision, near, threads)
