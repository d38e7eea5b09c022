"""Chips behind a debug probe, written by the flash algorithms that pyOCD brings along."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgeprune.device.failures import chip_mismatch, readable, verify_failed, write_failed
from edgeprune.device.probe import GENERIC, Probe, open_probe, translated
from edgeprune.errors import EdgepruneError
from edgeprune.flash.flasher import Flashed, require_fits
from edgeprune.flash.image import Image
from edgeprune.progress import Progress, silent

if TYPE_CHECKING:
    from edgeprune.chip import Chip

_READ = 4096


class ProbeFlasher:
    """Writes by a CMSIS-DAP, ST-Link or J-Link probe; `serial` picks one where several are plugged in."""

    def __init__(self, serial: str = "") -> None:
        self._serial = serial

    def flash(self, image: Image, chip: Chip, progress: Progress = silent) -> Flashed:
        """Sectors that the image touches are erased, no others; everything written is read back.

        Raises EdgepruneError: flasher-missing, probe-missing, board-ambiguous, chip-mismatch, chip-locked,
        flash-failed, flash-verify-failed, probe-lost, image-outside-flash.
        """
        require_fits(image, chip)
        probe = self._open(chip)
        try:
            found = _identify(probe, chip)
            with translated(chip.name, probe.where):
                _require_unlocked(probe, chip)
                _write(probe, image, chip, progress)
                _verify(probe, image, chip, progress)
                probe.target.reset()
        finally:
            probe.close()
        return Flashed(found, image.size, "read-back")

    def _open(self, chip: Chip) -> Probe:
        """The chip, halted; one that does not behave as it should is asked who it is."""
        try:
            return open_probe(chip, self._serial, "halt", writes_flash=True)
        except EdgepruneError as error:
            if error.code not in ("chip-locked", "probe-lost") or chip.identity is None:
                raise
            self._require_no_other_chip(chip)
            raise

    def _require_no_other_chip(self, chip: Chip) -> None:
        """Raises EdgepruneError (chip-mismatch) where a chip that was taken for `chip` is another one."""
        import msgspec

        plain = msgspec.structs.replace(chip, pyocd=GENERIC)
        try:
            probe = open_probe(plain, self._serial, "attach", writes_flash=False)
        except EdgepruneError:
            return
        try:
            _identify(probe, chip)
        except EdgepruneError as error:
            if error.code == "chip-mismatch":
                raise
        finally:
            probe.close()


def _identify(probe: Probe, chip: Chip) -> str:
    """What the chip says of itself. Raises EdgepruneError (chip-mismatch)."""
    identity = chip.identity
    if identity is None:
        return "not asked"
    with translated(chip.name, probe.where):
        word = probe.target.read32(identity.address)
    told = f"{identity.register} 0x{word & identity.mask:x}"
    if not identity.matches(word):
        expected = f"{chip.name} ({identity.register} 0x{identity.value:x})"
        raise chip_mismatch(expected, f"one with {told}", probe.where)
    return told


def _require_unlocked(probe: Probe, chip: Chip) -> None:
    """Read where the image goes: a protected chip answers with a fault, which `translated` names."""
    probe.target.read32(chip.flash.start)


def _write(probe: Probe, image: Image, chip: Chip, progress: Progress) -> None:
    from pyocd.core import exceptions
    from pyocd.flash.loader import MemoryLoader

    def told(part: float) -> None:
        progress("flash", min(round(part * image.size), image.size), image.size, "")

    loader: Any = MemoryLoader(probe.session, progress=told, chip_erase="sector", smart_flash=False, trust_crc=False)
    try:
        for segment in image.segments:
            loader.add_data(segment.address, segment.data)
        loader.commit()
    except exceptions.FlashFailure as error:
        raise write_failed(chip.name, probe.where, str(error)) from error
    except ValueError as error:
        raise write_failed(chip.name, probe.where, f"pyOCD knows other memory of it: {readable(str(error))}") from error


def _verify(probe: Probe, image: Image, chip: Chip, progress: Progress) -> None:
    """Read everything back. Raises EdgepruneError (flash-verify-failed)."""
    done = 0
    for segment in image.segments:
        for start in range(0, len(segment.data), _READ):
            wanted = segment.data[start : start + _READ]
            found = bytes(probe.target.read_memory_block8(segment.address + start, len(wanted)))
            if found != wanted:
                place = next(i for i, (a, b) in enumerate(zip(found, wanted, strict=True)) if a != b)
                address = segment.address + start + place
                why = f"0x{found[place]:02x} instead of 0x{wanted[place]:02x} at 0x{address:08x}"
                raise verify_failed(chip.name, probe.where, why)
            done += len(wanted)
            progress("verify", done, image.size, "")
