"""Firmware on a board, run by whatever reaches the board's memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from edgeprune.bare_model import BareModel
from edgeprune.board import Board
from edgeprune.chip import Chip
from edgeprune.deploy.mailbox_runner import MailboxRunner

EMULATED = ("unicorn", "qemu")
"""Transports to boards that are not there: instructions are counted, times are not known."""


class Linked(Protocol):
    """Firmware as it was linked."""

    @property
    def elf(self) -> bytes:
        """The program."""

    @property
    def chip(self) -> Chip:
        """What it was linked for."""

    @property
    def model(self) -> BareModel:
        """The model in it."""

    @property
    def mailbox_address(self) -> int:
        """Where its mailbox is."""


@contextmanager
def running(firmware: Linked, board: Board) -> Iterator[MailboxRunner]:
    """The firmware on `board` until the end of the block: an emulated board is started, a real one holds it already.

    Raises EdgepruneError: emulator-missing, emulator-unsupported; what reaching the board raises.
    """
    if board.transport == "unicorn":
        from edgeprune.deploy.unicorn_board import UnicornBoard

        core = UnicornBoard(firmware.elf, firmware.chip)
        yield MailboxRunner(core, firmware.mailbox_address, firmware.model, take_regions=core.take_regions)
    elif board.transport == "qemu":
        from edgeprune.deploy.qemu_board import QemuBoard

        machine = QemuBoard(firmware.elf, firmware.chip)
        try:
            yield MailboxRunner(machine, firmware.mailbox_address, firmware.model, take_regions=machine.take_regions)
        finally:
            machine.close()
    else:
        from edgeprune.deploy.bare import memory_for

        memory = memory_for(board, firmware.chip)
        try:
            memory.connect()
            yield MailboxRunner(memory, firmware.mailbox_address, firmware.model, seconds_a_row=board.command_seconds)
        finally:
            memory.close()
