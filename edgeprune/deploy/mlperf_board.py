"""Boards whose firmware serves a runner of MLPerf Tiny, by the line that reaches them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from edgeprune.board import Board
from edgeprune.deploy.bare_runner import Linked
from edgeprune.deploy.mailbox import MailboxClient, Memory
from edgeprune.deploy.memory_line import MemoryLine
from edgeprune.deploy.mlperf_runner import MlperfRunner
from edgeprune.elf import read_elf

_LINE = "edge_line"
_START_SECONDS = 10.0


@dataclass(frozen=True)
class Speaking:
    """A board that serves `runner`; an emulated one counts the instructions of each inference since last asked.

    Some emulators are started anew by that: `runner.connect()` comes next.
    """

    runner: MlperfRunner
    take_regions: Callable[[], list[int]] | None = None


@contextmanager
def speaking(firmware: Linked, board: Board) -> Iterator[Speaking]:
    """The firmware on `board` until the end of the block: an emulated board is started, a real one holds it already.

    Raises EdgepruneError: emulator-missing, emulator-unsupported; what reaching the board raises.
    """
    if board.transport == "unicorn":
        from edgeprune.deploy.unicorn_board import UnicornBoard

        core = UnicornBoard(firmware.elf, firmware.chip)
        yield Speaking(_by_memory(core, firmware, board), core.take_regions)
    elif board.transport == "qemu":
        from edgeprune.deploy.qemu_board import QemuBoard

        machine = QemuBoard(firmware.elf, firmware.chip)
        try:
            yield Speaking(_by_memory(machine, firmware, board), machine.take_regions)
        finally:
            machine.close()
    elif board.transport == "uart":
        from edgeprune.device.port import Line, choose_port, usb_ids

        line = Line(choose_port(board.device, usb_ids(board.chip), board.name), board.baud)
        try:
            yield Speaking(MlperfRunner(line, answer_seconds=board.command_seconds))
        finally:
            line.close()
    else:
        from edgeprune.deploy.bare import memory_for

        memory = memory_for(board, firmware.chip)
        try:
            memory.connect()
            yield Speaking(_by_memory(memory, firmware, board))
        finally:
            memory.close()


def _by_memory(memory: Memory, firmware: Linked, board: Board) -> MlperfRunner:
    """The runner at the line in `memory`, which is there once the mailbox is."""
    MailboxClient(memory, firmware.mailbox_address).wait_ready(_START_SECONDS)
    line = MemoryLine(memory, read_elf(firmware.elf).symbol(_LINE), f"board {board.name}")
    return MlperfRunner(line, answer_seconds=board.command_seconds)
