"""A compiled model in Python: open a package, look inside, run it, time it."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Callable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from edgeprune.bench.compare import Rivals, bench
from edgeprune.data import InputSpec, Samples, random_samples
from edgeprune.data.samples import fit_rows
from edgeprune.deploy.local import LocalRunner
from edgeprune.errors import EdgepruneError, nearest
from edgeprune.package.format import MODEL
from edgeprune.package.manifest import Manifest, inspection
from edgeprune.package.read import PackageFile, read_package
from edgeprune.progress import Progress, silent

Rows = np.ndarray | Mapping[str, np.ndarray]


class Package:
    """A package that was read and verified, ready to run on this machine.

    `close`, leaving a `with` block or the end of its life removes what was unpacked.
    """

    def __init__(self, file: PackageFile) -> None:
        self._file = file
        self._unpacked: Path | None = None
        self._remove: Callable[[], object] | None = None

    @classmethod
    def open(cls, path: str | PathLike[str]) -> Package:
        """Read the package at `path`. Raises EdgepruneError (package-missing, package-corrupt, package-newer)."""
        return cls(read_package(Path(path)))

    def __enter__(self) -> Package:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Remove what was unpacked."""
        if self._remove is not None:
            self._remove()
        self._unpacked = self._remove = None

    @property
    def path(self) -> Path:
        """Where the package was read from."""
        return self._file.path

    @property
    def manifest(self) -> Manifest:
        """What the package says of itself."""
        return self._file.manifest

    @property
    def inspection(self) -> dict[str, Any]:
        """The fields of `edgeprune inspect --json`."""
        return inspection(self.manifest)

    @property
    def inputs(self) -> tuple[InputSpec, ...]:
        """The model's inputs."""
        return tuple(InputSpec(port.name, port.shape, port.dtype) for port in self.manifest.inputs)

    def member(self, name: str) -> bytes:
        """The content of member `name`. Raises EdgepruneError (member-missing)."""
        if name not in self._file.members:
            hint = nearest(name, self._file.members)
            raise EdgepruneError(
                "member-missing", f"the package has no member '{name}'", where=str(self.path), hint=hint
            )
        return self._file.members[name]

    def library(self) -> Path:
        """The shared library, unpacked into a private folder that lives as long as this object."""
        if self._unpacked is None:
            folder = tempfile.mkdtemp(prefix="edgeprune-")
            self._remove = weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
            self._unpacked = Path(folder) / self.manifest.library
            self._unpacked.write_bytes(self.member(self.manifest.library))
        return self._unpacked

    def runner(self, threads: int = 1) -> LocalRunner:
        """A new context of the model with `threads` threads.

        Raises EdgepruneError: cpu-missing-features, ...; board-wanted (usage) where it is for a microcontroller.
        """
        target = self.manifest.target
        if target.bare:
            what = f"the package is for {target.name}, which is no machine like this one"
            hint = "name a board with --board; `edgeprune boards` lists them"
            raise EdgepruneError("board-wanted", what, where=str(self.path), hint=hint, exit_code=2)
        return LocalRunner(self.library(), self.manifest, threads, source=self.path)

    def run(self, rows: Rows, threads: int = 1) -> dict[str, np.ndarray]:
        """One inference a row: real-valued arrays by input name (or one array, where there is one input), rows along
        the first axis, to outputs by name, (count, *output shape without a batch axis of 1).

        What the package keeps is zero before the first row and goes from row to row. Raises EdgepruneError:
        input-unknown, input-missing, data-shape, data-dtype.
        """
        samples = self._samples(rows)
        with self.runner(threads) as runner:
            results = [runner.run(samples.row(index)) for index in range(samples.count)]
        ports = self.manifest.outputs
        shapes = {port.name: port.shape[1:] if port.shape[:1] == (1,) else port.shape for port in ports}
        stacked = {port.name: np.empty((samples.count, *shapes[port.name]), port.dtype) for port in ports}
        for index, result in enumerate(results):
            for name, output in result.items():
                stacked[name][index] = output.reshape(shapes[name])
        return stacked

    def bench(self, seconds: float = 2.0, threads: int = 1, vs: tuple[str, ...] = ()) -> dict[str, Any]:
        """Latency on random inputs, beside the runtimes `vs` on the pruned model of the package: `edgeprune bench`."""
        rivals = Rivals(vs, self.member(MODEL), "the pruned model in the package") if vs else Rivals()
        return self.bench_beside(rivals, threads, seconds)

    def bench_beside(self, rivals: Rivals, threads: int, seconds: float, progress: Progress = silent) -> dict[str, Any]:
        """Latency on one row of seeded noise, in turns with `rivals`."""
        feeds = random_samples(self.inputs, 1, seed=0).row(0)
        kept = {state.name: np.zeros(state.shape, state.dtype) for state in self.manifest.states}
        facts: dict[str, Any] = {"precision": self.manifest.precision, "threads": threads, "seconds": seconds}
        with self.runner(threads) as runner:
            return bench(runner, feeds, rivals=rivals, kept=kept, progress=progress, **facts)

    def _samples(self, rows: Rows) -> Samples:
        specs = self.inputs
        names = [spec.name for spec in specs]
        given = {names[0]: np.asarray(rows)} if not isinstance(rows, Mapping) else dict(rows)
        if len(specs) == 1 and set(given) == {"x"}:
            given = {names[0]: given["x"]}
        for name in given:
            if name not in names:
                raise EdgepruneError(
                    "input-unknown", f"there is no input '{name}'", where=name, hint=nearest(name, names)
                )
        missing = [name for name in names if name not in given]
        if missing or (len(specs) > 1 and not isinstance(rows, Mapping)):
            what = f"the model has {len(specs)} inputs, and {', '.join(missing)} is not given"
            hint = "give one array an input, by name: " + ", ".join(names)
            raise EdgepruneError("input-missing", what, where=str(self.path), hint=hint)
        counts = {name: len(np.atleast_1d(array)) for name, array in given.items()}
        if len(set(counts.values())) > 1:
            hint = "give one row an inference in every array"
            raise EdgepruneError("data-shape", f"numbers of rows differ: {counts}", where=str(self.path), hint=hint)
        fitted = {spec.name: fit_rows(np.asarray(given[spec.name]), spec, f"input '{spec.name}'") for spec in specs}
        return Samples(fitted, None, specs)
