"""The memory of a microcontroller's board, by the transport that its file names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeprune.board import Board
from edgeprune.deploy.probe_memory import ProbeMemory
from edgeprune.deploy.serial_memory import SerialMemory
from edgeprune.device.port import choose_port, usb_ids
from edgeprune.errors import EdgepruneError

if TYPE_CHECKING:
    from edgeprune.chip import Chip


def memory_for(board: Board, chip: Chip) -> ProbeMemory | SerialMemory:
    """The way into the memory of the real `board`, not open yet.

    Raises EdgepruneError: flasher-missing, probe-missing, board-ambiguous; memory-unreachable (usage) for boards
    that are reached otherwise.
    """
    if board.transport == "probe":
        return ProbeMemory(chip, board.serial)
    if board.transport == "uart":
        device = choose_port(board.device, usb_ids(chip.name), board.name)
        return SerialMemory(device, board.baud, busy_seconds=board.command_seconds)
    what = f"board {board.name} is reached by {board.transport}, not by a probe or a serial line"
    hint = 'set transport = "probe" or "uart" in its file'
    raise EdgepruneError("memory-unreachable", what, where="--board", hint=hint, exit_code=2)
