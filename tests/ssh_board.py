"""An ssh server in this process whose commands really run, in a home folder of its own."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncssh

from edgeprune.board import Board


@dataclass
class Faults:
    """What goes wrong on the board."""

    no_sftp: bool = False
    broken_sftp: bool = False
    disk_full: bool = False
    flip_uploads: int = 0
    drop_on: str = ""


class SshBoard:
    """A board to log in to at 127.0.0.1; `commands` are those it was given."""

    def __init__(self, folder: Path, like: SshBoard | None = None) -> None:
        """`like`: a board that takes the same client keys."""
        self.home = folder / "home"
        self.home.mkdir(parents=True)
        self.keys = folder / "keys"
        self.keys.mkdir()
        self.faults = Faults()
        self.files: dict[str, bytes] = {}
        self.commands: list[str] = []
        self.host_key = asyncssh.generate_private_key("ssh-ed25519")
        self.forwarded: list[int] = []
        if like is None:
            self.write_key("client", authorize=True)
        else:
            (self.keys / "authorized").write_bytes((like.keys / "authorized").read_bytes())
        self._connections: set[Any] = set()
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        self._server = self._do(self._listen(0))
        self.port = self._server.sockets[0].getsockname()[1]
        self.write_known_hosts(self.host_key)

    def write_key(self, name: str, authorize: bool = False) -> Path:
        key = asyncssh.generate_private_key("ssh-ed25519")
        path = self.keys / name
        key.write_private_key(str(path))
        if authorize:
            (self.keys / "authorized").write_bytes(key.export_public_key())
        return path

    def write_known_hosts(self, *keys: Any, also: Sequence[SshBoard] = ()) -> Path:
        path = self.keys / "known_hosts"
        known = [(self.port, key) for key in keys] + [(board.port, board.host_key) for board in also]
        lines = [f"[127.0.0.1]:{port} {key.export_public_key().decode()}" for port, key in known]
        path.write_text("".join(lines))
        return path

    def board(self, **changes: Any) -> Board:
        facts: dict[str, Any] = {
            "name": "shelf",
            "target": "x86-64-v2",
            "transport": "ssh",
            "host": "127.0.0.1",
            "port": self.port,
            "user": "pi",
            "identity": str(self.keys / "client"),
            "known_hosts": str(self.keys / "known_hosts"),
            "connect_seconds": 30.0,
            "command_seconds": 30.0,
            "wait_seconds": 0.0,
        }
        return Board(**{**facts, **changes})

    def left(self) -> list[str]:
        """Every file on the board that is not in the cache of complete files."""
        files = (path.relative_to(self.home).as_posix() for path in self.home.rglob("*") if not path.is_dir())
        return sorted(name for name in files if "/cache/part-" in name or "/board/cache/" not in name)

    def cached(self) -> list[Path]:
        return sorted((self.home / ".cache/edgeprune/board/cache").glob("*"))

    def cached_count(self) -> int:
        return len(self.cached())

    def damage_largest(self) -> None:
        max(self.cached(), key=lambda path: path.stat().st_size).write_bytes(b"damaged on the board")

    def fill_disk(self) -> None:
        self.faults.disk_full = True

    def drop_on(self, word: str) -> None:
        self.faults.drop_on = word

    def running(self) -> bool:
        """Whether any process knows this board's folder."""
        commands = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with suppress(OSError):
                commands.append(path.read_bytes())
        return any(str(self.home).encode() in command for command in commands)

    def drop(self) -> None:
        """Cut every connection, as a board that loses its power."""
        self._loop.call_soon_threadsafe(self._drop)

    def close(self) -> None:
        self.stop()
        self._loop.call_soon_threadsafe(self._loop.stop)

    def stop(self) -> None:
        """Answer no more."""

        async def end() -> None:
            self._server.close()
            self._drop()
            await asyncio.sleep(0.02)

        self._do(end())

    def restart(self) -> None:
        """Listen anew on the same port, with the faults that hold now."""
        self.stop()
        self._server = self._do(self._listen(self.port))

    def _drop(self) -> None:
        for connection in list(self._connections):
            connection.abort()

    def _do(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(20)

    async def _listen(self, port: int) -> Any:
        board = self

        class Server(asyncssh.SSHServer):
            def connection_made(self, conn: Any) -> None:
                self.conn = conn
                board._connections.add(conn)

            def connection_requested(self, dest_host: str, dest_port: int, orig_host: str, orig_port: int) -> bool:
                board.forwarded.append(dest_port)
                return True

            def connection_lost(self, exc: Exception | None) -> None:
                board._connections.discard(self.conn)

        class Files(asyncssh.SFTPServer):
            async def write(self, file_obj: Any, offset: int, data: bytes) -> int:
                if board.faults.disk_full:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                if board.faults.drop_on == "write":
                    board.faults.drop_on = ""
                    board._drop()
                if board.faults.flip_uploads:
                    board.faults.flip_uploads -= 1
                    data = bytes([data[0] ^ 1]) + data[1:]
                file_obj.seek(offset)
                return int(file_obj.write(data))

        return await asyncssh.listen(
            "127.0.0.1",
            port,
            server_factory=Server,
            server_host_keys=[self.host_key],
            authorized_client_keys=str(self.keys / "authorized"),
            process_factory=self._serve,
            sftp_factory=None if self.faults.no_sftp or self.faults.broken_sftp else Files,
            encoding=None,
        )

    async def _serve(self, process: Any) -> None:
        command = process.command or ""
        if process.subsystem == "sftp" and self.faults.broken_sftp:
            return process.exit(127)
        self.commands.append(command)
        environment = {**os.environ, "HOME": str(self.home)}
        child = await asyncio.create_subprocess_exec(
            "sh",
            "-c",
            command,
            cwd=self.home,
            env=environment,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        if self.faults.drop_on and self.faults.drop_on in command:
            self.faults.drop_on = ""
            await asyncio.sleep(0.2)
            self._drop()
            await child.wait()
            return
        out, err = await child.communicate(await process.stdin.read())
        process.stdout.write(out)
        process.stderr.write(err)
        if child.returncode < 0:
            return process.exit_with_signal(signal.Signals(-child.returncode).name.removeprefix("SIG"))
        process.exit(child.returncode)
