"""What compiled models take on a board that is emulated here: run once, executed blocks simulated, times predicted."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from edgeprune.board import Board
from edgeprune.cache import Cache
from edgeprune.deploy.edge_run import LIBRARY, PROGRAM, BenchTold
from edgeprune.deploy.emulated import EmulatedTransport
from edgeprune.emulate.predict import predictor_for
from edgeprune.errors import EdgepruneError
from edgeprune.lowering.build import build
from edgeprune.lowering.lower import lower
from edgeprune.progress import Progress
from edgeprune.road.cost_rows import Readings, Structure
from edgeprune.road.probes import Probe, Reading, by_step, calls_of, masked, packed_bytes
from edgeprune.road.writing import Writer
from edgeprune.runner.build import build_runner
from edgeprune.target import Target

if TYPE_CHECKING:
    import onnx_ir as ir

    from edgeprune.lowering.build import Built
    from edgeprune.lowering.plan import Plan

_SECONDS = 600.0
_MISSING = ("emulator-missing", "emulator-unsupported", "mca-missing", "prediction-unsupported")


@dataclass(frozen=True)
class Bench:
    """An emulated board of `target` with edge-run on it."""

    target: Target
    transport: EmulatedTransport

    def times(self, library: bytes) -> tuple[float, list[float]]:
        """Predicted microseconds of an inference of the compiled model, and of each of its steps, on one thread.

        Raises EdgepruneError: emulator-failed, mca-failed, board-timeout.
        """
        self.transport.upload(library, LIBRARY, _SECONDS)
        asked = ["bench", "--library", f"./{LIBRARY}", "--threads", "1", "--json"]
        ran = self.transport.run([*self.transport.launcher, f"./{PROGRAM}", *asked], _SECONDS)
        if ran.code != 0:
            what = f"the compiled model failed on the emulated {self.target.name}: {ran.said}"
            raise EdgepruneError("emulator-failed", what, where="--target", hint="report this with the model")
        told = msgspec.json.decode(ran.stdout, type=BenchTold)
        if told.predicted_ms is None:
            raise EdgepruneError("mca-missing", told.unpredicted, where="--target")
        return 1000 * told.predicted_ms.value, [layer.predicted_us or 0.0 for layer in told.layers]


@contextmanager
def emulated_bench(target: Target, cache: Cache | None = None) -> Iterator[Bench]:
    """A bench on which libraries for `target` are predicted, until the end of the block.

    Raises EdgepruneError: emulator-missing, emulator-unsupported, mca-missing, prediction-unsupported; link-failed.
    """
    predictor_for(target, cache)
    transport = EmulatedTransport(Board(name=f"emulated-{target.name}", target=target.name, transport="emulated"))
    try:
        transport.connect()
        transport.upload(build_runner(target, cache), PROGRAM, _SECONDS)
        transport.run(["chmod", "+x", PROGRAM], _SECONDS)
        yield Bench(target, transport)
    finally:
        transport.close()


def basis_of(target: Target, cache: Cache | None = None) -> str:
    """How times on `target` are predicted here. Raises EdgepruneError as `emulated_bench` does."""
    with emulated_bench(target, cache):
        return predictor_for(target, cache).basis


def unpredicted(error: EdgepruneError) -> str:
    """Why nothing that is emulated predicts times, as a part of a sentence. Raises `error` where it is another one."""
    if error.code not in _MISSING:
        raise error
    return error.what if error.code == "prediction-unsupported" else f"{error.what}: {error.hint}"


def emulated_readings(
    model: ir.Model,
    target: Target,
    probes: list[Probe],
    structure: Structure,
    threads: int,
    seed: int,
    cache: Cache,
    write: Writer,
    progress: Progress,
) -> Readings:
    """The readings of `probes`, each compiled and run once; more threads share the work of a step evenly."""
    known = frozenset((*structure.layers, *structure.images))
    found = []
    with emulated_bench(target, cache) as bench:
        for index, probe in enumerate(probes):
            progress("emulating probes", index, len(probes), f"{probe.level.pattern} {probe.level.density:g}")
            levels = dict.fromkeys(structure.layers, probe.level)
            plan = lower(write(masked(model, levels, seed)), target, mode=probe.layout)
            built = build(plan, target, cache=cache)
            found.append((probe, _reading(plan, built, *bench.times(built.library), threads, known)))
        progress("emulating probes", len(probes), len(probes), "")
    return found


def emulated_us(library: bytes, target: Target) -> float | None:
    """Microseconds of an inference of a compiled model on one thread; None where nothing here predicts them."""
    try:
        with emulated_bench(target) as bench:
            return bench.times(library)[0]
    except EdgepruneError as error:
        unpredicted(error)
        return None


def _reading(
    plan: Plan, built: Built, whole: float, steps: list[float], threads: int, known: frozenset[str]
) -> Reading:
    shared = [time / max(1, min(threads, call.units)) for time, call in zip(steps, calls_of(plan), strict=True)]
    times, copies = by_step(plan, shared, known)
    beside = max(0.0, whole - sum(steps))
    return Reading(times, copies, beside, packed_bytes(plan), built.weights_bytes, built.code_bytes)
