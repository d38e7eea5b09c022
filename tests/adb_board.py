"""A small server of adb in this process: its devices are folders here, and their shells really run."""

from __future__ import annotations

import socket
import struct
import subprocess
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

ROOT = "/data/local/tmp"
Shell = Callable[[str, bytes], tuple[int, bytes, bytes]]
"""Runs a command with its standard input; gives its exit code and what it wrote."""


class AdbServer:
    """Speaks to adb's clients at 127.0.0.1; a device's /data/local/tmp is the folder `folder`/SERIAL."""

    def __init__(self, folder: Path, devices: dict[str, str], shell: Shell | None = None) -> None:
        """`shell`: runs commands and keeps files elsewhere, where /data/local/tmp is its own."""
        self.folder = folder
        self.elsewhere = shell
        self.devices = devices
        self.fail_send = ""
        self.drop_on = ""
        self.services: list[str] = []
        for serial in devices:
            self.home(serial).mkdir(parents=True)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def home(self, serial: str) -> Path:
        return self.folder / serial.replace(":", "-")

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def left(self, serial: str) -> list[str]:
        home = self.home(serial)
        files = [path.relative_to(home).as_posix() for path in home.rglob("*") if not path.is_dir()]
        return sorted(name for name in files if not name.startswith("edgeprune/cache/") or "part-" in name)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            try:
                Talk(self, connection).serve()
            except (OSError, EOFError):
                return


class Talk:
    """One connection."""

    def __init__(self, server: AdbServer, connection: socket.socket) -> None:
        self.server = server
        self.connection = connection
        self.serial = ""

    def serve(self) -> None:
        while True:
            service = self.read(int(self.read(4), 16)).decode()
            self.server.services.append(service)
            name, _, rest = service.partition(":")
            if name == "host":
                self.host(rest)
            elif name == "shell,v2,raw":
                return self.shell(rest)
            elif name == "sync":
                return self.sync()
            else:
                self.fail(f"unknown service {service}")

    def host(self, asked: str) -> None:
        name, _, serial = asked.partition(":")
        if name == "version":
            self.block("0029")
        elif name == "devices":
            self.block("".join(f"{serial}\t{state}\n" for serial, state in self.server.devices.items()))
        elif name == "transport" and self.server.devices.get(serial) == "device":
            self.serial = serial
            self.connection.sendall(b"OKAY")
        else:
            self.fail(f"device '{serial}' not found")

    def shell(self, command: str, agree: bytes = b"OKAY") -> None:
        self.connection.sendall(agree)
        stdin = bytearray()
        while True:
            kind, size = struct.unpack("<BI", self.read(5))
            part = self.read(size)
            if kind == 4:
                break
            stdin += part
        if self.server.elsewhere is not None:
            return self.tell(*self.server.elsewhere(command, bytes(stdin)))
        home = self.server.home(self.serial)
        here = command.replace(ROOT, str(home))
        if self.server.drop_on and self.server.drop_on in command:
            self.server.drop_on = ""
            return
        done = subprocess.run(["sh", "-c", here], input=bytes(stdin), capture_output=True, cwd=home)
        written = (content.replace(str(home).encode(), ROOT.encode()) for content in (done.stdout, done.stderr))
        self.tell(done.returncode, *written)

    def tell(self, code: int, stdout: bytes, stderr: bytes) -> None:
        """What a command left, in packets."""
        for kind, content in ((1, stdout), (2, stderr)):
            for start in range(0, len(content), 4096):
                part = content[start : start + 4096]
                self.connection.sendall(struct.pack("<BI", kind, len(part)) + part)
        self.connection.sendall(struct.pack("<BI", 3, 1) + bytes([code & 0xFF]))

    def sync(self, agree: bytes = b"OKAY") -> None:
        self.connection.sendall(agree)
        kind, size = struct.unpack("<4sI", self.read(8))
        name = self.read(size).decode()
        if kind == b"SEND":
            self.take(name.rpartition(",")[0])
        elif kind == b"RECV":
            self.give(name)

    def take(self, name: str) -> None:
        if self.server.fail_send:
            return self.sync_fail(self.server.fail_send)
        content = bytearray()
        while True:
            kind, size = struct.unpack("<4sI", self.read(8))
            if kind == b"DONE":
                break
            assert kind == b"DATA"
            assert size <= 65536
            content += self.read(size)
        if self.server.elsewhere is None:
            self.path(name).write_bytes(content)
        else:
            code, _, said = self.server.elsewhere(f"cat > {name}", bytes(content))
            if code:
                return self.sync_fail(said.decode().strip())
        self.connection.sendall(b"OKAY" + bytes(4))

    def give(self, name: str) -> None:
        if self.server.elsewhere is not None:
            code, content, _ = self.server.elsewhere(f"cat {name}", b"")
            found = code == 0
        else:
            path = self.path(name)
            found = path.is_file()
            content = path.read_bytes() if found else b""
        if not found:
            return self.sync_fail("open failed: No such file or directory")
        for start in range(0, len(content), 65536):
            part = content[start : start + 65536]
            self.connection.sendall(b"DATA" + struct.pack("<I", len(part)) + part)
        self.connection.sendall(b"DONE" + bytes(4))

    def path(self, name: str) -> Path:
        assert name.startswith(ROOT + "/")
        assert ".." not in name
        return self.server.home(self.serial) / name.removeprefix(ROOT + "/")

    def block(self, text: str) -> None:
        self.connection.sendall(b"OKAY" + f"{len(text):04x}{text}".encode())

    def fail(self, text: str) -> None:
        self.connection.sendall(b"FAIL" + f"{len(text):04x}{text}".encode())
        raise EOFError

    def sync_fail(self, text: str) -> None:
        self.connection.sendall(b"FAIL" + struct.pack("<I", len(text)) + text.encode())

    def read(self, count: int) -> bytes:
        content = bytearray()
        while len(content) < count:
            part = self.connection.recv(count - len(content))
            if not part:
                raise EOFError
            content += part
        return bytes(content)
