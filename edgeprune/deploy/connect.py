"""The transport that a board's file names."""

from __future__ import annotations

from edgeprune.board import Board
from edgeprune.deploy.transport import Transport


def transport_of(board: Board) -> Transport:
    """A connection to `board`, not open yet. Raises EdgepruneError: board-address-missing, extra-missing."""
    if board.transport == "local":
        from edgeprune.deploy.transport_local import LocalTransport

        return LocalTransport(board)
    if board.transport == "ssh":
        from edgeprune.deploy.transport_ssh import SshTransport

        return SshTransport(board)
    if board.transport == "adb":
        from edgeprune.deploy.transport_adb import AdbTransport

        return AdbTransport(board)
    from edgeprune.deploy.emulated import EmulatedTransport

    return EmulatedTransport(board)
