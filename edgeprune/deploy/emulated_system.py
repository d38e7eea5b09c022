"""A board that is a whole emulated system: started for one use, then reached by ssh as any other board."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from edgeprune.board import Board
from edgeprune.deploy.emulated import fixed_runs, require_one_thread
from edgeprune.deploy.transport import Ran, extra_missing, lost
from edgeprune.deploy.transport_ssh import SshTransport
from edgeprune.emulate.processors import processor_of
from edgeprune.emulate.system import Shape, System, require_program
from edgeprune.emulate.system_image import Keys, read_image
from edgeprune.emulate.system_packages import require_packages, system_folder
from edgeprune.target import load_target

_RUNS = 3
"""Timed runs of a bench: the least of them is the one that the system's own clock interrupted least."""


class SystemTransport:
    """An ssh connection to a system that starts at the first `connect` and ends with `close`."""

    launcher: tuple[str, ...] = ()
    kind = "emulated"

    def __init__(self, board: Board) -> None:
        self.board = board
        self._system: System | None = None
        self._ssh: SshTransport | None = None

    def connect(self) -> None:
        """Start the system and log in.

        Raises EdgepruneError: extra-missing, emulator-missing, emulator-files, emulator-unsupported, emulator-failed,
        and what SshTransport raises.
        """
        if self._ssh is None:
            self._system, reached = start_system(self.board)
            self._ssh = SshTransport(reached)
        self._ssh.connect()

    def run(self, argv: Sequence[str], seconds: float, stdin: bytes = b"") -> Ran:
        """As SshTransport; what `edge-run bench` prints has instructions in place of times.

        They are those of the whole system: the program's own and, between them, the kernel's for its clock.
        Raises EdgepruneError (emulated-threads) besides.
        """
        program = next((place for place, word in enumerate(argv) if word.endswith("/edge-run")), None)
        if program is None or "bench" not in argv[program : program + 2]:
            return self._connected().run(argv, seconds, stdin)
        require_one_thread(argv)
        ran = self._connected().run(fixed_runs(argv, _RUNS), seconds, stdin)
        return ran if ran.code else Ran(0, instructions(ran.stdout), ran.stderr)

    def upload(self, content: bytes, path: str, seconds: float) -> None:
        """As SshTransport."""
        self._connected().upload(content, path, seconds)

    def download(self, path: str, seconds: float) -> bytes:
        """As SshTransport."""
        return self._connected().download(path, seconds)

    def close(self) -> None:
        """Switch the system off."""
        ssh, self._ssh = self._ssh, None
        if ssh is not None:
            ssh.close()
        system, self._system = self._system, None
        if system is not None:
            system.stop()

    def _connected(self) -> SshTransport:
        if self._ssh is None:
            raise lost(self.board, "--board", "it was closed")
        return self._ssh


def check_ready(board: Board) -> None:
    """Whether the system could start here. Raises EdgepruneError: emulator-missing, emulator-unsupported."""
    require_program()
    processor_of(load_target(board.target))
    require_packages(system_folder())


def start_system(board: Board, shape: Shape | None = None) -> tuple[System, Board]:
    """A running system for `board`, and the board that ssh reaches it by, with keys made for this use alone.

    Raises EdgepruneError as `SystemTransport.connect` does.
    """
    check_ready(board)
    shape = shape or Shape(processor_of(load_target(board.target)).model)
    image = read_image(system_folder())
    folder = Path(tempfile.mkdtemp(prefix="edgeprune-system-"))
    system = System(folder, shape)
    try:
        keys, host = _make_keys(board, folder / "client")
        system.start(image, keys, board.command_seconds)
        known = folder / "known_hosts"
        known.write_bytes(b"[127.0.0.1]:%d %s\n" % (system.port, host))
    except BaseException:
        system.stop()
        raise
    facts: dict[str, Any] = {"transport": "ssh", "host": "127.0.0.1", "port": system.port, "user": "root"}
    files = {"identity": str(folder / "client"), "known_hosts": str(known)}
    return system, msgspec.structs.replace(board, **facts, **files)


def instructions(printed: bytes) -> bytes:
    """What a bench printed where a nanosecond is an instruction: counts in place of times."""
    told: dict[str, Any] = json.loads(printed)
    told["instructions"] = round(told["latency_ns"]["min"])
    told["latency_ns"] = None
    told["layers"] = [{"name": layer["name"], "instructions": round(layer["time_ns"])} for layer in told["layers"]]
    return json.dumps(told).encode()


def _make_keys(board: Board, client_path: Path) -> tuple[Keys, bytes]:
    """New keys for a system, its client's own written to `client_path`; with them the host's public key as text."""
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    except ImportError as error:
        raise extra_missing(board, "ssh", "asyncssh") from error
    encoding, private, public = serialization.Encoding, serialization.PrivateFormat, serialization.PublicFormat
    plain = serialization.NoEncryption()
    host, client = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    with open(os.open(client_path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
        stream.write(client.private_bytes(encoding.PEM, private.OpenSSH, plain))
    keys = Keys(
        host.private_bytes(encoding.Raw, private.Raw, plain),
        host.public_key().public_bytes(encoding.Raw, public.Raw),
        client.public_key().public_bytes(encoding.OpenSSH, public.OpenSSH),
    )
    return keys, host.public_key().public_bytes(encoding.OpenSSH, public.OpenSSH)
