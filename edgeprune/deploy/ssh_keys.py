"""What ssh says when keys do not fit, as errors that say what to do."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from edgeprune.board import Address, Board
from edgeprune.errors import EdgepruneError

if TYPE_CHECKING:
    import asyncssh

_SYSTEM = Path("/etc/ssh/ssh_known_hosts")


def known_hosts_files(board: Board) -> list[str]:
    """The files that say which host keys are trusted; those that can be read."""
    own = Path(board.known_hosts).expanduser() if board.known_hosts else Path("~/.ssh/known_hosts").expanduser()
    return [str(path) for path in (own, _SYSTEM) if path.is_file() and os.access(path, os.R_OK)]


def host_key_unknown(board: Board, address: Address, key: asyncssh.SSHKey | None) -> EdgepruneError:
    """No key of this host is known: connecting could be to anybody."""
    told = f" ({key.get_fingerprint()})" if key is not None else ""
    what = f"the host key of board {board.name} is not known{told}"
    hint = f"compare the fingerprint with the board's own, then add it: {_keyscan(board, address)}"
    return EdgepruneError("board-key-unknown", what, where=text_of(address), hint=hint)


def host_key_changed(board: Board, address: Address, key: asyncssh.SSHKey | None) -> EdgepruneError:
    """Another key than the known one: another machine, or a board that was set up anew."""
    told = f" ({key.get_fingerprint()})" if key is not None else ""
    what = f"the host key of board {board.name} is not the known one{told}: this may be another machine"
    file = f" -f {shlex.quote(board.known_hosts)}" if board.known_hosts else ""
    hint = (
        f"if the board was set up anew: ssh-keygen{file} -R {shlex.quote(_entry(address))}, "
        f"then {_keyscan(board, address)}"
    )
    return EdgepruneError("board-key-changed", what, where=text_of(address), hint=hint)


def host_key_refused(board: Board, address: Address, why: str) -> EdgepruneError:
    """A host key that is revoked or cannot be read."""
    what = f"the host key of board {board.name} is refused: {why}"
    return EdgepruneError("board-key-refused", what, where=text_of(address), hint="look into the known_hosts file")


def login_refused(board: Board, address: Address) -> EdgepruneError:
    """No key of ours is let in."""
    target = shlex.quote(f"{address.user}@{address.host}" if address.user else address.host)
    port = f" -p {address.port}" if address.port not in (0, 22) else ""
    what = f"board {board.name} refuses every key that was offered"
    hint = f"put yours there: ssh-copy-id{port} {target}; or name another: identity and user in the board's file"
    return EdgepruneError("board-login-refused", what, where=text_of(address), hint=hint)


def identity_invalid(board: Board, why: str) -> EdgepruneError:
    """A private key file that cannot be used as it is."""
    what = f"the key of board {board.name} cannot be used: {why}"
    hint = "a key with a passphrase must be in the agent: ssh-add FILE; or correct identity in the board's file"
    return EdgepruneError("board-identity-invalid", what, where=board.identity or "~/.ssh", hint=hint)


def text_of(address: Address) -> str:
    """USER@HOST:PORT, as far as they are known."""
    host = f"[{address.host}]" if ":" in address.host else address.host
    user = f"{address.user}@" if address.user else ""
    return f"{user}{host}:{address.port}" if address.port else f"{user}{host}"


def _keyscan(board: Board, address: Address) -> str:
    port = f" -p {address.port}" if address.port not in (0, 22) else ""
    return f"ssh-keyscan{port} {shlex.quote(address.host)} >> {board.known_hosts or '~/.ssh/known_hosts'}"


def _entry(address: Address) -> str:
    return f"[{address.host}]:{address.port}" if address.port not in (0, 22) else address.host
