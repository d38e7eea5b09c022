"""How every road begins: the model is taken up, its accuracy measured, and its precisions tried one after another."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgeprune.ir.scores import with_scores
from edgeprune.ir.states import with_states
from edgeprune.ir.stored_weights import with_real_weights
from edgeprune.options import Options
from edgeprune.progress import Progress
from edgeprune.road.arriving import arrive
from edgeprune.road.budgets import check_supported
from edgeprune.road.drafting import Drafter
from edgeprune.road.judging import Judge, judge_of
from edgeprune.road.loading import Source, load_model, source_of
from edgeprune.road.precision import in_precision, precisions
from edgeprune.road.resuming import resume_for
from edgeprune.target import Target, load_target

if TYPE_CHECKING:
    import onnx_ir as ir


@dataclass(frozen=True)
class Beginning:
    """The model as it `arrived`, from `source` where there is one, with what judges it and what is asked of it.

    `told` is what `compile` and `prune` tell of what was taken out because it can never matter.
    """

    source: Source | None
    arrived: ir.Model
    told: dict[str, Any]
    judge: Judge
    target: Target
    options: Options

    def drafters(self, progress: Progress) -> Iterator[Drafter]:
        """A drafter for each precision that is worth trying, in their order, each with the judge of its own model."""
        for precision in precisions(self.arrived, self.options):
            judge = in_precision(self.judge, self.arrived, precision, self.target, self.options, progress)
            yield Drafter(self.source, judge, self.target.for_precision(judge.write.precision), self.options)


def begin(
    model: Source | ir.Model, target: str, data: Source | None, output: Source | None, options: Options
) -> Beginning:
    """Take up `model` for `target` and judge it by the card `data`; a run that was cut off goes on beside `output`.

    Raises EdgepruneError: precision-unsupported, backend-unsupported, target-unknown, state-invalid (usage);
    what reading the model and the data raises.
    """
    facts = load_target(target)
    check_supported(options, facts)
    arrived, told = arrive(with_states(load_model(model), options.states))
    arrived = with_scores(arrived)
    judge = judge_of(with_real_weights(arrived), data, options.seed, resume_for(output))
    return Beginning(source_of(model), arrived, told, judge, facts, options)
