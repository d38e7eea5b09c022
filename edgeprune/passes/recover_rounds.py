"""The last complete round of pruning in rounds, in a file, so that a kill costs no more than the round under way."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import torch

from edgeprune.data import Samples
from edgeprune.passes.recover_checkpoint import State, fingerprint_of, read_state, write_state
from edgeprune.passes.recover_processes import Processes


class Rounds:
    """The file at `path` that belongs to a run on `model` and `data` with `options`; nothing where it is None."""

    def __init__(self, path: Path | None, model: ir.Model, data: Iterable[Samples], options: str) -> None:
        self._path = path
        self._processes = Processes()
        self._fingerprint = "" if path is None else fingerprint_of((model,), data, options)

    def take_up(self, model: ir.Model) -> tuple[int, ir.Model]:
        """How many rounds are complete, and the model after them; 0 and `model` where there is no file of this run.

        Raises EdgepruneError (checkpoint-unreadable).
        """
        state: State | None = None
        if self._path is not None and self._processes.first and self._path.exists():
            state = read_state(self._path, self._fingerprint)
        state = self._processes.shared(state)
        if state is None:
            return 0, model
        return state["round"], ir.from_proto(onnx.load_from_string(state["model"].numpy().tobytes()))

    def save(self, done: int, model: ir.Model) -> None:
        """Keep `model`, the result of `done` rounds. Raises EdgepruneError (output-unwritable)."""
        if self._path is None or not self._processes.first:
            return
        content = np.frombuffer(bytearray(ir.to_proto(model).SerializeToString()), np.uint8)
        write_state(self._path, self._fingerprint, {"round": done, "model": torch.from_numpy(content)})

    def remove(self) -> None:
        """Delete the file: the run is over."""
        if self._path is not None and self._processes.first:
            self._path.unlink(missing_ok=True)
