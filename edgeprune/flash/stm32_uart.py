"""STM32 chips over a serial port, by the bootloader in their ROM (AN3155 and AN2606 of STMicroelectronics)."""

from __future__ import annotations

import struct
import time
from functools import reduce
from operator import xor
from typing import TYPE_CHECKING

from edgeprune.device.failures import (
    chip_locked,
    chip_mismatch,
    flasher_missing,
    probe_lost,
    probe_missing,
    verify_failed,
    write_failed,
)
from edgeprune.device.port import Line, choose_port, usb_ids
from edgeprune.flash.flasher import Flashed, require_fits
from edgeprune.flash.image import Image
from edgeprune.progress import Progress, silent

if TYPE_CHECKING:
    from edgeprune.chip import Chip

_ACK, _NACK, _SYNC = 0x79, 0x1F, 0x7F
_GET, _GET_ID, _READ, _GO, _WRITE, _ERASE, _EXTENDED_ERASE = 0x00, 0x02, 0x11, 0x21, 0x31, 0x43, 0x44
_CHUNK = 256
_ANSWER_SECONDS, _WRITE_SECONDS, _ERASE_SECONDS = 1.0, 5.0, 60.0
_TRIES = 3
_LOCKED = "readout protection is on; ST's own tool takes it away, which erases the chip"


class RefusedError(Exception):
    """The bootloader answered NACK."""


class Stm32UartFlasher:
    """Writes through the bootloader that runs where BOOT0 is set at reset; `device` is the port.

    Where the port's DTR drives reset and its RTS drives BOOT0, the chip is started so; else the user sets BOOT0.
    """

    def __init__(
        self, device: str = "", baud: int = 115200, *, drives_boot: bool = True, parity: str = "E", board: str = ""
    ) -> None:
        """`parity` is even on every chip; what stands in for one may have none. Errors speak of `board`."""
        self._device, self._baud, self._drives_boot, self._parity = device, baud, drives_boot, parity
        self._board = board

    def flash(self, image: Image, chip: Chip, progress: Progress = silent) -> Flashed:
        """All of the chip's flash is erased: the bootloader does not say how large its pages are.

        Raises EdgepruneError: flasher-missing, probe-missing, board-ambiguous, chip-mismatch, chip-locked,
        flash-failed, flash-verify-failed, probe-lost, image-outside-flash.
        """
        require_fits(image, chip)
        if chip.identity is None or not chip.dfu.startswith("0483:"):
            raise flasher_missing(f"a bootloader of ST's for {chip.name}", "name another flasher in the board's file")
        port = choose_port(self._device, usb_ids(chip.name), self._board or chip.name)
        line = Line(port, self._baud, self._parity)
        try:
            return self._flash(_Bootloader(line, chip.name), image, chip, progress)
        finally:
            line.close()

    def _flash(self, loader: _Bootloader, image: Image, chip: Chip, progress: Progress) -> Flashed:
        assert chip.identity is not None
        self._start(loader.line, boot=True)
        loader.synchronize()
        commands = loader.commands()
        found = loader.identity()
        if found != chip.identity.value:
            raise chip_mismatch(
                f"{chip.name} (0x{chip.identity.value:x})", f"one with the id 0x{found:x}", loader.where
            )
        loader.require_readable(chip.flash.start)
        loader.erase(_EXTENDED_ERASE in commands)
        pages = image.pages(_CHUNK)
        for number, (address, page) in enumerate(pages, 1):
            loader.write(address, page)
            progress("flash", image.size * number // len(pages), image.size, "")
        _verify(loader, image, progress)
        if not self._start(loader.line, boot=False):
            loader.go(chip.flash.start)
        return Flashed(f"id 0x{found:x}", image.size, "read-back")

    def _start(self, line: Line, *, boot: bool) -> bool:
        """Reset the chip into its bootloader or its firmware; False where the port does not drive these lines."""
        if not self._drives_boot or not line.set_lines(dtr=True, rts=not boot):
            return False
        time.sleep(0.1)
        line.set_lines(dtr=False, rts=not boot)
        time.sleep(0.3)
        line.drop_input()
        return True


class _Bootloader:
    """The commands of AN3155 that are needed here."""

    def __init__(self, line: Line, chip: str) -> None:
        self.line, self.where, self.chip = line, line.device, chip

    def synchronize(self) -> None:
        """Let the bootloader measure the baud rate; one that knows it already answers NACK."""
        for _ in range(_TRIES):
            self.line.drop_input()
            self.line.write(bytes([_SYNC]))
            answer = self.line.read_exactly(1, _ANSWER_SECONDS)
            if answer and answer[0] in (_ACK, _NACK):
                return
        hint = "set BOOT0 (a jumper on most boards), press RESET, then try again"
        raise probe_missing(f"the bootloader of a {self.chip} does not answer", self.where, hint)

    def commands(self) -> frozenset[int]:
        """The codes that it knows."""
        self._command(_GET)
        return frozenset(self._counted()[1:])

    def identity(self) -> int:
        """The product id, as in DBGMCU_IDCODE."""
        self._command(_GET_ID)
        return int.from_bytes(self._counted()[:2], "big")

    def require_readable(self, address: int) -> None:
        """Raises EdgepruneError (chip-locked): a chip with readout protection refuses to read."""
        try:
            self.read(address, 4)
        except RefusedError as error:
            raise chip_locked(self.chip, self.where, _LOCKED) from error

    def erase(self, extended: bool) -> None:
        """Erase all of the flash. Raises EdgepruneError (flash-failed)."""
        try:
            self._command(_EXTENDED_ERASE if extended else _ERASE)
            self._send(b"\xff\xff\x00" if extended else b"\xff\x00", _ERASE_SECONDS)
        except RefusedError as error:
            raise write_failed(self.chip, self.where, "it refuses to erase: some of it is write-protected") from error

    def write(self, address: int, data: bytes) -> None:
        """Write up to 256 bytes, a multiple of 4 of them. Raises EdgepruneError (flash-failed)."""
        try:
            self._command(_WRITE)
            self._send(_checked(struct.pack(">I", address)), _ANSWER_SECONDS)
            self._send(_checked(bytes([len(data) - 1]) + data), _WRITE_SECONDS)
        except RefusedError as error:
            raise write_failed(self.chip, self.where, f"it refuses to write at 0x{address:08x}") from error

    def read(self, address: int, size: int) -> bytes:
        """Up to 256 bytes. RefusedError where they are protected."""
        self._command(_READ)
        self._send(_checked(struct.pack(">I", address)), _ANSWER_SECONDS)
        self._send(bytes([size - 1, (size - 1) ^ 0xFF]), _ANSWER_SECONDS)
        return self._receive(size)

    def go(self, address: int) -> None:
        """Start what stands at `address`."""
        try:
            self._command(_GO)
            self._send(_checked(struct.pack(">I", address)), _ANSWER_SECONDS)
        except RefusedError as error:
            raise write_failed(self.chip, self.where, "it refuses to start the firmware") from error

    def _command(self, code: int) -> None:
        self._send(bytes([code, code ^ 0xFF]), _ANSWER_SECONDS)

    def _send(self, data: bytes, seconds: float) -> None:
        """Send `data` and wait for its ACK. RefusedError on NACK."""
        self.line.write(data)
        (answer,) = self._receive(1, seconds)
        if answer == _NACK:
            raise RefusedError
        if answer != _ACK:
            raise probe_lost(self.where, f"the bootloader answered 0x{answer:02x}: noise on the line")

    def _counted(self) -> bytes:
        """Bytes that come behind their number, and the ACK behind them."""
        (last,) = self._receive(1)
        data = self._receive(last + 1)
        if self._receive(1)[0] != _ACK:
            raise probe_lost(self.where, "an answer of the bootloader was cut off: noise on the line")
        return data

    def _receive(self, size: int, seconds: float = _ANSWER_SECONDS) -> bytes:
        data = self.line.read_exactly(size, seconds)
        if len(data) < size:
            raise probe_lost(self.where, f"the bootloader fell silent for {seconds:.0f} s")
        return data


def _verify(loader: _Bootloader, image: Image, progress: Progress) -> None:
    done = 0
    for segment in image.segments:
        for start in range(0, len(segment.data), _CHUNK):
            wanted = segment.data[start : start + _CHUNK]
            try:
                found = loader.read(segment.address + start, len(wanted))
            except RefusedError as error:
                raise chip_locked(loader.chip, loader.where, _LOCKED) from error
            if found != wanted:
                place = next(i for i, (a, b) in enumerate(zip(found, wanted, strict=True)) if a != b)
                why = (
                    f"0x{found[place]:02x} instead of 0x{wanted[place]:02x} at 0x{segment.address + start + place:08x}"
                )
                raise verify_failed(loader.chip, loader.where, why)
            done += len(wanted)
            progress("verify", done, image.size, "")


def _checked(data: bytes) -> bytes:
    return data + bytes([reduce(xor, data)])
