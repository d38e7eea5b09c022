"""Chips whose ROM speaks USB's DFU with STMicroelectronics' extensions, written by dfu-util."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgeprune.device.external import find_program, refused, require_version, run_program
from edgeprune.device.failures import (
    chip_locked,
    chip_mismatch,
    flasher_missing,
    probe_lost,
    probe_missing,
    readable,
    verify_failed,
    write_failed,
)
from edgeprune.errors import EdgepruneError
from edgeprune.flash.flasher import Flashed, require_fits
from edgeprune.flash.image import LARGEST_SECTOR, Image, Segment
from edgeprune.progress import Progress, silent

if TYPE_CHECKING:
    from edgeprune.chip import Chip

_HINT = "apt install dfu-util"
_LEAST = (0, 11)
_USB = re.compile(r"[0-9a-f]{4}:[0-9a-f]{4}")
_FOUND = re.compile(
    r'Found DFU: \[([0-9a-f:]{9})\].*?alt=(\d+), name="@Internal Flash\s*/([^"]*)"(?:, serial="([^"]*)")?'
)
_SECTORS = re.compile(r"(\d+)\*(\d+)([ BKM])")
_UNITS = {" ": 1, "B": 1, "K": 1 << 10, "M": 1 << 20}
_PERCENT = re.compile(r"Download\s.*?(\d{1,3})%")
_SECONDS, _BYTES_PER_SECOND = 60.0, 2000


@dataclass(frozen=True)
class _Device:
    """What the ROM says: the USB setting of its flash, where that begins, its bytes, the chip's serial number."""

    setting: str
    start: int
    bytes: int
    serial: str

    def __str__(self) -> str:
        return f"one with {self.bytes // 1024} KB of flash at 0x{self.start:08x}"


class DfuFlasher:
    """Writes by dfu-util; `serial` picks a chip. The ROM tells chips apart by nothing but their flash."""

    def __init__(self, serial: str = "") -> None:
        self._serial = serial

    def flash(self, image: Image, chip: Chip, progress: Progress = silent) -> Flashed:
        """Sectors that the image touches are erased; everything written is read back.

        Raises EdgepruneError: flasher-missing, probe-missing, board-ambiguous, chip-mismatch, chip-locked,
        flash-failed, flash-verify-failed, flash-timeout, probe-lost, image-outside-flash.
        """
        require_fits(image, chip)
        if not _USB.fullmatch(chip.dfu):
            raise flasher_missing(f"a DFU bootloader in {chip.name}", "name another flasher in the board's file")
        program = find_program("dfu-util", _HINT)
        with tempfile.TemporaryDirectory(prefix="edgeprune-flash-") as name:
            folder = Path(name)
            require_version(program, _LEAST, _HINT, folder)
            device = self._device(program, chip, folder)
            argv = [program, "-d", chip.dfu, "-a", device.setting]
            argv += ["-S", device.serial] if device.serial else []
            joined = image.joined(LARGEST_SECTOR)
            for segment in joined.segments:
                _write(argv, segment, joined, chip, folder, progress)
            for segment in reversed(joined.segments):
                _verify(argv, segment, chip, folder, leave=segment is joined.segments[0])
            progress("flash", joined.size, joined.size, "")
        return Flashed(str(device), image.size, "read-back")

    def _device(self, program: str, chip: Chip, folder: Path) -> _Device:
        """The one chip in its bootloader; nothing is written."""
        outcome = run_program([program, "-l"], 30.0, folder, "USB")
        found = {
            device.serial: device
            for usb, setting, layout, serial in reversed(_FOUND.findall(outcome.text))
            if usb == chip.dfu and (device := _device_of(setting, layout, serial)) is not None
        }
        if self._serial:
            found = {serial: device for serial, device in found.items() if serial == self._serial}
        if not found:
            if "cannot open" in outcome.text.lower():
                hint = "on Linux its USB device needs a udev rule, or try as root"
                raise probe_missing(f"a {chip.name} in its bootloader cannot be opened", "USB", hint)
            hint = "set BOOT0 (a jumper or a button), press RESET, and see that USB reaches the chip itself"
            raise probe_missing(f"no {chip.name} in its bootloader is plugged in", "USB", hint)
        if len(found) > 1:
            what = f"{len(found)} chips are in their bootloader: {', '.join(map(readable, found))}"
            hint = f"name one: --board NAME@{readable(next(iter(found)))}"
            raise EdgepruneError("board-ambiguous", what, where="--board", hint=hint, exit_code=2)
        (device,) = found.values()
        if (device.start, device.bytes) != (chip.flash.start, chip.flash_bytes):
            expected = f"{chip.name} ({chip.flash_bytes // 1024} KB of flash at 0x{chip.flash.start:08x})"
            raise chip_mismatch(expected, str(device), "USB")
        return device


def _device_of(setting: str, layout: str, serial: str) -> _Device | None:
    """A device from the layout in its name, such as 0x08000000/04*016Kg,01*064Kg."""
    start, _, sectors = layout.partition("/")
    if not re.fullmatch(r"0x[0-9A-Fa-f]{1,8}", start.strip()) or re.search(r"[^A-Za-z0-9._-]", serial):
        return None
    total = sum(int(count) * int(size) * _UNITS[unit] for count, size, unit in _SECTORS.findall(sectors))
    return _Device(setting, int(start, 16), total, serial)


def _write(argv: Sequence[str], segment: Segment, image: Image, chip: Chip, folder: Path, progress: Progress) -> None:
    path = folder / "segment.bin"
    path.write_bytes(segment.data)
    before = sum(len(other.data) for other in image.segments if other.address < segment.address)

    def heard(line: str) -> None:
        percent = _PERCENT.search(line)
        if percent:
            done = before + len(segment.data) * min(int(percent[1]), 100) // 100
            progress("flash", min(done, image.size - 1), image.size, "")

    seconds = _SECONDS + len(segment.data) / _BYTES_PER_SECOND
    outcome = run_program([*argv, "-s", f"{segment.address:#010x}", "-D", str(path)], seconds, folder, "USB", heard)
    if outcome.code or "downloaded successfully" not in outcome.text:
        raise refused(outcome, _rules(chip))


def _verify(argv: Sequence[str], segment: Segment, chip: Chip, folder: Path, *, leave: bool) -> None:
    """Read the segment back; with `leave` the chip starts it then. Raises EdgepruneError (flash-verify-failed)."""
    path = folder / "back.bin"
    path.unlink(missing_ok=True)
    place = f"{segment.address:#010x}:{len(segment.data)}{':leave' if leave else ''}"
    seconds = _SECONDS + len(segment.data) / _BYTES_PER_SECOND
    outcome = run_program([*argv, "-s", place, "-U", str(path)], seconds, folder, "USB")
    found = path.read_bytes() if path.exists() else b""
    if len(found) < len(segment.data):
        raise refused(outcome, _rules(chip))
    if found != segment.data:
        offset = next(i for i, (a, b) in enumerate(zip(found, segment.data, strict=False)) if a != b)
        raise verify_failed(chip.name, "USB", f"another byte stands at 0x{segment.address + offset:08x}")


def _rules(chip: Chip) -> list[tuple[str, Callable[[str], EdgepruneError]]]:
    unlock = "readout protection is on; ST's own tool takes it away, which erases the chip"
    return [
        (r"errvendor|not readable|read.?protect", lambda why: chip_locked(chip.name, "USB", unlock)),
        (
            r"libusb_error_(?:no_device|io|pipe)|no such device|lost device|no dfu capable",
            lambda why: probe_lost("USB", why),
        ),
        ("", lambda why: write_failed(chip.name, "USB", why)),
    ]
