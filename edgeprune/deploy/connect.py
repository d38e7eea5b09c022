"""The transport that a board's file names."""

from __future__ import annotations

from edgeprune.board import BARE, Board
from edgeprune.deploy.transport import Transport
from edgeprune.errors import EdgepruneError


def transport_of(board: Board) -> Transport:
    """A connection to `board`, not open yet.

    Raises EdgepruneError: board-address-missing, board-bare, extra-missing.
    """
    if board.transport in BARE:
        what = f"board {board.name} is a microcontroller: it has no files and no shell"
        raise EdgepruneError("board-bare", what, where="--board", hint="use flash, verify, run, bench or eval with it")
    if board.transport == "local":
        from edgeprune.deploy.transport_local import LocalTransport

        return LocalTransport(board)
    if board.transport == "ssh":
        from edgeprune.deploy.transport_ssh import SshTransport

        return SshTransport(board)
    if board.transport == "adb":
        from edgeprune.deploy.transport_adb import AdbTransport

        return AdbTransport(board)
    if board.transport == "system":
        from edgeprune.deploy.emulated_system import SystemTransport

        return SystemTransport(board)
    from edgeprune.deploy.emulated import EmulatedTransport

    return EmulatedTransport(board)
