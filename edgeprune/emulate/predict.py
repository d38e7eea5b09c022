"""Predicted times: executed blocks, times their cycles by llvm-mca, times what hardware takes of those."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgeprune.cache import Cache, open_cache
from edgeprune.emulate.blocks import Executed
from edgeprune.emulate.mca import Mca, block_cycles, find_mca
from edgeprune.errors import EdgepruneError
from edgeprune.target import PredictFacts, Target


@dataclass(frozen=True)
class Prediction:
    """Milliseconds, and between which bounds networks on real boards were found."""

    value: float
    low: float
    high: float

    def as_dict(self) -> dict[str, float]:
        """The fields `value`, `low` and `high`."""
        return {"value": self.value, "low": self.low, "high": self.high}


@dataclass(frozen=True)
class Predictor:
    """Predicts times on `target`, whose core `facts` describe."""

    target: Target
    facts: PredictFacts
    tool: Mca
    cache: Cache

    def cycles(self, regions: Sequence[Executed]) -> list[float]:
        """Cycles of what was executed in each of `regions`, by the core's model. Raises EdgepruneError (mca-failed)."""
        blocks = sorted({block for region in regions for block in region})
        each = block_cycles(self.tool, self.target, self.facts, blocks, self.cache)
        return [sum(count * each[block] for block, count in region.items()) for region in regions]

    def microseconds(self, cycles: float) -> float:
        """The time that hardware of the target's clock takes for `cycles` of the model."""
        return cycles * self.facts.factor / self.target.clock_mhz

    def prediction(self, cycles: float) -> Prediction:
        """The same in milliseconds with its spread."""
        value = self.microseconds(cycles) / 1000
        return Prediction(value, value / self.facts.spread, value * self.facts.spread)

    @property
    def basis(self) -> str:
        """How it predicts, for people."""
        factor, spread = f"{self.facts.factor:g}", f"{self.facts.spread:g}"
        model = f"llvm-mca {self.tool.version}'s {self.facts.model}"
        return f"executed blocks by {model}, times {factor}, within a factor {spread}"


def predictor_for(target: Target, cache: Cache | None = None) -> Predictor:
    """The predictor of `target`. Raises EdgepruneError: prediction-unsupported; mca-missing."""
    if target.predict is None:
        what = f"how fast {target.name} executes what is counted is not known"
        hint = "its file has no [predict]; raspberry-pi-3, raspberry-pi-4 and raspberry-pi-5 have"
        raise EdgepruneError("prediction-unsupported", what, where="--target", hint=hint)
    return Predictor(target, target.predict, find_mca(), open_cache() if cache is None else cache)
