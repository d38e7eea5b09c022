"""How far the outputs of a quantized network are from those of the float network."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgeprune.data.samples import Samples
from edgeprune.ir.cost import model_cost
from edgeprune.ir.execute import Session
from edgeprune.passes.output_loss import output_kind, output_loss

ROWS = 64
WORK = 2e10
"""Networks are judged on fewer rows where these would take more multiply-accumulates."""


class OutputJudge:
    """The outputs of `original` on some of `samples`, its last ones."""

    def __init__(self, original: ir.Model, samples: Samples, threads: int = 1) -> None:
        work = max(1, model_cost(original).dense_macs)
        count = int(min(ROWS, samples.count, max(16, WORK / work)))
        self._rows = samples.slice(samples.count - count, samples.count)
        self._threads = threads
        self._kind = output_kind(original, self._rows)
        self._wanted = self._outputs(original)

    def loss(self, model: ir.Model) -> float:
        """How much less likely `model` makes the outputs of the original, in nats a row (see `output_loss`)."""
        return output_loss(self._kind, self._outputs(model), self._wanted)

    def _outputs(self, model: ir.Model) -> dict[str, np.ndarray]:
        return Session(model).run_rows(self._rows, self._threads)
