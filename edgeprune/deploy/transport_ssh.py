"""Boards reached by ssh: keys and agent only, host keys always checked, files by SFTP where the board has it."""

from __future__ import annotations

import asyncio
import shlex
import socket
import threading
from collections.abc import Coroutine, Sequence
from concurrent.futures import CancelledError
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from edgeprune.board import Address, Board, parse_address
from edgeprune.deploy import ssh_keys
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
    import asyncssh

T = TypeVar("T")

_KEEPALIVE_SECONDS = 5
_KEEPALIVES = 3
_GRACE_SECONDS = 2.0
_REFUSALS = 3
_REFUSED_SECONDS = 0.1


class SshTransport:
    """A connection of ssh, served by a thread of its own so that an interrupt never stops it half way."""

    launcher: tuple[str, ...] = ()
    kind = "measured"

    def __init__(self, board: Board) -> None:
        """Raises EdgepruneError: board-address-missing; extra-missing where asyncssh is not installed."""
        if not board.host:
            hint = f'write --board {board.name}@HOST, or a file of your own with: like = "{board.name}", host = ...'
            what = f"board {board.name} has no address"
            raise EdgepruneError("board-address-missing", what, where="--board", hint=hint, exit_code=2)
        try:
            import asyncssh
        except ImportError as error:
            raise extra_missing(board, "ssh", "asyncssh") from error
        self.board = board
        self._ssh = asyncssh
        self._address = Address(board.host, board.port, board.user)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._connections: list[asyncssh.SSHClientConnection] = []
        self._sftp: asyncssh.SFTPClient | None = None
        self._has_sftp = True

    def connect(self) -> None:
        """Log in. Raises EdgepruneError: board-unreachable, board-key-unknown, board-key-changed, board-key-refused,
        board-login-refused, board-identity-invalid.
        """
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            threading.Thread(target=self._loop.run_forever, name=f"ssh {self.board.name}", daemon=True).start()
        addresses = [self._address]
        if self.board.jump:
            addresses.insert(0, parse_address(self.board.jump))
        for address in addresses:
            tunnel = self._connections[-1] if self._connections else None
            self._connections.append(self._login(address, tunnel))

    def run(self, argv: Sequence[str], seconds: float, stdin: bytes = b"") -> Ran:
        """Run `argv`, quoted for the board's shell. Raises EdgepruneError (board-timeout, board-lost)."""
        return self._use(self._run(shlex.join(argv), stdin), seconds, argv[0])

    def upload(self, content: bytes, path: str, seconds: float) -> None:
        """Write a file. Raises EdgepruneError: board-disk-full, board-upload-failed, board-timeout, board-lost."""
        try:
            if self._start_sftp():
                self._use(self._write(content, path), seconds, "an upload")
                return
        except self._ssh.SFTPError as error:
            raise upload_failed(self.board, path, error.reason or str(error)) from error
        ran = self.run(["sh", "-c", 'cat > "$1"', "sh", path], seconds, content)
        if ran.code != 0:
            raise upload_failed(self.board, path, ran.said)

    def download(self, path: str, seconds: float) -> bytes:
        """Read a file. Raises EdgepruneError: board-download-failed, board-timeout, board-lost."""
        try:
            if self._start_sftp():
                return self._use(self._read(path), seconds, "a download")
        except self._ssh.SFTPError as error:
            raise download_failed(self.board, path, error.reason or str(error)) from error
        ran = self.run(["cat", path], seconds)
        if ran.code != 0:
            raise download_failed(self.board, path, ran.said)
        return ran.stdout

    def close(self) -> None:
        """End the connection and its thread."""
        loop, self._loop = self._loop, None
        if loop is None:
            return
        connections, self._connections, self._sftp = self._connections[::-1], [], None
        with suppress(Exception):
            asyncio.run_coroutine_threadsafe(_end(connections), loop).result(2 * _GRACE_SECONDS)
        loop.call_soon_threadsafe(loop.stop)

    def _login(self, address: Address, tunnel: asyncssh.SSHClientConnection | None) -> asyncssh.SSHClientConnection:
        watcher = _Watcher()
        where = ssh_keys.text_of(address)
        seconds = self.board.connect_seconds
        try:
            return self._wait(self._connected(address, tunnel, watcher), seconds)
        except TimeoutError as error:
            raise unreachable(self.board, where, f"no answer within {seconds:.0f} s") from error
        except socket.gaierror as error:
            raise unreachable(self.board, where, f"{printable(error.strerror or 'no such host')}") from error
        except OSError as error:
            if error.filename is not None:
                raise ssh_keys.identity_invalid(self.board, error.strerror or str(error)) from error
            raise unreachable(self.board, where, error.strerror or str(error)) from error
        except self._ssh.PermissionDenied as error:
            raise ssh_keys.login_refused(self.board, address) from error
        except self._ssh.HostKeyNotVerifiable as error:
            if watcher.key is None:
                raise ssh_keys.host_key_refused(self.board, address, printable(error.reason)) from error
            refusal = ssh_keys.host_key_changed if self._is_known(watcher) else ssh_keys.host_key_unknown
            raise refusal(self.board, address, watcher.key) from error
        except (self._ssh.Error, ValueError) as error:
            raise self._refused(error, address) from error

    def _refused(self, error: Exception, address: Address) -> EdgepruneError:
        """Why a login failed, for errors that are neither of the network nor of a key's check."""
        said = printable(str(error))
        if isinstance(error, (self._ssh.KeyImportError, self._ssh.KeyEncryptionError)):
            return ssh_keys.identity_invalid(self.board, said)
        return unreachable(self.board, ssh_keys.text_of(address), said, "check that an ssh server answers there")

    async def _connected(
        self, address: Address, tunnel: asyncssh.SSHClientConnection | None, watcher: _Watcher
    ) -> asyncssh.SSHClientConnection:
        """A connection; once more by every kind of host key where the known kinds are not the board's.

        Its end may close the connection before this one sees that, and then its key could not be told.
        """
        try:
            return await self._asked(address, tunnel, watcher)
        except (self._ssh.KeyExchangeFailed, self._ssh.ConnectionLost):
            return await self._asked(address, tunnel, watcher, server_host_key_algs="default")

    async def _asked(
        self, address: Address, tunnel: asyncssh.SSHClientConnection | None, watcher: _Watcher, **given: Any
    ) -> asyncssh.SSHClientConnection:
        watcher.ssh = self._ssh
        if address.port:
            given["port"] = address.port
        if address.user:
            given["username"] = address.user
        if self.board.identity:
            given["client_keys"] = [str(Path(self.board.identity).expanduser())]
        return await self._ssh.connect(
            address.host,
            tunnel=tunnel if tunnel is not None else (),
            known_hosts=ssh_keys.known_hosts_files(self.board) or b"",
            client_factory=watcher.client,
            preferred_auth="publickey",
            keepalive_interval=_KEEPALIVE_SECONDS,
            keepalive_count_max=_KEEPALIVES,
            **given,
        )

    def _is_known(self, watcher: _Watcher) -> bool:
        """Whether known_hosts has any key of this host."""
        files = ssh_keys.known_hosts_files(self.board)
        if not files:
            return False
        return bool(self._ssh.match_known_hosts(files, *watcher.place)[0])

    def _start_sftp(self) -> bool:
        if self._sftp is None and self._has_sftp:
            self._sftp = self._use(self._sftp_client(), self.board.connect_seconds, "sftp")
            self._has_sftp = self._sftp is not None
        return self._has_sftp

    async def _run(self, command: str, stdin: bytes) -> Ran:
        process = await self._started(command)
        try:
            with suppress(BrokenPipeError):  # it may end without reading
                process.stdin.write(stdin)
                process.stdin.write_eof()
            done = await process.communicate()
        finally:
            process.close()
        if process.exit_status is None:
            raise self._ssh.ConnectionLost("the command ended without a word")
        code = process.returncode or 0
        code = 128 - code if code < 0 else code
        return Ran(code, _content(done[0]), _content(done[1]))

    async def _started(self, command: str) -> asyncssh.SSHClientProcess[bytes]:
        """A command that runs. Asked again where refused: dropbear closes channels opened while another one ends."""
        for _ in range(_REFUSALS):
            try:
                return await self._connections[-1].create_process(command, encoding=None)
            except self._ssh.ChannelOpenError:
                if self._is_closed():
                    raise
                await asyncio.sleep(_REFUSED_SECONDS)
        return await self._connections[-1].create_process(command, encoding=None)

    async def _sftp_client(self) -> asyncssh.SFTPClient | None:
        """None where the board has no SFTP: refused, or promised and then not there (dropbear without its program)."""
        try:
            return await self._connections[-1].start_sftp_client()
        except (self._ssh.ChannelOpenError, self._ssh.SFTPError):
            if self._is_closed():
                raise
            return None

    async def _write(self, content: bytes, path: str) -> None:
        assert self._sftp is not None
        async with self._sftp.open(path, "wb") as file:
            await file.write(content)

    async def _read(self, path: str) -> bytes:
        assert self._sftp is not None
        async with self._sftp.open(path, "rb") as file:
            return _content(await file.read())

    def _use(self, work: Coroutine[Any, Any, T], seconds: float, what: str) -> T:
        """The result of `work` on the open connection. SFTP's own refusals pass through."""
        where = ssh_keys.text_of(self._address)
        try:
            return self._wait(work, seconds)
        except TimeoutError as error:
            raise timed_out(self.board, where, what, seconds) from error
        except (self._ssh.SFTPNoConnection, self._ssh.SFTPConnectionLost) as error:
            raise lost(self.board, where, printable(error.reason)) from error
        except (self._ssh.SFTPError, self._ssh.ChannelOpenError) as error:
            if self._is_closed():
                raise lost(self.board, where, printable(error.reason)) from error
            raise
        except (self._ssh.Error, OSError, CancelledError) as error:
            raise lost(self.board, where, printable(str(error)) or "it was closed") from error

    def _is_closed(self) -> bool:
        return not self._connections or self._connections[-1].is_closed()

    def _wait(self, work: Coroutine[Any, Any, T], seconds: float) -> T:
        if self._loop is None:
            work.close()
            raise lost(self.board, ssh_keys.text_of(self._address), "it was closed")
        future = asyncio.run_coroutine_threadsafe(asyncio.wait_for(work, seconds), self._loop)
        try:
            return future.result(seconds + _GRACE_SECONDS)
        except (asyncio.TimeoutError, FutureTimeoutError) as error:  # three types in Python 3.10
            raise TimeoutError(str(error)) from error
        finally:
            future.cancel()


class _Watcher:
    """Remembers the host key that asyncssh does not trust, and where it came from."""

    def __init__(self) -> None:
        self.ssh: Any = None
        self.key: asyncssh.SSHKey | None = None
        self.place: tuple[str, str, int | None] = ("", "", None)

    def client(self) -> Any:
        """A client that trusts no key beyond those known."""
        watcher = self

        class Client(self.ssh.SSHClient):  # type: ignore[name-defined,misc]
            def validate_host_public_key(self, host: str, addr: str, port: int, key: Any) -> bool:
                watcher.key = key
                watcher.place = host, addr, port if port != 22 else None
                return False

        return Client()


async def _end(connections: Sequence[asyncssh.SSHClientConnection]) -> None:
    for connection in connections:
        connection.close()
    for connection in connections:
        with suppress(Exception):
            await asyncio.wait_for(connection.wait_closed(), _GRACE_SECONDS)
    rest = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in rest:
        task.cancel()
    await asyncio.gather(*rest, return_exceptions=True)


def _content(data: bytes | str | None) -> bytes:
    return data if isinstance(data, bytes) else (data or "").encode()
