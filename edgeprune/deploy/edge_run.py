"""A compiled model on a board, run by `edge-run`, the small program that goes there with it.

What `edge-run` is asked, and the JSON object that it prints:
    edge-run bench --library FILE --threads N --seconds S --json
        {"latency_ns": {"median", "min", "p90", "runs"}, "layers": [{"name", "time_ns"}], "cores", "peak_rss_bytes"}
    edge-run run --library FILE --threads N --inputs FILE --outputs FILE [--reset-every N] --json
        {"rows": N}; both files hold rows one after another, of each the ports in order, little-endian. What the model
        remembers goes from row to row; with --reset-every it is forgotten before the first row of each N.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec
import numpy as np

from edgeprune.deploy.session import Session
from edgeprune.deploy.transport import Ran
from edgeprune.errors import EdgepruneError
from edgeprune.progress import Progress, silent

PROGRAM = "edge-run"
LIBRARY = "model.so"
_INPUTS, _OUTPUTS = "inputs.bin", "outputs.bin"
_MOST_BYTES = 32 << 20
_NOT_STARTED = (126, 127)


class Port(Protocol):
    """One input or output: dense, row-major; `dtype` as numpy names it."""

    @property
    def name(self) -> str:
        """The model's name of it."""

    @property
    def shape(self) -> tuple[int, ...]:
        """With the batch axis."""

    @property
    def dtype(self) -> str:
        """As numpy names it."""


class LatencyTold(msgspec.Struct, frozen=True):
    """Nanoseconds an inference, over all measured ones."""

    median: float
    min: float
    p90: float
    runs: int


class LayerTold(msgspec.Struct, frozen=True):
    """What one step takes; steps of one layer carry the same name."""

    name: str
    time_ns: float | None = None
    instructions: int | None = None
    predicted_us: float | None = None


class PredictedTold(msgspec.Struct, frozen=True):
    """Milliseconds an inference that hardware may take, between which bounds it did, and by what this is known."""

    value: float
    low: float
    high: float
    basis: str


class BenchTold(msgspec.Struct, frozen=True):
    """What `edge-run bench` prints; `instructions` of an inference where the board counts them; `cores` it ran on.

    Where times are predicted of those, `predicted_ms` says what they are, `unpredicted` why there are none.
    """

    latency_ns: LatencyTold | None = None
    layers: tuple[LayerTold, ...] = ()
    cores: str | None = None
    peak_rss_bytes: int | None = None
    instructions: int | None = None
    predicted_ms: PredictedTold | None = None
    unpredicted: str = ""


class RunTold(msgspec.Struct, frozen=True):
    """What `edge-run run` prints."""

    rows: int


class BoardRunner:
    """A library with its runner on a board, placed there; `seconds_a_row` is what one inference may take.

    `keeps`: whether the model remembers something from one inference to the next.
    """

    def __init__(
        self,
        session: Session,
        files: Mapping[str, bytes],
        ports: tuple[Sequence[Port], Sequence[Port]],
        *,
        threads: int = 1,
        seconds_a_row: float = 5.0,
        keeps: bool = False,
    ) -> None:
        """`files` are edge-run and model.so, `ports` the model's inputs and outputs. Raises what placing them does."""
        self._session = session
        self._inputs, self._outputs = ports
        self._threads = threads
        self._seconds_a_row = seconds_a_row
        self._keeps = keeps
        self.uploaded = session.place(files)

    def run_rows(
        self, inputs: Mapping[str, np.ndarray], progress: Progress = silent, reset_every: int = 0
    ) -> dict[str, np.ndarray]:
        """One inference a row: arrays (count, *port shape) by input name, to the same by output name.

        What the model remembers is reset before the first row, and before each `reset_every`-th.

        Raises EdgepruneError: board-program-failed, board-outputs, and what the transport does.
        """
        count = len(next(iter(inputs.values())))
        size = max(_row_bytes(self._inputs), _row_bytes(self._outputs), 1)
        most = max(1, _MOST_BYTES // size) if not self._keeps else count
        reset = ("--reset-every", str(reset_every)) if self._keeps and reset_every else ()
        parts = []
        for first in range(0, count, most):
            progress("running on the board", first, count, "")
            parts.append(self._run_part({name: rows[first : first + most] for name, rows in inputs.items()}, reset))
        progress("running on the board", count, count, "")
        return {port.name: np.concatenate([part[port.name] for part in parts]) for port in self._outputs}

    def bench(self, seconds: float) -> BenchTold:
        """Latency of one inference after another for about `seconds`. Raises EdgepruneError as `run_rows` does."""
        asked = ("bench", "--library", f"./{LIBRARY}", "--threads", str(self._threads), "--seconds", f"{seconds:g}")
        return self._told(self._session.start(PROGRAM, (*asked, "--json"), 2 * seconds), BenchTold)

    def _run_part(self, inputs: Mapping[str, np.ndarray], reset: tuple[str, ...]) -> dict[str, np.ndarray]:
        count = len(next(iter(inputs.values())))
        self._session.write(_INPUTS, packed(inputs, self._inputs))
        asked = ("run", "--library", f"./{LIBRARY}", "--threads", str(self._threads))
        files = ("--inputs", _INPUTS, "--outputs", _OUTPUTS, *reset, "--json")
        told = self._told(self._session.start(PROGRAM, (*asked, *files), count * self._seconds_a_row), RunTold)
        size = count * _row_bytes(self._outputs)
        content = self._session.fetch(_OUTPUTS, size)
        if told.rows != count or len(content) != size:
            what = f"board {self._session.board.name} gave {len(content)} bytes for {told.rows} rows"
            hint = f"{count} rows are {size} bytes; its disk may be full"
            raise EdgepruneError("board-outputs", what, where=PROGRAM, hint=hint)
        return unpacked(content, self._outputs, count)

    def _told(self, ran: Ran, shape: type[Any]) -> Any:
        name = self._session.board.name
        if ran.code in _NOT_STARTED:
            hint = "its folder may forbid execution (folder in the board's file names another) or its system be 32-bit"
            what = f"board {name} cannot start the program: {ran.said}"
            raise EdgepruneError("board-program-failed", what, where=PROGRAM, hint=hint)
        if ran.code != 0:
            what = f"the program failed on board {name} (code {ran.code}): {ran.said or 'it said nothing'}"
            hint = "code 137 means that it was killed, mostly for lack of memory; use fewer threads"
            raise EdgepruneError("board-program-failed", what, where=PROGRAM, hint=hint)
        try:
            return msgspec.json.decode(ran.stdout, type=shape)
        except msgspec.MsgspecError as error:
            what = f"board {name} did not answer in JSON: {error}"
            hint = "something else writes to standard output there, such as a login script"
            raise EdgepruneError("board-outputs", what, where=PROGRAM, hint=hint) from error


def packed(inputs: Mapping[str, np.ndarray], ports: Sequence[Port]) -> bytes:
    """Rows one after another, of each the ports in order: little-endian, dense."""
    count = len(next(iter(inputs.values())))
    rows = [np.ascontiguousarray(inputs[port.name], _dtype(port)).reshape(count, -1).view(np.uint8) for port in ports]
    return np.concatenate(rows, axis=1).tobytes()


def unpacked(content: bytes, ports: Sequence[Port], count: int) -> dict[str, np.ndarray]:
    """The arrays (count, *port shape) that `packed` was made of, in this machine's byte order."""
    table = np.frombuffer(content, np.uint8).reshape(count, -1)
    arrays: dict[str, np.ndarray] = {}
    start = 0
    for port in ports:
        end = start + _port_bytes(port)
        values = np.ascontiguousarray(table[:, start:end]).view(_dtype(port))
        arrays[port.name] = values.reshape(count, *port.shape).astype(port.dtype)
        start = end
    return arrays


def _dtype(port: Port) -> np.dtype[Any]:
    return np.dtype(port.dtype).newbyteorder("<")


def _port_bytes(port: Port) -> int:
    return int(np.prod(port.shape, dtype=np.int64)) * np.dtype(port.dtype).itemsize


def _row_bytes(ports: Sequence[Port]) -> int:
    return sum(_port_bytes(port) for port in ports)
