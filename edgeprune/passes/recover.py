"""Recovery training: a pruned model learns from the original, and from labels where there are some."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx_ir as ir
import torch

from edgeprune.data import Samples
from edgeprune.passes.recover_checks import require_finite_rows, require_rows
from edgeprune.passes.recover_masks import Gradual
from edgeprune.passes.recover_processes import Processes
from edgeprune.passes.recover_training import Training
from edgeprune.pattern import Level
from edgeprune.progress import Progress, silent


@dataclass(frozen=True)
class Recover:
    """Train for `epochs` over the training rows; the model that is best on the validate rows is the result.

    Without `levels` the zeros of the pruned model are held. With `levels` (by node name) training starts from the
    original's weights and prunes to them step by step, as `gradual` says, then trains what is kept: weights that are
    masked go on learning until then, so that they can return (Lin et al., 2020). `rate` is the highest share of its
    size that a weight changes by in one step; where it is None the number of steps decides. The same seed and threads
    give the same weights.

    A quantized model (QDQ) is trained as it computes, on rounded weights and values, and judged as it is written: its
    weights are integers again, with the zeros it came with. Its `rate`, where it is None, is the lower the less it
    lost before.

    After `minutes` of wall clock the training ends; the rate falls to zero by then. It ends early once the validate
    rows' metric, or what `value` makes of the outputs on them, is `good_enough`, or after `patience` epochs in a row
    without a better value. Where there is a `checkpoint`, the state is kept in that file: after a kill the same call
    goes on from there to the same result, and the file is removed at the end. Where a launcher such as `accelerate
    launch` has started several processes, they share the work of every batch; GPUs are used where there are some.
    """

    epochs: int
    metric: str = "fidelity"
    levels: Mapping[str, Level] | None = None
    gradual: Gradual = field(default_factory=Gradual)
    seed: int = 0
    threads: int = 1
    largest_batch: int = 32
    rate: float | None = None
    minutes: float | None = None
    good_enough: float | None = None
    value: Callable[[Mapping[str, np.ndarray]], float] | None = field(default=None, repr=False)
    patience: int | None = None
    checkpoint: Path | None = field(default=None, repr=False)
    clock: Callable[[], float] = field(default=time.monotonic, repr=False)

    def __call__(
        self, pruned: ir.Model, original: ir.Model, train: Samples, validate: Samples, progress: Progress = silent
    ) -> ir.Model:
        """A recovered copy of `pruned`; `pruned` itself where nothing that was trained is better on `validate`.

        Labels of `train` count where the metric ranks classes. Raises EdgepruneError: op-untrainable, data-empty,
        labels-misfit, not-finite or training-diverged (a loss that is not finite in the first step),
        checkpoint-unreadable, output-unwritable.
        """
        if self.epochs < 1:
            return pruned
        processes = Processes()
        require_rows(train, validate, processes.count)
        require_finite_rows(train)
        with _threads(self.threads):
            training = Training(self, pruned, original, train, validate, progress if processes.first else silent)
            training.prepare(processes)
            return training.run()


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
