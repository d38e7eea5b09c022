"""The memory of a running chip over a serial line, where no probe reaches it; the firmware's uart.c answers."""

from __future__ import annotations

import secrets
import struct
import time
from collections.abc import Callable

from edgeprune.deploy.serial_frames import ADDRESS, DONE, HELLO, OK, READ, SESSION, WRITE, Decoder, Frame, encode
from edgeprune.device.failures import probe_lost, probe_missing
from edgeprune.device.port import Line
from edgeprune.errors import EdgepruneError

_VERSION = 1
_LEAST_BODY, _MOST_BODY = 16, 2048
_OVERHEAD = 32
_SLACK_SECONDS = 0.25
_POLL_SECONDS = 1.0
_TRIES = 5
_SEQUENCE = 16
"""Where in the mailbox the word stands that starts a run: its answer may be lost, and the board be deaf already."""


class SerialMemory:
    """A mailbox's Memory at the port `device`, reached at its first use; requests that get lost are sent again.

    `busy_seconds` is how long the chip may be deaf while a model runs. `session` gives a new number for a connection.
    """

    def __init__(
        self,
        device: str,
        baud: int,
        *,
        busy_seconds: float = 60.0,
        session: Callable[[], int] = lambda: 1 + secrets.randbelow(0xFFFF),
    ) -> None:
        self._device, self._baud, self._busy_seconds, self._new_session = device, baud, busy_seconds, session
        self._line: Line | None = None
        self._decoder = Decoder()
        self._number, self._session, self._body, self._running = 0, 0, _LEAST_BODY, False
        self.mailbox_address = 0

    def connect(self) -> None:
        """Reach the firmware; once more after the connection was lost. `mailbox_address` is known then.

        Raises EdgepruneError: flasher-missing, probe-missing, mailbox-missing.
        """
        self.close()
        self._line = Line(self._device, self._baud)
        self._decoder, self._running = Decoder(), False
        self._session = self._new_session()
        try:
            body = self._ask(HELLO, b"", 12)
        except EdgepruneError as error:
            self.close()
            if error.code != "probe-lost":
                raise
            hint = "flash the package again; see that the baud rate in the board's file is the firmware's"
            raise probe_missing("no firmware of edgeprune answers", self._device, hint) from error
        version, self.mailbox_address, body_bytes = struct.unpack("<3I", body)
        if version != _VERSION:
            self.close()
            what = f"its firmware speaks version {version} of the serial line, and this is {_VERSION}"
            raise EdgepruneError(
                "mailbox-missing", what, where=self._device, hint="flash the package again, then retry"
            )
        self._body = max(_LEAST_BODY, min(body_bytes, _MOST_BODY)) & ~3

    def read(self, address: int, size: int) -> bytes:
        """`size` bytes from `address` on. Errors: probe-lost, board-reset, memory-fault."""
        parts, step = [], self._largest()
        for start in range(address, address + size, step):
            length = min(step, address + size - start)
            parts.append(self._ask(READ, struct.pack("<2I", start, length), length))
        return b"".join(parts)

    def write(self, address: int, data: bytes) -> None:
        """Put `data` at `address`. Errors: probe-lost, board-reset, memory-fault."""
        step = self._largest()
        for start in range(0, len(data), step):
            part = data[start : start + step]
            told = self._ask(WRITE, struct.pack("<I", address + start) + part, 4)
            self._running = any(told)

    def wait(self, seconds: float) -> None:
        """Listen for the end of a run for up to `seconds`. Error: probe-lost."""
        end = time.monotonic() + seconds
        while self._running and time.monotonic() < end:
            self._hear(min(_POLL_SECONDS, max(0.0, end - time.monotonic())), None)

    def close(self) -> None:
        """End the connection; nothing is raised."""
        if self._line is not None:
            self._line.close()
        self._line = None

    def _largest(self) -> int:
        """The most bytes of one request, known once there is a connection."""
        if self._line is None:
            self.connect()
        return self._body

    def _ask(self, kind: int, body: bytes, size: int) -> bytes:
        """The body, of `size` bytes, of the answer to a request."""
        self._number = (self._number + 1) & 0xFF
        request = Frame(self._number, kind, self._session, body)
        answer = self._answered(request, size)
        if answer.kind == SESSION:
            self.connect()
            hint = "repeat what you did: what was written to it before is lost"
            raise EdgepruneError(
                "board-reset", "the board was reset while it was in use", where=self._device, hint=hint
            )
        if answer.kind == ADDRESS:
            place = struct.unpack_from("<I", body)[0] if len(body) >= 4 else 0
            what = f"the firmware lets nobody at its memory from 0x{place:08x}"
            hint = "flash the package again, then retry"
            raise EdgepruneError("memory-fault", what, where=self._device, hint=hint)
        if answer.kind != OK or len(answer.body) != size:
            raise probe_lost(self._device, f"an answer of kind {answer.kind} with {len(answer.body)} bytes came")
        return answer.body

    def _answered(self, request: Frame, size: int) -> Frame:
        """Send until an answer comes, some times at least; while a model runs, rarely and for longer."""
        assert self._line is not None
        content = encode(request)
        seconds = _SLACK_SECONDS + 10 * (len(content) + size + _OVERHEAD) / self._baud
        deaf = self._running or request.body[:4] == struct.pack("<I", self.mailbox_address + _SEQUENCE)
        end = time.monotonic() + (self._busy_seconds if deaf else 0.0) + _TRIES * seconds
        tries = 0
        while (left := end - time.monotonic()) > 0 or tries < _TRIES:
            tries += 1
            if self._running:
                self._hear(min(_POLL_SECONDS, max(left, 0.0)), None)
            self._line.write(content)
            answer = self._hear(seconds, request.number)
            if answer is not None:
                self._running = False
                return answer
        told = f"it did not finish, asked for {self._busy_seconds:g} s" if deaf else "it does not answer"
        raise probe_lost(self._device, told)

    def _hear(self, seconds: float, number: int | None) -> Frame | None:
        """The answer `number` within `seconds`; the note that a run has ended ends the waiting too."""
        assert self._line is not None
        end = time.monotonic() + seconds
        while True:
            arrived = self._line.read(max(0.0, end - time.monotonic()))
            for frame in self._decoder.feed(arrived):
                if frame.kind == DONE and frame.session == self._session:
                    self._running = False
                    return None
                if frame.kind < DONE and frame.number == number:
                    return frame
            if time.monotonic() >= end:
                return None
