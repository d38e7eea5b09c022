"""What a road has done already, kept beside its output until the output is there: a killed run goes on from it."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgeprune.errors import EdgepruneError

if TYPE_CHECKING:
    import onnx_ir as ir

Make = Callable[[Path | None], "ir.Model"]
"""Makes a model; its own state of work may be kept in the file it is given."""


@dataclass(frozen=True)
class Resume:
    """Steps of one run, in `folder`; None keeps nothing."""

    folder: Path | None = None

    def step(self, start: ir.Model, choices: object, make: Make) -> ir.Model:
        """What `make` makes from `start`, or made in a run with the same `start` and `choices` that was cut off."""
        if self.folder is None:
            return make(None)
        from onnx_ir import to_proto

        from edgeprune.ir.ports import load_ir, save_ir

        content = to_proto(start).SerializeToString(deterministic=True) + repr(choices).encode()
        key = hashlib.sha256(content).hexdigest()[:24]
        done = self.folder / f"{key}.onnx"
        if done.is_file():
            try:
                return load_ir(done)
            except EdgepruneError:
                done.unlink(missing_ok=True)
        try:
            self.folder.mkdir(exist_ok=True)
        except OSError:
            return make(None)
        made = make(self.folder / f"{key}.state")
        save_ir(made, done)
        return made

    def finish(self) -> None:
        """Forget everything: the output is there."""
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)


def resume_for(output: object) -> Resume:
    """The steps of the run that writes `output`, in a folder beside it; none where nothing is written."""
    return Resume(None if output is None else Path(str(output) + ".resume"))
