"""The same computation on this machine: a package's model compiled here with the arithmetic of its target."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from edgeprune.compiled import Package
from edgeprune.deploy.local import LocalRunner
from edgeprune.package.format import MODEL
from edgeprune.progress import Progress, silent
from edgeprune.target import Target, load_target

_PLAIN_DOT = "mla"


class _Compiled(NamedTuple):
    target: Target


def twin_target(target: Target) -> Target:
    """This machine, computing integers as `target` does."""
    here = load_target("host")
    if target.arithmetic == here.arithmetic:
        return here
    return msgspec.structs.replace(here, arithmetic=target.arithmetic, dot=_PLAIN_DOT)


@contextmanager
def open_twin(package: Package, progress: Progress = silent) -> Iterator[LocalRunner]:
    """A runner of the model in `package`, compiled for this machine, until the end of the block."""
    from edgeprune.lowering.build import build
    from edgeprune.lowering.lower import lower

    target = twin_target(package.manifest.target)
    library = build(lower(model_of(package), target, progress=progress), target, progress=progress).library
    with tempfile.TemporaryDirectory(prefix="edgeprune-") as name:
        path = Path(name) / "model.so"
        path.write_bytes(library)
        with LocalRunner(path, _Compiled(target)) as runner:
            yield runner


def model_of(package: Package) -> Any:
    """The IR that `package` was compiled from."""
    import onnx
    import onnx_ir

    return onnx_ir.from_proto(onnx.ModelProto.FromString(package.member(MODEL)))
