"""The same computation on this machine: a package's model compiled here with the arithmetic of its target."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from edgeprune import __version__
from edgeprune.cache import content_key, open_cache
from edgeprune.compiled import Package
from edgeprune.deploy.local import LocalRunner
from edgeprune.package.format import MODEL
from edgeprune.progress import Progress, silent
from edgeprune.road.cost_store import kernel_sources
from edgeprune.target import Target, load_target

_PLAIN_DOT = "mla"
_KIND, _COMPILER = "twins", "apache-tvm"


class _Compiled(NamedTuple):
    target: Target


def twin_target(target: Target) -> Target:
    """This machine, computing as `target` does: integers by its rules, half precision by the kernels chosen for it."""
    here = load_target("host")
    if target.real == "float16":
        code = {name: getattr(here, name) for name in ("triple", "cpu", "features", "cpu_flags")}
        return msgspec.structs.replace(target, **code)
    if target.arithmetic == here.arithmetic:
        return here
    return msgspec.structs.replace(here, arithmetic=target.arithmetic, dot=_PLAIN_DOT)


@contextmanager
def open_twin(package: Package, progress: Progress = silent) -> Iterator[LocalRunner]:
    """A runner of the model in `package`, compiled for this machine once, until the end of the block."""
    target = twin_target(package.manifest.target)
    facts = (msgspec.json.encode(target), __version__, version(_COMPILER), kernel_sources())
    key = content_key(package.member(MODEL), *facts)
    library = open_cache().made(_KIND, key, lambda: _library(package, target, progress))
    with tempfile.TemporaryDirectory(prefix="edgeprune-") as name:
        path = Path(name) / "model.so"
        path.write_bytes(library)
        with LocalRunner(path, _Compiled(target)) as runner:
            yield runner


def _library(package: Package, target: Target, progress: Progress) -> bytes:
    from edgeprune.lowering.build import build
    from edgeprune.lowering.lower import lower

    return build(lower(model_of(package), target, progress=progress), target, progress=progress).library


def model_of(package: Package) -> Any:
    """The IR that `package` was compiled from."""
    import onnx
    import onnx_ir

    return onnx_ir.from_proto(onnx.ModelProto.FromString(package.member(MODEL)))
