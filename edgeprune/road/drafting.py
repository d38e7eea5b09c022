"""From a pruned model to a package that is not written yet, and what it measures."""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from edgeprune.ir.cost import model_cost
from edgeprune.ir.scores import without_scores
from edgeprune.lowering.band_choice import with_bands
from edgeprune.lowering.build import build
from edgeprune.options import Options
from edgeprune.passes.intervals import remove_dead
from edgeprune.passes.recognise import fitted_levels
from edgeprune.pattern import parse_pattern
from edgeprune.progress import Progress
from edgeprune.road.assembly import Draft, assemble, latency_of, provenance_of
from edgeprune.road.costing import costs_for
from edgeprune.road.emulating import emulated_us
from edgeprune.road.judging import Judge
from edgeprune.road.tabulating import work_of
from edgeprune.search.energy import energy_model
from edgeprune.target import Target, host_cpu_flags

if TYPE_CHECKING:
    import onnx_ir as ir


Figures = dict[str, float]
"""By name: size and ram in bytes, latency and predicted_latency in microseconds, energy in millijoules.

Hardware is between a predicted latency divided by `latency_spread` and multiplied by it, where that is known.
"""


@dataclass(frozen=True)
class Drafter:
    """Compiles models of one road: `source` is where the original came from, None where it was given as an IR."""

    source: str | PathLike[str] | None
    judge: Judge
    target: Target
    options: Options

    def draft(self, model: ir.Model, progress: Progress) -> Draft:
        """The package of `model`, without an accuracy. Raises EdgepruneError as `lower` and `build` do."""
        written = remove_dead(without_scores(self.judge.write(model))).model
        name = Path(self.source).stem if self.source is not None else model.graph.name or "model"
        banding = with_bands(written, self.target, self.options.ram, progress)
        built = build(banding.plan, self.target, progress=progress, name=name)
        provenance = provenance_of(self.source, self.judge.master, self.judge, self.options.seed)
        return assemble(name, banding, built, self.target, provenance, self.judge)

    @property
    def measures(self) -> bool:
        """Whether this machine can run what is compiled."""
        return host_cpu_flags().issuperset(self.target.cpu_flags)

    def figures(self, draft: Draft, model: ir.Model, progress: Progress, predicted_us: float | None) -> Figures:
        """What the budgets of the options are about: bytes, and microseconds and millijoules where they are asked for.

        Where this machine cannot run the target, a predicted time stands for the measured one: that of the compiled
        model on an emulated board with its spread, else `predicted_us`.
        """
        options = self.options
        found = {"size": float(draft.manifest.total_bytes), "ram": float(draft.manifest.ram_bytes)}
        if options.latency is None and options.energy is None:
            return found
        if self.measures:
            found["latency"] = self.latency_us(draft, progress)
        else:
            found |= self._predicted(draft, model, progress, predicted_us)
        if options.energy is not None:
            time = found.get("latency", found.get("predicted_latency", 0.0))
            found["energy"] = self._energy(draft, model, time)
        return found

    def _predicted(self, draft: Draft, model: ir.Model, progress: Progress, predicted_us: float | None) -> Figures:
        compiled = self.compiled_us(draft)
        if compiled is not None:
            spread = 1.0 if self.target.predict is None else self.target.predict.spread
            return {"predicted_latency": compiled, "latency_spread": spread}
        return {"predicted_latency": self._by_table(model, progress) if predicted_us is None else predicted_us}

    def compiled_us(self, draft: Draft) -> float | None:
        """Microseconds that `draft` is predicted to take on one thread, by an emulated board; None without one."""
        if self.measures or self.target.predict is None or self.options.threads != 1:
            return None
        return emulated_us(draft.members[draft.manifest.library], self.target)

    def _by_table(self, model: ir.Model, progress: Progress) -> float:
        """Microseconds of `model` by the cost table of the original."""
        patterns = [parse_pattern(text) for text in self.target.patterns]
        judge = self.judge
        costs = costs_for(
            judge.original, self.target, threads=self.options.threads, write=judge.write, progress=progress
        )
        fitted = fitted_levels(model, patterns)
        return costs.total({name: level for name, level in fitted.items() if name in costs.layers})

    def _energy(self, draft: Draft, model: ir.Model, time_us: float) -> float:
        """Millijoules of one inference by the energy model of the target."""
        stored = draft.manifest.weights_bytes
        precision = self.judge.write.precision
        energy = energy_model(self.target, stored, precision=precision, threads=self.options.threads)
        layers = {layer.name for layer in model_cost(model).layers}
        moved = sum(work.activation_bytes for work in work_of(model, layers, precision).values())
        return energy.of(draft.manifest.macs, stored, moved, time_us)

    def latency_us(self, draft: Draft, progress: Progress) -> float:
        """The median latency of `draft` on this machine, in microseconds."""
        return 1000.0 * latency_of(draft, self.options, progress)
