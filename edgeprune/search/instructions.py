"""What counted instructions of a microcontroller take: predicted cycles, time and energy, each with its spread.

One mean cost per instruction, of the core or of the chip: published measurements show the power of a chip to change
little from network to network, so that energy follows time, and time the instructions.
"""

from __future__ import annotations

from dataclasses import dataclass

from edgeprune.chip import Chip
from edgeprune.errors import EdgepruneError
from edgeprune.target import InstructionFacts, Target


@dataclass(frozen=True)
class Prediction:
    """A predicted figure in `unit`; what is real was within a factor `spread` of such figures."""

    value: float
    spread: float
    unit: str
    source: str

    @property
    def low(self) -> float:
        """The least that is likely."""
        return self.value / self.spread

    @property
    def high(self) -> float:
        """The most that is likely."""
        return self.value * self.spread

    def __str__(self) -> str:
        return f"{self.value:.4g} {self.unit} (predicted, within a factor {self.spread:g})"

    def as_json(self) -> dict[str, float | str]:
        """The same as plain fields."""
        return {
            "kind": "predicted",
            "value": self.value,
            "low": self.low,
            "high": self.high,
            "unit": self.unit,
            "source": self.source,
        }


def instruction_facts(target: Target, chip: Chip | None = None) -> InstructionFacts:
    """What is known of `chip`, or else of the core that `target` is.

    Raises EdgepruneError (energy-unknown) where that is nothing.
    """
    found = (chip.per_instruction if chip is not None else None) or target.per_instruction
    if found is None:
        raise EdgepruneError(
            "energy-unknown",
            f"nothing is known of what an instruction takes on {target.name}",
            where=f"target {target.name}" if chip is None else f"chip {chip.name}",
            hint="add a section [per_instruction] to its file in targets/ or boards/chips/",
        )
    return found


def predict_cycles(instructions: float, facts: InstructionFacts) -> Prediction:
    """The cycles of `instructions`."""
    return Prediction(instructions * facts.cycles, facts.cycles_spread, "cycles", facts.source)


def predict_latency(instructions: float, facts: InstructionFacts, clock_mhz: float) -> Prediction:
    """The milliseconds of `instructions` at a clock of `clock_mhz`."""
    return Prediction(instructions * facts.cycles / clock_mhz / 1e3, facts.cycles_spread, "ms", facts.source)


def predict_energy(instructions: float, facts: InstructionFacts) -> Prediction:
    """The millijoules that the whole chip takes for `instructions`."""
    return Prediction(instructions * facts.nanojoules / 1e6, facts.energy_spread, "mJ", facts.source)
