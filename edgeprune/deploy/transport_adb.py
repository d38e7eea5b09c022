"""Boards reached by adb: its own server finds the device, shell_v2 and sync do the work there."""

from __future__ import annotations

import shlex
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from edgeprune.board import Board
from edgeprune.deploy.adb_protocol import Exchange, RefusedError
from edgeprune.deploy.transport import (
    Ran,
    download_failed,
    extra_missing,
    lost,
    printable,
    timed_out,
    unreachable,
    upload_failed,
)
from edgeprune.errors import EdgepruneError

if TYPE_CHECKING:
    from adbutils import AdbClient

T = TypeVar("T")

_SERVER = "adb's server"


@dataclass(frozen=True)
class AdbDevice:
    """A device that adb's server knows; `state` is "device" where it can be used."""

    serial: str
    state: str


class AdbTransport:
    """A device by its serial number; every command has a connection of its own to adb's server."""

    launcher: tuple[str, ...] = ()
    kind = "measured"

    def __init__(self, board: Board) -> None:
        """Raises EdgepruneError (extra-missing) where adbutils is not installed."""
        self.board = board
        self._client, self._error = _client(board)
        self._serial = board.serial

    def connect(self) -> None:
        """Find the device: the only one where no serial number is given.

        Raises EdgepruneError: board-unreachable; board-ambiguous, which lists the devices.
        """
        devices = self.devices()
        if not self._serial:
            self._serial = _only(self.board, devices)
        state = next((device.state for device in devices if device.serial == self._serial), None)
        if state is None:
            hint = f"plug it in and allow USB debugging; adb sees {_listed(devices)}"
            raise unreachable(self.board, self._serial, "adb does not see it", hint)
        if state != "device":
            hint = "answer the question on its screen" if state == "unauthorized" else "plug it in again"
            raise unreachable(self.board, self._serial, f"adb says that it is {printable(state)}", hint)

    def devices(self) -> list[AdbDevice]:
        """What adb's server knows. Raises EdgepruneError (board-unreachable) where no server answers or starts."""
        try:
            return [AdbDevice(info.serial, info.state) for info in self._client.list()]
        except (self._error, OSError, EOFError, ValueError) as error:
            raise unreachable(self.board, _SERVER, printable(str(error)), "start it: adb start-server") from error

    def run(self, argv: Sequence[str], seconds: float, stdin: bytes = b"") -> Ran:
        """Run `argv`, quoted for the device's shell. Raises EdgepruneError (board-timeout, board-lost)."""
        command = shlex.join(argv)
        try:
            return self._use(lambda exchange: exchange.shell(command, stdin), seconds, argv[0])
        except RefusedError as error:
            raise lost(self.board, self._serial, printable(str(error))) from error

    def upload(self, content: bytes, path: str, seconds: float) -> None:
        """Write a file. Raises EdgepruneError: board-disk-full, board-upload-failed, board-timeout, board-lost."""
        try:
            self._use(lambda exchange: exchange.send(content, path), seconds, "an upload")
        except RefusedError as error:
            raise upload_failed(self.board, path, str(error)) from error

    def download(self, path: str, seconds: float) -> bytes:
        """Read a file. Raises EdgepruneError: board-download-failed, board-timeout, board-lost."""
        try:
            return self._use(lambda exchange: exchange.receive(path), seconds, "a download")
        except RefusedError as error:
            raise download_failed(self.board, path, str(error)) from error

    def close(self) -> None:
        """Nothing to do: no connection outlives its command."""

    def _use(self, work: Callable[[Exchange], T], seconds: float, what: str) -> T:
        """What `work` makes of a new connection to the device, within `seconds`. RefusedError passes through."""
        try:
            with self._client.make_connection(self.board.connect_seconds) as connection:
                exchange = Exchange(connection.conn, seconds)
                try:
                    exchange.ask(f"host:transport:{self._serial}")
                except RefusedError as error:
                    raise lost(self.board, self._serial, printable(str(error))) from error
                return work(exchange)
        except TimeoutError as error:
            raise timed_out(self.board, self._serial, what, seconds) from error
        except (self._error, OSError, EOFError, struct.error, ValueError) as error:
            raise lost(self.board, self._serial, printable(str(error)) or "it was closed") from error


def _client(board: Board) -> tuple[AdbClient, type[Exception]]:
    try:
        import adbutils
    except ImportError as error:
        raise extra_missing(board, "adb", "adbutils") from error
    known: Any = adbutils
    return known.AdbClient(socket_timeout=board.connect_seconds), known.AdbError


def _only(board: Board, devices: list[AdbDevice]) -> str:
    """The serial number of the one device that can be used."""
    usable = [device for device in devices if device.state == "device"] or devices
    if not usable:
        hint = "plug it in and allow USB debugging, or connect it: adb connect HOST:PORT"
        raise unreachable(board, _SERVER, "adb sees no device", hint)
    if len(usable) > 1:
        what = f"adb sees {len(usable)} devices: {_listed(usable)}"
        hint = f"name one: --board {board.name}@{printable(usable[0].serial)}"
        raise EdgepruneError("board-ambiguous", what, where="--board", hint=hint, exit_code=2)
    return usable[0].serial


def _listed(devices: list[AdbDevice]) -> str:
    return ", ".join(printable(device.serial) for device in devices) or "none"
