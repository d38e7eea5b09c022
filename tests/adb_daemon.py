"""A small adbd: the side of a device that adb's own server connects to over TCP (protocol.txt of Android's adb)."""

from __future__ import annotations

import socket
import struct
import threading
from contextlib import suppress

from adb_board import AdbServer, Talk

_VERSION, _MOST = 0x01000001, 64 * 1024
_BANNER = b"device::ro.product.name=shelf;ro.product.model=shelf;features=shell_v2,cmd\0"


class AdbDaemon:
    """Listens as the device `serial` of `server`, whose folder and shell it shares."""

    def __init__(self, server: AdbServer, serial: str) -> None:
        self.server = server
        self.serial = serial
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=Device(self, connection).serve, daemon=True).start()


class Device:
    """One connection of adb's server; streams are told apart by their numbers."""

    def __init__(self, daemon: AdbDaemon, connection: socket.socket) -> None:
        self.daemon = daemon
        self.connection = connection
        self.sending = threading.Lock()
        self.streams: dict[int, tuple[socket.socket, threading.Event]] = {}

    def serve(self) -> None:
        with suppress(OSError, EOFError):
            while True:
                command, theirs, ours, size, _, _ = struct.unpack("<4s5I", self.read(24))
                self.take(command, theirs, ours, self.read(size))

    def take(self, command: bytes, theirs: int, ours: int, content: bytes) -> None:
        if command == b"CNXN":
            self.send(b"CNXN", _VERSION, _MOST, _BANNER)
        elif command == b"OPEN":
            self.open(theirs, content.rstrip(b"\0").decode())
        elif ours in self.streams and command == b"WRTE":
            with suppress(OSError):
                self.streams[ours][0].sendall(content)
            self.send(b"OKAY", ours, theirs)
        elif ours in self.streams and command == b"OKAY":
            self.streams[ours][1].set()
        elif ours in self.streams and command == b"CLSE":
            here, ready = self.streams.pop(ours)
            ready.set()
            with suppress(OSError):
                here.shutdown(socket.SHUT_RDWR)

    def open(self, number: int, service: str) -> None:
        name, _, rest = service.partition(":")
        if name not in ("shell,v2,raw", "sync"):
            return self.send(b"CLSE", 0, number)
        here, there = socket.socketpair()
        self.streams[number] = here, threading.Event()
        self.send(b"OKAY", number, number)
        talk = Talk(self.daemon.server, there)
        talk.serial = self.daemon.serial
        threading.Thread(target=self.work, args=(talk, name, rest), daemon=True).start()
        threading.Thread(target=self.pump, args=(number, here), daemon=True).start()

    def work(self, talk: Talk, name: str, rest: str) -> None:
        with talk.connection, suppress(OSError, EOFError):
            talk.sync(b"") if name == "sync" else talk.shell(rest, b"")

    def pump(self, number: int, here: socket.socket) -> None:
        """Send what the service writes, one message at a time."""
        with suppress(OSError, KeyError):
            while part := here.recv(_MOST):
                ready = self.streams[number][1]
                ready.clear()
                self.send(b"WRTE", number, number, part)
                ready.wait(20)
            self.send(b"CLSE", number, number)

    def send(self, command: bytes, first: int, second: int, content: bytes = b"") -> None:
        magic = int.from_bytes(command, "little") ^ 0xFFFFFFFF
        head = struct.pack("<4s5I", command, first, second, len(content), sum(content) & 0xFFFFFFFF, magic)
        with self.sending:
            self.connection.sendall(head + content)

    def read(self, count: int) -> bytes:
        content = bytearray()
        while len(content) < count:
            part = self.connection.recv(count - len(content))
            if not part:
                raise EOFError
            content += part
        return bytes(content)
