"""RP2040 and RP2350 in their boot ROM, written by picotool where no drive is mounted."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from edgeprune.device.external import find_program, refused, require_version, run_program
from edgeprune.device.failures import (
    chip_locked,
    chip_mismatch,
    flasher_missing,
    probe_lost,
    probe_missing,
    verify_failed,
    write_failed,
)
from edgeprune.errors import EdgepruneError
from edgeprune.flash.flasher import Flashed, require_fits
from edgeprune.flash.image import Image
from edgeprune.flash.uf2 import encode
from edgeprune.progress import Progress, silent

if TYPE_CHECKING:
    from edgeprune.chip import Chip

_HINT = "build it from github.com/raspberrypi/picotool, or mount the board's drive"
_LEAST = (2, 0)
_TYPE = re.compile(r"\btype:\s*(RP\d{4})", re.IGNORECASE)
_PERCENT = re.compile(r"Loading.*?(\d{1,3})%")
_SECONDS, _BYTES_PER_SECOND = 60.0, 10000


class PicotoolFlasher:
    """Writes by picotool, over USB."""

    def flash(self, image: Image, chip: Chip, progress: Progress = silent) -> Flashed:
        """Everything written is read back.

        Raises EdgepruneError: flasher-missing, probe-missing, chip-mismatch, chip-locked, flash-failed,
        flash-verify-failed, flash-timeout, probe-lost, image-outside-flash.
        """
        require_fits(image, chip)
        if chip.boot not in ("rp2040", "rp2350") or not chip.uf2_family:
            raise flasher_missing(f"picotool's support of {chip.name}", "name another flasher in the board's file")
        program = find_program("picotool", _HINT)
        with tempfile.TemporaryDirectory(prefix="edgeprune-flash-") as name:
            folder = Path(name)
            require_version(program, _LEAST, _HINT, folder, "version")
            found = _identify(program, chip, folder)
            _write(program, image, chip, folder, progress)
        return Flashed(found, image.size, "read-back")


def _identify(program: str, chip: Chip, folder: Path) -> str:
    """What the boot ROM says that the chip is; nothing is written."""
    outcome = run_program([program, "info", "-d"], 30.0, folder, "USB")
    found = _TYPE.search(outcome.text)
    if outcome.code or found is None:
        raise refused(outcome, _rules(chip, connected=False))
    if found[1].lower() != chip.boot:
        raise chip_mismatch(chip.name, found[1], "USB")
    return found[1]


def _write(program: str, image: Image, chip: Chip, folder: Path, progress: Progress) -> None:
    path = folder / "firmware.uf2"
    path.write_bytes(encode(image, chip.uf2_family))

    def heard(line: str) -> None:
        percent = _PERCENT.search(line)
        if percent:
            progress("flash", min(int(percent[1]), 99) * image.size // 100, image.size, "")

    seconds = _SECONDS + image.size / _BYTES_PER_SECOND
    outcome = run_program([program, "load", "-v", "-x", str(path)], seconds, folder, "USB", heard)
    if outcome.code:
        raise refused(outcome, _rules(chip, connected=True))
    progress("flash", image.size, image.size, "")


def _rules(chip: Chip, *, connected: bool) -> list[tuple[str, Callable[[str], EdgepruneError]]]:
    def missing(why: str) -> EdgepruneError:
        hint = "hold its boot button while you plug it in; on Linux its USB device needs picotool's udev rule"
        return probe_missing(f"no {chip.name} in its boot ROM answers: {why}", "USB", hint)

    def gone(why: str) -> EdgepruneError:
        return probe_lost("USB", why) if connected else missing(why)

    return [
        (r"verif\w+ failed|does not match|mismatch", lambda why: verify_failed(chip.name, "USB", why)),
        (r"permission|secure|locked", lambda why: chip_locked(chip.name, "USB", f"picotool says: {why}")),
        (r"no accessible|no rp\S* device|communicat|libusb|disconnected|lost", gone),
        ("", lambda why: write_failed(chip.name, "USB", why)),
    ]
