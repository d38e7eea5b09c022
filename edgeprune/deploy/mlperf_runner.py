"""A runner of MLPerf Tiny: what EEMBC's does to a device over its serial line, in performance and accuracy mode.

Rules: mlcommons/tiny, benchmark/MLPerfTiny_Rules.adoc.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from edgeprune.deploy.mlperf_protocol import Kind, Message, Value, load_commands, parse_line
from edgeprune.device.failures import readable
from edgeprune.errors import EdgepruneError

LEAST_SECONDS = 10.0
LEAST_RUNS = 10
"""What one measurement takes at least, by the rules."""

_CONNECT_TRIES, _CONNECT_SECONDS, _QUIET_SECONDS = 5, 1.0, 0.05
_INTRODUCTION: tuple[Kind, ...] = ("name", "profile", "model")
_MISUNDERSTOOD = ("mlperf-timeout", "mlperf-line", "mlperf-refused", "mlperf-order", "board-reset")
_SLACK = 1.1
_DRIFT = 0.05
_LONGEST_LINE = 1 << 16
_MICROSECONDS = 1 << 32
_MOST_RUNS = 1_000_000


class TextLine(Protocol):
    """A way to a device. All raise EdgepruneError."""

    device: str

    def write(self, data: bytes) -> None:
        """Send `data`."""

    def read(self, seconds: float) -> bytes:
        """What arrives within `seconds`, as soon as something does; empty where nothing does."""


@dataclass(frozen=True)
class Device:
    """What a device says of itself: its maker's name, its firmware, the benchmark that it holds."""

    name: str
    profile: str
    model: str


@dataclass(frozen=True)
class Inference:
    """`count` inferences in `microseconds` by the device's clock, `seconds` by this machine's, and what came out."""

    count: int
    microseconds: int
    seconds: float
    results: tuple[float, ...]

    @property
    def per_second(self) -> float:
        """Inferences a second by the device's clock."""
        return self.count * 1e6 / self.microseconds


class MlperfRunner:
    """Talks to the device at the other end of `line`, which answers a command within `answer_seconds`."""

    def __init__(
        self, line: TextLine, *, answer_seconds: float = 10.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._line, self._answer_seconds, self._clock = line, answer_seconds, clock
        self._received, self._name = b"", ""

    def connect(self) -> Device:
        """Find the device, whatever it said and was told before. Raises EdgepruneError (mlperf-silent)."""
        for _ in range(_CONNECT_TRIES):
            try:
                return self._introduced()
            except EdgepruneError as error:
                if error.code not in _MISUNDERSTOOD:
                    raise
        hint = "flash the firmware again; see that the baud rate in the board's file is the firmware's"
        what = "no firmware of MLPerf Tiny answers"
        raise EdgepruneError("mlperf-silent", what, where=self._line.device, hint=hint)

    def _introduced(self) -> Device:
        """What the device answers once it has said all that it had to say before."""
        told = []
        for command in ("name", "profile"):
            self._drop()
            self._send(command)
            told += self._gather(command, _CONNECT_SECONDS)
        device = Device(*(str(self._last(kind, told)) for kind in _INTRODUCTION))
        self._name = device.name
        return device

    def timestamp(self) -> int:
        """Microseconds by the device's clock, modulo 2^32."""
        return _whole(self._last("lap", self._ask("timestamp")))

    def load(self, data: bytes) -> None:
        """Bring the bytes of one input. Raises EdgepruneError: mlperf-refused, mlperf-order, and as all else here."""
        first, *parts = load_commands(data, self._name)
        if self._last("expecting", self._ask(first)) != len(data):
            raise self._disorder("'m-[Expecting ...]' with another number", first)
        for place, command in enumerate(parts):
            done = [message.kind for message in self._ask(command)] == ["load-done", "ready"]
            if done != (place == len(parts) - 1):
                raise self._disorder("'m-load-done' too late" if not done else "'m-load-done' too early", "db")

    def results(self) -> tuple[float, ...]:
        """The first output of the last inference."""
        return _reals(self._last("results", self._ask("results")))

    def infer(self, count: int = 1, warmup: int = 0, seconds: float | None = None) -> Inference:
        """`warmup` inferences and then `count` measured ones, within `seconds`, else an answer's time for each."""
        command = f"infer {count} {warmup}"
        told, between = self._timed(command, seconds or self._answer_seconds * (count + warmup))
        kinds = [message.kind for message in told]
        wanted = ["warmup-start", "warmup-done", "infer-start", "lap", "lap", "infer-done", "results", "ready"]
        if kinds != wanted:
            raise self._disorder(f"'{' '.join(kinds)}'", command)
        if told[0].value != warmup or told[2].value != count:
            raise self._disorder(f"{_whole(told[0].value)} warmups and {_whole(told[2].value)} inferences", command)
        passed = (_whole(told[4].value) - _whole(told[3].value)) % _MICROSECONDS
        return Inference(count, passed, between, _reals(told[6].value))

    def performance(self, least_seconds: float = LEAST_SECONDS, least_runs: int = LEAST_RUNS) -> Inference:
        """The loaded input for as long as the rules want.

        Raises EdgepruneError (mlperf-clock) where the device's clock and this machine's disagree.
        """
        once = self._told_time(self.infer(1, 1))
        count = 1
        while True:
            count = _enough(once, count, least_seconds, least_runs)
            expected = once.microseconds / 1e6 / once.count * (count + 1)
            measured = self._told_time(self.infer(count, 1, self._answer_seconds + 2 * expected))
            if measured.microseconds >= least_seconds * 1e6 or count >= _MOST_RUNS:
                self._check_clock(measured)
                return measured
            once = measured

    def _check_clock(self, measured: Inference) -> None:
        board = measured.microseconds / 1e6
        if abs(board - measured.seconds) > _DRIFT * measured.seconds + 0.1:
            what = f"the board's clock counted {board:.2f} s where {measured.seconds:.2f} s passed"
            hint = "correct reset_mhz in the chip's file, then flash again"
            raise EdgepruneError("mlperf-clock", what, where=self._line.device, hint=hint)

    def _told_time(self, measured: Inference) -> Inference:
        if measured.microseconds == 0:
            what = f"the board's clock did not move during {measured.count} inferences"
            hint = "its counter must run; an emulated board counts instructions instead"
            raise EdgepruneError("mlperf-clock", what, where=self._line.device, hint=hint)
        return measured

    def _ask(self, command: str) -> list[Message]:
        self._send(command)
        return self._gather(command, self._answer_seconds)

    def _timed(self, command: str, seconds: float) -> tuple[list[Message], float]:
        """The messages up to the next ready, and this machine's seconds between the first two laps."""
        laps: list[float] = []
        self._send(command)
        told = self._gather(command, seconds, lambda: laps.append(self._clock()))
        return told, laps[1] - laps[0] if len(laps) > 1 else 0.0

    def _send(self, command: str) -> None:
        self._line.write(f"{command}%".encode("ascii"))

    def _gather(self, command: str, seconds: float, lap: Callable[[], None] = lambda: None) -> list[Message]:
        """The answers to `command`, up to and with the next ready. Errors: see `_checked`; mlperf-timeout."""
        deadline = self._clock() + seconds
        told: list[Message] = []
        while True:
            message = self._checked(self._next_line(command, deadline, seconds), command)
            told.append(message)
            if message.kind == "lap":
                lap()
            if message.kind == "ready":
                return told

    def _checked(self, line: str, command: str) -> Message:
        """What `line` says. Raises EdgepruneError: mlperf-line; mlperf-refused; board-reset."""
        message = parse_line(line, self._line.device)
        if message.kind == "error":
            what = f"the board refuses '{command[:40]}': {readable(str(message.value))}"
            hint = "flash the package again, then retry"
            raise EdgepruneError("mlperf-refused", what, where=self._line.device, hint=hint)
        if message.kind in ("timestamp-mode", "init-done"):
            hint = "see that its supply is steady, then repeat"
            what = f"the board was reset while '{command[:40]}' was done"
            raise EdgepruneError("board-reset", what, where=self._line.device, hint=hint)
        return message

    def _next_line(self, command: str, deadline: float, seconds: float) -> str:
        while b"\n" not in self._received:
            left = deadline - self._clock()
            if left <= 0 or len(self._received) > _LONGEST_LINE:
                what = f"the board did not answer '{command[:40]}' within {seconds:g} seconds"
                hint = "reset it and retry; command_seconds in the board's file allows more"
                raise EdgepruneError("mlperf-timeout", what, where=self._line.device, hint=hint)
            self._received += self._line.read(left)
        line, _, self._received = self._received.partition(b"\n")
        return line.rstrip(b"\r").decode("utf-8", "replace")

    def _drop(self) -> None:
        """Forget what has been said, and what the device was in the middle of."""
        end = self._clock() + _CONNECT_SECONDS
        while self._line.read(_QUIET_SECONDS) and self._clock() < end:
            pass
        self._received = b""

    def _last(self, kind: Kind, told: list[Message]) -> Value:
        found = [message.value for message in told if message.kind == kind]
        if len(found) != 1:
            raise self._disorder(f"{len(found)} lines '{kind}'", kind)
        return found[0]

    def _disorder(self, what: str, command: str) -> EdgepruneError:
        hint = "see that nothing else uses the line, then repeat"
        text = f"the board answered '{command}' with {what}"
        return EdgepruneError("mlperf-order", text, where=self._line.device, hint=hint)


def _enough(once: Inference, least: int, seconds: float, runs: int) -> int:
    """Inferences that take `seconds`, by what `once` took; more than `least`."""
    wanted = int(seconds * _SLACK * 1e6 * once.count / once.microseconds) + 1
    return min(_MOST_RUNS, max(wanted, runs, least))


def _whole(value: Value) -> int:
    assert isinstance(value, int)
    return value


def _reals(value: Value) -> tuple[float, ...]:
    assert isinstance(value, tuple)
    return value
