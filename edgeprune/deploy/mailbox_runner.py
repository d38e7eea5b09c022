"""A model in firmware, run and measured through its mailbox, over a probe, a line or an emulator."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Mapping

import numpy as np

from edgeprune.bare_model import BareModel
from edgeprune.deploy.edge_run import BenchTold, LatencyTold, LayerTold
from edgeprune.deploy.mailbox import BENCH, RESET, RUN, Mailbox, MailboxClient, Memory
from edgeprune.errors import EdgepruneError
from edgeprune.progress import Progress, silent

_START_SECONDS = 10.0
_EMULATED_RUNS = 2
"""Counts of instructions repeat: one run says it all and a second proves it."""
_CLOCK_SECONDS = 1.0
_MOST_RUNS = 10_000


class MailboxRunner:
    """The model of firmware that runs at `address` of `memory`.

    `take_regions` is given by emulators: instructions of each run and each profiled step since it was last called.
    """

    def __init__(
        self,
        memory: Memory,
        address: int,
        model: BareModel,
        *,
        seconds_a_row: float = 60.0,
        take_regions: Callable[[], list[int]] | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """Wait until the firmware has started. Raises EdgepruneError: mailbox-timeout, mailbox-missing, and others'."""
        self._memory, self._model, self._clock = memory, model, clock
        self._client = MailboxClient(memory, address)
        self._seconds_a_row = seconds_a_row
        self._take_regions = take_regions
        self._started = self._client.wait_ready(_START_SECONDS)

    def require_library(self, digest: bytes) -> None:
        """Refuse firmware of another library than the one whose SHA-256 is `digest`.

        Raises EdgepruneError (board-other-package).
        """
        if self._started.library != digest[:8]:
            what = f"the board holds another package: library {self._started.library.hex()}, not {digest[:8].hex()}"
            raise EdgepruneError("board-other-package", what, where="--board", hint="flash this package first")

    def run_rows(
        self, inputs: Mapping[str, np.ndarray], progress: Progress = silent, reset_every: int = 0
    ) -> dict[str, np.ndarray]:
        """One inference a row: real arrays (count, *shape) by input name, to the same by output name.

        What the model keeps is reset before the first row, and before each `reset_every`-th.

        Raises EdgepruneError: mailbox-timeout, mailbox-failed, mailbox-missing, and what reaching the memory raises.
        """
        count = len(next(iter(inputs.values())))
        rows: dict[str, list[np.ndarray]] = {tensor.name: [] for tensor in self._model.outputs}
        for index in range(count):
            progress("running on the board", index, count, "")
            if index == 0 or (reset_every and index % reset_every == 0):
                self._reset()
            self._put({name: values[index] for name, values in inputs.items()})
            self._call(RUN)
            for tensor in self._model.outputs:
                content = self._memory.read(self._started.arena_address + tensor.offset, tensor.size)
                rows[tensor.name].append(tensor.real(content))
        progress("running on the board", count, count, "")
        return {name: np.stack(values) for name, values in rows.items()}

    def bench(self, seconds: float) -> BenchTold:
        """One inference after another for about `seconds`, then one by steps; on emulators, instructions alone.

        Raises EdgepruneError as `run_rows` does, and emulator-failed where two equal runs took different counts.
        """
        if self._take_regions is not None:
            return self._counted(self._take_regions)
        hertz = self._started.clock_hz or self._measured_clock()
        deadline = self._clock() + seconds
        taken = [self._call(RUN).cycles]
        while self._clock() < deadline and len(taken) < _MOST_RUNS:
            taken.append(self._call(RUN).cycles)
        nanoseconds = np.array(taken) * (1e9 / hertz)
        median, least, p90 = (
            float(np.median(nanoseconds)),
            float(nanoseconds.min()),
            float(np.percentile(nanoseconds, 90)),
        )
        return BenchTold(LatencyTold(median, least, p90, len(taken)), self._profile(hertz))

    def _counted(self, take_regions: Callable[[], list[int]]) -> BenchTold:
        take_regions()
        content = self._filled_arena()
        for command in (*[RUN] * _EMULATED_RUNS, BENCH):
            self._memory.write(self._started.arena_address, content)
            self._reset()
            self._call(command)
        regions, steps = take_regions(), self._model.steps
        runs, profiled = regions[:_EMULATED_RUNS], regions[_EMULATED_RUNS:]
        if len(profiled) != len(steps) + 1 or len(set(runs)) != 1:
            what = f"{len(regions)} regions of instructions were counted, and the runs took {sorted(set(runs))}"
            raise EdgepruneError("emulator-failed", what, where="--board", hint="report this with the package")
        layers = tuple(LayerTold(name, instructions=count) for name, count in zip(steps, profiled, strict=False))
        return BenchTold(instructions=runs[0], layers=layers)

    def _filled_arena(self) -> bytes:
        """An arena with inputs that are the same each time: how many instructions run may depend on them."""
        generator = np.random.default_rng(0)
        content = bytearray(self._model.arena_bytes)
        for tensor in self._model.inputs:
            real = np.zeros(tensor.shape) if tensor.dtype.startswith("int") else generator.normal(0, 1, tensor.shape)
            stored = generator.bytes(tensor.size) if tensor.scale else tensor.stored(real)
            content[tensor.offset : tensor.offset + tensor.size] = stored
        return bytes(content)

    def _profile(self, hertz: float) -> tuple[LayerTold, ...]:
        told, steps = self._call(BENCH), self._model.steps
        content = self._memory.read(told.step_cycles_address, 4 * len(steps))
        cycles = struct.unpack(f"<{len(steps)}I", content)
        return tuple(LayerTold(name, time_ns=count * 1e9 / hertz) for name, count in zip(steps, cycles, strict=True))

    def _measured_clock(self) -> float:
        """The core's clock by this machine's: as many runs as take a second or more."""
        runs = 1
        while True:
            before = self._clock()
            cycles = self._call(BENCH, runs).cycles
            passed = self._clock() - before
            if passed >= _CLOCK_SECONDS or runs >= _MOST_RUNS:
                return max(cycles, 1) / passed
            runs = min(_MOST_RUNS, 1 + int(runs * 1.5 * _CLOCK_SECONDS / max(passed, 1e-3)))

    def _put(self, row: Mapping[str, np.ndarray]) -> None:
        for tensor in self._model.inputs:
            self._memory.write(self._started.arena_address + tensor.offset, tensor.stored(row[tensor.name]))

    def _reset(self) -> None:
        """Have the model forget what it keeps, if it keeps something."""
        if self._model.keeps:
            self._call(RESET)

    def _call(self, command: int, argument: int = 0) -> Mailbox:
        return self._client.call(command, argument, self._seconds_a_row * (argument + 1))
