"""From a compiled program to a package: the manifest, the members, and the measurement of what was built."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from edgeprune import __version__
from edgeprune.bench.compare import Rivals
from edgeprune.compiled import Package
from edgeprune.ir.cost import model_cost
from edgeprune.ir.stored_weights import with_real_weights
from edgeprune.metric import Score
from edgeprune.options import Options
from edgeprune.package.format import MODEL, write_package
from edgeprune.package.manifest import Accuracy, Bands, LayerFacts, Manifest, Port, Provenance, Segment, State, Stored
from edgeprune.package.read import PackageFile
from edgeprune.progress import Progress, silent
from edgeprune.road.judging import Judge
from edgeprune.road.twin import open_twin
from edgeprune.target import Target, host_cpu_flags

if TYPE_CHECKING:
    import onnx_ir as ir

    from edgeprune.lowering.band_choice import Banding
    from edgeprune.lowering.build import Built
    from edgeprune.lowering.plan import Kept
    from edgeprune.lowering.plan import Port as PlannedPort

_VERSIONED = ("apache-tvm", "numpy", "onnx", "onnx-ir", "torch", "ziglang")
_PLACINGS, _PLACING_SECONDS = 5, 0.5


@dataclass(frozen=True)
class Draft:
    """A package that is not written yet."""

    manifest: Manifest
    members: dict[str, bytes]

    def with_accuracy(self, before: Score | None, after: Score | None) -> Draft:
        """The same package with its measured accuracy."""
        if before is None or after is None:
            return self
        accuracy = Accuracy(after.metric, before.value, after.value, after.samples)
        return Draft(msgspec.structs.replace(self.manifest, accuracy=accuracy), self.members)

    def package(self) -> Package:
        """The package as it would be opened, without a file."""
        return Package(PackageFile(Path(), self.manifest, self.members))

    def write(self, path: str | PathLike[str]) -> Manifest:
        """Write the package to `path`, whole or not at all."""
        return write_package(Path(path), self.manifest, self.members)


def assemble(name: str, banding: Banding, built: Built, target: Target, provenance: Provenance, judge: Judge) -> Draft:
    """The package of the model that was lowered in `banding` and compiled to `built`."""
    from onnx_ir import to_proto

    model, plan = banding.model, banding.plan
    cost = model_cost(with_real_weights(model))
    by_name = {layer.name: layer for layer in cost.layers}
    layers = []
    for layer in built.layers:
        known = by_name.get(layer.name)
        macs, dense = (
            (layer.macs, layer.dense_macs) if layer.dense_macs or known is None else (known.macs, known.dense_macs)
        )
        layers.append(LayerFacts(layer.name, layer.op, layer.pattern, layer.density, macs, dense, layer.kernel))
    manifest = Manifest(
        name=name,
        target=target,
        created_by=f"edgeprune {__version__}",
        inputs=tuple(_port(port, built) for port in plan.inputs),
        outputs=tuple(_port(port, built) for port in plan.outputs),
        precision=judge.write.precision,
        backend="tvm",
        layers=tuple(layers),
        weights_bytes=built.weights_bytes,
        code_bytes=built.code_bytes,
        ram_bytes=built.ram_bytes,
        expanded_bytes=built.expanded_bytes,
        macs=cost.macs,
        dense_macs=cost.dense_macs,
        nonzero_weights=cost.nonzero_weights,
        weights=cost.weights,
        provenance=provenance,
        preprocess=None if judge.card is None else msgspec.to_builtins(judge.card.preprocess),
        bands=_bands(banding),
        states=tuple(_state(state, built) for state in plan.kept),
    )
    sources = {file: text.encode() for file, text in built.sources.items()}
    serialized = to_proto(model).SerializeToString(deterministic=True)
    return Draft(manifest, {manifest.library: built.library, MODEL: serialized, **sources})


def _bands(banding: Banding) -> Bands | None:
    segments = tuple(Segment(each.source, each.result, each.count, each.extra_macs) for each in banding.segments)
    return Bands(banding.whole_ram_bytes, sum(each.extra_macs for each in segments), segments) if segments else None


def _state(state: Kept, built: Built) -> State:
    held = _port(state.source, built)
    return State(held.name, state.result.name, held.shape, held.dtype, held.stored)


def _port(port: PlannedPort, built: Built) -> Port:
    offset, held = built.offsets.get(port.buffer), port.format
    if offset is None:
        return Port(port.name, port.shape, port.dtype)
    stored = Stored(held.dtype, held.scale, held.zero, offset) if held.quantized else Stored(port.dtype, 0.0, 0, offset)
    return Port(port.name, port.shape, port.dtype, stored)


def measure(draft: Draft, judge: Judge, model: ir.Model, progress: Progress = silent) -> Score | None:
    """The test score of the compiled library where this machine can run it, else of the `model` it was made from.

    A microcontroller's integers, and half precision, are computed here as they are there.
    """
    target = draft.manifest.target
    here = host_cpu_flags().issuperset(target.cpu_flags)
    if judge.test is not None and (target.arithmetic == "fixed" or (target.real == "float16" and not here)):
        with draft.package() as package, open_twin(package, progress) as twin:
            return _of_outputs(draft, judge).score_runner(twin.run, twin.reset, progress)
    if judge.test is None or not here:
        return judge.score(model)
    with draft.package() as package, package.runner() as runner:
        return _of_outputs(draft, judge).score_runner(runner.run, runner.reset, progress)


def _of_outputs(draft: Draft, judge: Judge) -> Judge:
    """The judge that compares nothing but the outputs of the package."""
    names = {port.name for port in draft.manifest.outputs}
    kept = {name: rows for name, rows in (judge.reference or {}).items() if name in names}
    return replace(judge, reference=kept or None)


def latency_of(draft: Draft, options: Options, progress: Progress = silent) -> float:
    """The median latency in ms of the compiled library on this machine, the longest but one of some.

    It differs by a few hundredths with the pages of memory that the model happens to get, and a budget is to be kept
    on nearly any; the longest may come from what else the machine did. Raises EdgepruneError (cpu-missing-features)
    where this machine cannot run it.
    """
    medians = []
    for _ in range(_PLACINGS):
        with draft.package() as package:
            report = package.bench_beside(Rivals(), options.threads, _PLACING_SECONDS, progress)
        medians.append(float(report["latency_ms"]["median"]))
    return sorted(medians)[-2]


def provenance_of(source: str | PathLike[str] | None, model: ir.Model, judge: Judge, seed: int) -> Provenance:
    """What the package comes from: the model file, or the imported IR where there is no file."""
    from onnx_ir import to_proto

    path = None if source is None else Path(source)
    content = (
        path.read_bytes()
        if path is not None and path.is_file()
        else to_proto(model).SerializeToString(deterministic=True)
    )
    return Provenance(
        source_sha256=hashlib.sha256(content).hexdigest(),
        data_sha256=None if judge.card is None else judge.card.digest(),
        seed=seed,
        versions={name: _version(name) for name in _VERSIONED},
    )


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
