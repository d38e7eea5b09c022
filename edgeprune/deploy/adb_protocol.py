"""What is said to adb's server after it was reached: shell_v2 and sync, each exchange within a time of its own.

The protocol is that of Android's packages/modules/adb: SERVICES.TXT, SYNC.TXT, shell_protocol.h.
"""

from __future__ import annotations

import socket
import struct
import time

from edgeprune.deploy.transport import Ran

_STDIN, _STDOUT, _STDERR, _EXIT, _CLOSE_STDIN = range(5)
_CHUNK = 60 * 1024
_MODE = 0o100644


class RefusedError(Exception):
    """The server or the device says no; the message is what it says."""


class Exchange:
    """One connection to adb's server, whose whole talk ends within `seconds`.

    Every call raises TimeoutError, OSError or EOFError where the connection fails, RefusedError where the answer is no.
    """

    def __init__(self, connection: socket.socket, seconds: float) -> None:
        self._socket = connection
        self._end = time.monotonic() + seconds

    def ask(self, service: str) -> None:
        """Open a service of the server, or of the device once it was chosen."""
        content = service.encode()
        self._send(f"{len(content):04x}".encode() + content)
        answer = self._read(4)
        if answer != b"OKAY":
            raise RefusedError(self._read(int(self._read(4), 16)).decode("utf-8", "replace"))

    def shell(self, command: str, stdin: bytes) -> Ran:
        """Run `command` in the device's shell: packets of an id, a length and what the streams carry."""
        self.ask(f"shell,v2,raw:{command}")
        for start in range(0, len(stdin), _CHUNK):
            part = stdin[start : start + _CHUNK]
            self._send(struct.pack("<BI", _STDIN, len(part)) + part)
        self._send(struct.pack("<BI", _CLOSE_STDIN, 0))
        written = {_STDOUT: bytearray(), _STDERR: bytearray()}
        while True:
            kind, size = struct.unpack("<BI", self._read(5))
            part = self._read(size)
            if kind == _EXIT:
                return Ran(part[0], bytes(written[_STDOUT]), bytes(written[_STDERR]))
            if kind in written:
                written[kind] += part

    def send(self, content: bytes, path: str) -> None:
        """Write a file of the device."""
        self.ask("sync:")
        name = f"{path},{_MODE}".encode()
        try:
            self._send(b"SEND" + struct.pack("<I", len(name)) + name)
            for start in range(0, len(content), _CHUNK):
                part = content[start : start + _CHUNK]
                self._send(b"DATA" + struct.pack("<I", len(part)) + part)
            self._send(b"DONE" + struct.pack("<I", int(time.time())))
        except (BrokenPipeError, ConnectionResetError):
            pass  # a device that refuses stops listening: its answer says why
        kind, size = struct.unpack("<4sI", self._read(8))
        if kind != b"OKAY":
            raise RefusedError(self._read(size).decode("utf-8", "replace"))

    def receive(self, path: str) -> bytes:
        """Read a file of the device."""
        self.ask("sync:")
        name = path.encode()
        self._send(b"RECV" + struct.pack("<I", len(name)) + name)
        content = bytearray()
        while True:
            kind, size = struct.unpack("<4sI", self._read(8))
            if kind == b"DONE":
                return bytes(content)
            part = self._read(size)
            if kind != b"DATA":
                raise RefusedError(part.decode("utf-8", "replace"))
            content += part

    def _send(self, data: bytes) -> None:
        self._hurry()
        self._socket.sendall(data)

    def _read(self, count: int) -> bytes:
        content = bytearray()
        while len(content) < count:
            self._hurry()
            part = self._socket.recv(min(count - len(content), 1 << 20))
            if not part:
                raise EOFError("the connection was closed")
            content += part
        return bytes(content)

    def _hurry(self) -> None:
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError("no time is left")
        self._socket.settimeout(left)
