"""Pruning in rounds: a little is cut, what is left is refitted and trained, and so on to the final levels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import onnx_ir as ir

from edgeprune.data.samples import Samples
from edgeprune.passes.prune import check_levels
from edgeprune.passes.recover import Recover
from edgeprune.passes.recover_rounds import Rounds
from edgeprune.passes.refit import Refit
from edgeprune.pattern import Level
from edgeprune.progress import Progress, silent


@dataclass(frozen=True)
class Iterate:
    """Prune to each of `rounds` (levels by node name, tightest last), each time from the weights trained so far.

    Every round refits what is kept towards the original and then trains it with the rate rewound to its start
    (Renda et al., 2020). `recover` holds the options of the whole: its epochs and minutes are shared out over the
    rounds, what does not divide goes to the last ones. Its `checkpoint` holds the last round that is complete, and
    beside it, in a file ending in `.round`, the training that is under way. Its `levels` are not used: the zeros of a
    round are held.
    """

    rounds: Sequence[Mapping[str, Level]]
    recover: Recover
    refit: Refit = field(default_factory=Refit)

    def __call__(
        self, model: ir.Model, calibrate: Samples, train: Samples, validate: Samples, progress: Progress = silent
    ) -> ir.Model:
        """The pruned and recovered copy of `model`; `model` itself where there is no round.

        Raises EdgepruneError: layer-unknown, and what `Refit` and `Recover` raise.
        """
        for levels in self.rounds:
            check_levels(model, levels)
        kept = Rounds(self.recover.checkpoint, model, (calibrate, train, validate), repr(self))
        done, current = kept.take_up(model)
        for index in range(done, len(self.rounds)):
            progress("pruning in rounds", index, len(self.rounds), "")
            refit = replace(self.refit, levels=self.rounds[index])
            pruned = refit(current, calibrate, original=model, progress=progress)
            current = self._trained(index)(pruned, model, train, validate, progress)
            kept.save(index + 1, current)
        progress("pruning in rounds", len(self.rounds), len(self.rounds), "")
        kept.remove()
        return current

    def _trained(self, index: int) -> Recover:
        """The training of round `index`, with its share of the epochs and the minutes."""
        count, whole, path = len(self.rounds), self.recover, self.recover.checkpoint
        epochs = whole.epochs // count + (index >= count - whole.epochs % count)
        minutes = None if whole.minutes is None else whole.minutes * epochs / max(1, whole.epochs)
        beside: Path | None = None if path is None else path.with_name(f"{path.name}.round")
        return replace(whole, epochs=epochs, minutes=minutes, levels=None, checkpoint=beside)
