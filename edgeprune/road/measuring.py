"""The `bench` part of the road: a package on this machine beside other runtimes on the model it came from."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Any

from edgeprune.bench.compare import Rivals
from edgeprune.bench.compare import bench as compare
from edgeprune.bench.peers import check_peers
from edgeprune.data.samples import InputSpec, random_samples
from edgeprune.package.format import MODEL
from edgeprune.package.read import PackageFile, read_package
from edgeprune.progress import Progress
from edgeprune.road.opened import local_runner


def measure_package(
    package: Path,
    vs: tuple[str, ...],
    model: str | PathLike[str] | None,
    threads: int,
    seconds: float,
    progress: Progress,
) -> dict[str, Any]:
    """The JSON of `bench` for the package at `package`; without `model` the peers run its pruned IR."""
    check_peers(vs)
    opened = read_package(package)
    return measure(opened, _rivals(opened, vs, model), threads, seconds, progress)


def measure(package: PackageFile, rivals: Rivals, threads: int, seconds: float, progress: Progress) -> dict[str, Any]:
    """Latency of a verified package on one row of seeded noise, in turns with `rivals`."""
    specs = [InputSpec(port.name, port.shape, port.dtype) for port in package.manifest.inputs]
    feeds = random_samples(specs, 1, seed=0).row(0)
    with local_runner(package, threads) as runner:
        return compare(
            runner,
            feeds,
            precision=package.manifest.precision,
            threads=threads,
            seconds=seconds,
            rivals=rivals,
            progress=progress,
        )


def _rivals(package: PackageFile, vs: tuple[str, ...], model: str | PathLike[str] | None) -> Rivals:
    if not vs:
        return Rivals()
    if model is None:
        return Rivals(vs, package.members[MODEL], "the pruned model inside the package")
    path = Path(model)
    if path.suffix in (".onnx", ".tflite"):
        return Rivals(vs, path, str(path))
    from onnx_ir import to_proto

    from edgeprune.frontend.load import load

    return Rivals(vs, to_proto(load(str(model))).SerializeToString(), f"{model}, imported")
