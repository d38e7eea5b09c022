"""GDB's remote serial protocol, as far as memory, breakpoints and going on need it (GDB manual, appendix E)."""

from __future__ import annotations

import socket
import time

from edgeprune.errors import EdgepruneError

_MOST_BYTES = 1024
_ANSWER_SECONDS = 10.0
_INTERRUPT = b"\x03"


class GdbStub:
    """A machine behind a connected socket, halted to begin with. All raise EdgepruneError (emulator-failed)."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._received = b""
        self._ask(b"?")

    def read(self, address: int, size: int) -> bytes:
        """`size` bytes of memory."""
        parts = []
        for start in range(address, address + size, _MOST_BYTES):
            wanted = min(_MOST_BYTES, address + size - start)
            answer = self._ask(b"m%x,%x" % (start, wanted))
            parts.append(_bytes(answer, f"read {wanted} bytes at {start:#010x}", wanted))
        return b"".join(parts)

    def write(self, address: int, data: bytes) -> None:
        """Put `data` at `address`."""
        for start in range(0, len(data), _MOST_BYTES):
            part = data[start : start + _MOST_BYTES]
            answer = self._ask(b"M%x,%x:%s" % (address + start, len(part), part.hex().encode()))
            _require_ok(answer, f"write {len(part)} bytes at {address + start:#010x}")

    def stop_at(self, address: int) -> None:
        """Halt before the Thumb instruction at `address`, whenever it comes."""
        _require_ok(self._ask(b"Z0,%x,2" % address), f"stop at {address:#010x}")

    def go(self, seconds: float) -> bool:
        """Go on until the next stop or for `seconds`, then halt; whether the stop came."""
        self._ask(b"s")
        self._send(b"c")
        try:
            self._packet(seconds)
            return True
        except TimeoutError:
            self._transmit(_INTERRUPT)
            self._answer()
            return False

    def _ask(self, command: bytes) -> bytes:
        self._send(command)
        return self._answer()

    def _answer(self) -> bytes:
        try:
            return self._packet(_ANSWER_SECONDS)
        except TimeoutError as error:
            raise _failed(f"it said nothing for {_ANSWER_SECONDS:g} seconds") from error

    def _send(self, command: bytes) -> None:
        self._transmit(b"$%s#%02x" % (command, sum(command) & 0xFF))

    def _packet(self, seconds: float) -> bytes:
        """What the next packet holds. Raises TimeoutError."""
        deadline = time.monotonic() + seconds
        while True:
            start = self._received.find(b"$")
            end = self._received.find(b"#", start)
            if start >= 0 and end >= 0 and len(self._received) >= end + 3:
                content, given = self._received[start + 1 : end], self._received[end + 1 : end + 3]
                self._received = self._received[end + 3 :]
                self._transmit(b"+")
                if given.lower() != b"%02x" % (sum(content) & 0xFF):
                    raise _failed("a packet was damaged")
                return content
            self._receive(deadline)

    def _receive(self, deadline: float) -> None:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._socket.settimeout(left)
        try:
            data = self._socket.recv(65536)
        except TimeoutError:
            raise
        except OSError as error:
            raise _failed(str(error)) from error
        if not data:
            raise _failed("it ended")
        self._received += data

    def _transmit(self, data: bytes) -> None:
        try:
            self._socket.settimeout(_ANSWER_SECONDS)
            self._socket.sendall(data)
        except OSError as error:
            raise _failed(str(error)) from error


def _bytes(answer: bytes, what: str, size: int) -> bytes:
    try:
        data = bytes.fromhex(answer.decode("ascii"))
    except (ValueError, UnicodeDecodeError):
        data = b""
    if len(data) != size:
        raise _failed(f"it did not {what} ({answer[:16].decode('ascii', 'replace')})")
    return data


def _require_ok(answer: bytes, what: str) -> None:
    if answer != b"OK":
        raise _failed(f"it did not {what} ({answer[:16].decode('ascii', 'replace')})")


def _failed(why: str) -> EdgepruneError:
    hint = "start it again; if it happens again, report this with the package"
    return EdgepruneError("emulator-failed", f"QEMU gave no answer: {why}", where="--board", hint=hint)
