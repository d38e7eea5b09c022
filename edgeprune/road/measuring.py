"""The `bench` part of the road: a package on this machine beside other runtimes on the model it came from."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Any

from edgeprune.bench.compare import Rivals
from edgeprune.bench.peers import check_peers
from edgeprune.compiled import Package
from edgeprune.package.format import MODEL
from edgeprune.progress import Progress


def measure_package(
    path: Path,
    vs: tuple[str, ...],
    model: str | PathLike[str] | None,
    threads: int,
    seconds: float,
    progress: Progress,
) -> dict[str, Any]:
    """The JSON of `bench` for the package at `path`; without `model` the peers run its pruned IR."""
    check_peers(vs)
    with Package.open(path) as package:
        return package.bench_beside(_rivals(package, vs, model), threads, seconds, progress)


def _rivals(package: Package, vs: tuple[str, ...], model: str | PathLike[str] | None) -> Rivals:
    if not vs:
        return Rivals()
    if model is None:
        return Rivals(vs, package.member(MODEL), "the pruned model in the package")
    path = Path(model)
    if path.suffix == ".onnx" or (path.suffix == ".tflite" and set(vs) <= {"litert"}):
        return Rivals(vs, path, str(path))
    from onnx_ir import to_proto

    from edgeprune.frontend.load import load

    imported = to_proto(load(model)).SerializeToString()
    if path.suffix == ".tflite":
        return Rivals(vs, path, str(path), imported)
    return Rivals(vs, imported, f"{model}, imported")
