"""The flashers that a board's file names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from edgeprune.board import Board
from edgeprune.errors import EdgepruneError
from edgeprune.flash.flasher import Flashed, Flasher
from edgeprune.flash.image import Image
from edgeprune.progress import Progress, silent

if TYPE_CHECKING:
    from edgeprune.chip import Chip

_NEXT = ("flasher-missing", "probe-missing")
"""Failures that leave the chip as it was, so that another way may be tried."""


def flasher_for(board: Board) -> Flasher:
    """What writes to `board`: its flashers in order, the next where one is not installed or reaches nothing.

    Raises EdgepruneError (flasher-missing, usage) where its file names none.
    """
    if not board.flashers:
        hint = 'name one in its file, such as flashers = ["pyocd"]'
        raise EdgepruneError(
            "flasher-missing", f"board {board.name} names no flasher", where="--board", hint=hint, exit_code=2
        )
    return _FirstOf(board.name, [(name, _flasher(name, board)) for name in board.flashers])


def _flasher(name: str, board: Board) -> Flasher:
    if name == "pyocd":
        from edgeprune.flash.pyocd import ProbeFlasher

        return ProbeFlasher(board.serial)
    if name == "openocd":
        from edgeprune.flash.openocd import OpenocdFlasher

        return OpenocdFlasher(board.serial)
    if name == "esptool":
        from edgeprune.flash.esptool import EsptoolFlasher

        return EsptoolFlasher(board.device, board.baud, board=board.name)
    if name == "uf2":
        from edgeprune.flash.drive import DriveFlasher

        return DriveFlasher()
    if name == "picotool":
        from edgeprune.flash.picotool import PicotoolFlasher

        return PicotoolFlasher()
    if name == "dfu-util":
        from edgeprune.flash.dfu import DfuFlasher

        return DfuFlasher(board.serial)
    from edgeprune.flash.stm32_uart import Stm32UartFlasher

    return Stm32UartFlasher(board.device, board.baud, board=board.name)


class _FirstOf:
    """The first of several ways that reaches the chip."""

    def __init__(self, board: str, flashers: Sequence[tuple[str, Flasher]]) -> None:
        self._board, self._flashers = board, flashers

    def flash(self, image: Image, chip: Chip, progress: Progress = silent) -> Flashed:
        """As Flasher; where no way reaches the chip, the error says what each of them lacks."""
        errors: list[tuple[str, EdgepruneError]] = []
        for name, flasher in self._flashers:
            try:
                return flasher.flash(image, chip, progress)
            except EdgepruneError as error:
                if error.code not in _NEXT:
                    raise
                errors.append((name, error))
        if len(errors) == 1:
            raise errors[0][1]
        what = "; ".join(f"{name}: {error.what}" for name, error in errors)
        hint = "; or ".join(dict.fromkeys(error.hint for _, error in errors))
        code = next((error.code for _, error in errors if error.code == "probe-missing"), "flasher-missing")
        where = errors[0][1].where if code == errors[0][1].code else "--board"
        raise EdgepruneError(code, f"nothing reaches board {self._board}: {what}", where=where, hint=hint)
