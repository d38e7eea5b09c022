"""An emulated board: this machine's files and shell, the board's processor, instructions instead of times.

Where the target says how counted instructions become time, times are predicted besides.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

from edgeprune.board import Board
from edgeprune.deploy.transport import Ran
from edgeprune.deploy.transport_local import LocalTransport
from edgeprune.emulate.emulator import Emulator, set_up
from edgeprune.emulate.predict import Predictor, predictor_for
from edgeprune.errors import EdgepruneError
from edgeprune.target import load_target

_T = TypeVar("_T")

_RUNS = 2
"""Timed runs of a bench: counts of instructions repeat, so that one run says it all and a second proves it."""

_UNAME = """#!/bin/sh
case "$1" in -m) echo {machine};; *) echo "Linux emulated";; esac
"""


class EmulatedTransport(LocalTransport):
    """Starts programs under qemu-user, in a folder of its own that goes with `close`."""

    def __init__(self, board: Board) -> None:
        super().__init__(board, kind="emulated")
        self._folder: Path | None = None
        self._emulator: Emulator | None = None
        self._predictor: Predictor | None = None
        self._unpredicted = ""

    def connect(self) -> None:
        """Set the emulator up. Raises EdgepruneError: emulator-missing, emulator-unsupported, link-failed."""
        if self._emulator is not None:
            return
        folder = Path(tempfile.mkdtemp(prefix="edgeprune-board-"))
        self._folder = folder
        target = load_target(self.board.target)
        self._emulator = set_up(target, folder)
        try:
            self._predictor = predictor_for(target)
        except EdgepruneError as error:
            self._unpredicted = f"{error.what}: {error.hint}"
        self.launcher = self._emulator.command
        self._home = folder / "home"
        self._home.mkdir()
        uname = folder / "bin" / "uname"
        uname.parent.mkdir()
        uname.write_text(_UNAME.format(machine=target.machine), encoding="ascii")
        uname.chmod(0o755)

    def run(self, argv: Sequence[str], seconds: float, stdin: bytes = b"") -> Ran:
        """As LocalTransport; what `edge-run bench` prints has counted instructions in place of times.

        Predicted times go with them, or why there are none. Raises EdgepruneError: board-timeout, emulator-failed,
        emulated-threads, mca-failed.
        """
        emulator = self._emulator
        if emulator is None:
            raise RuntimeError("connect comes first")
        program = _after(argv, emulator.command)
        if program is None or "bench" not in argv[program : program + 2]:
            return super().run([*self._surroundings(), *argv], seconds, stdin)
        require_one_thread(argv)
        before = argv[: program - len(emulator.command)]
        launcher = emulator.tracing if self._predictor else emulator.counting
        counted = [*before, *launcher, *fixed_runs(argv[program:], _RUNS)]
        emulator.counts.unlink(missing_ok=True)
        ran = super().run([*self._surroundings(), *counted], seconds, stdin)
        if ran.code:
            return ran
        told = _instructions(ran.stdout, emulator.regions())
        return Ran(0, json.dumps(told | self._times(told["layers"])).encode(), ran.stderr)

    def close(self) -> None:
        """Remove the folder."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
        self._folder = self._emulator = None
        self.launcher = ()

    def _times(self, layers: list[dict[str, Any]]) -> dict[str, Any]:
        """The predicted times of the program that was traced last, whose counted `layers` are given theirs."""
        if self._predictor is None or self._emulator is None:
            return {"unpredicted": self._unpredicted}
        cycles = self._predictor.cycles(self._emulator.executed())
        for layer, own in zip(layers, _steps(cycles, len(layers)), strict=True):
            layer["predicted_us"] = self._predictor.microseconds(own)
        told = self._predictor.prediction(_runs(cycles)[0])
        return {"predicted_ms": {**told.as_dict(), "basis": self._predictor.basis}}

    def _surroundings(self) -> list[str]:
        """What makes the shell's own questions see the board: a `uname` and a /proc/cpuinfo."""
        assert self._folder is not None and self._emulator is not None
        info = self._emulator.root / "proc" / "cpuinfo"
        path = f"{self._folder / 'bin'}:/usr/local/bin:/usr/bin:/bin"
        return ["env", f"PATH={path}", f"EDGEPRUNE_CPUINFO={info}"]


def _after(argv: Sequence[str], command: tuple[str, ...]) -> int | None:
    """Where the program stands in `argv` that `command` starts."""
    for start in range(len(argv) - len(command)):
        if tuple(argv[start : start + len(command)]) == command:
            return start + len(command)
    return None


def require_one_thread(argv: Sequence[str]) -> None:
    """Refuse a bench of several threads. Raises EdgepruneError (emulated-threads)."""
    threads = next((value for name, value in pairwise(argv) if name == "--threads"), "1")
    if threads != "1":
        what = f"{threads} threads on an emulated board, where instructions are counted of one"
        raise EdgepruneError("emulated-threads", what, where="--threads", hint="use 1 thread", exit_code=2)


def fixed_runs(argv: Sequence[str], runs: int) -> list[str]:
    """The bench with a fixed number of runs: times say nothing here."""
    words = list(argv)
    if "--seconds" in words:
        place = words.index("--seconds")
        del words[place : place + 2]
    return [*words, "--runs", str(runs)]


def _runs(regions: Sequence[_T]) -> Sequence[_T]:
    return regions[1 : 1 + _RUNS]


def _steps(regions: Sequence[_T], count: int) -> Sequence[_T]:
    return regions[2 + _RUNS : 2 + _RUNS + count]


def _instructions(printed: bytes, regions: list[int]) -> dict[str, Any]:
    """What the bench printed, as instructions: regions are the warm-up, the runs, then the profile.

    A profile has a region before its first step, one a step, and one behind the last.
    """
    told: dict[str, Any] = json.loads(printed)
    layers = told["layers"]
    runs, steps = _runs(regions), _steps(regions, len(layers))
    if len(regions) != 3 + _RUNS + len(layers) or len(set(runs)) != 1:
        what = f"{len(regions)} regions of instructions were counted, and the runs took {sorted(set(runs))}"
        raise EdgepruneError("emulator-failed", what, where="--board", hint="report this with the package")
    told["latency_ns"] = None
    told["instructions"] = runs[0]
    told["layers"] = [
        {"name": layer["name"], "instructions": count} for layer, count in zip(layers, steps, strict=True)
    ]
    return told
