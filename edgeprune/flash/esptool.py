"""Espressif's chips over their serial port, by esptool (it is under the GPL: a program of its own, never imported)."""

from __future__ import annotations

import importlib.util
import re
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from edgeprune.device.external import Outcome, run_program
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
from edgeprune.device.port import choose_port, usb_ids
from edgeprune.errors import EdgepruneError
from edgeprune.flash.flasher import Flashed, require_fits
from edgeprune.flash.image import Image
from edgeprune.progress import Progress, silent

if TYPE_CHECKING:
    from edgeprune.chip import Chip

_SECTOR = 4096
_BASE_SECONDS, _BYTES_PER_SECOND = 60.0, 4000
_FOUND = re.compile(r"(?:Detecting chip type\.*|Connected to|Chip type:?)\s+(ESP\d+[A-Z0-9-]*)", re.IGNORECASE)
_WRONG = re.compile(r"This chip is ([A-Za-z0-9-]+), not", re.IGNORECASE)
_PERCENT = re.compile(r"\b(\d{1,3})(?:\.\d+)?\s*%")
_LOCKED = re.compile(r"in Secure Download Mode|Secure Boot: Enabled|Flash Encryption: Enabled", re.IGNORECASE)
_CONNECT = r"could not open|failed to connect|no such file|cannot configure port|port is busy|doesn't exist"
_LOST = r"serial exception|no serial data|data stream stopped|stopped responding|transfer stopped|Input/output error"


class EsptoolFlasher:
    """Writes through the chip's ROM; `device` is the port, else the only one that looks like such a board's.

    `before` and `after` are how esptool resets the chip, in its own words; errors speak of `board`.
    """

    def __init__(
        self,
        device: str = "",
        baud: int = 115200,
        before: str = "default-reset",
        after: str = "hard-reset",
        board: str = "",
    ) -> None:
        self._device, self._baud, self._before, self._after = device, baud, before, after
        self._board = board

    def flash(self, image: Image, chip: Chip, progress: Progress = silent) -> Flashed:
        """The chip hashes its flash when it is written, and the hashes are compared.

        Raises EdgepruneError: flasher-missing, probe-missing, board-ambiguous, chip-mismatch, chip-locked,
        flash-failed, flash-verify-failed, flash-timeout, probe-lost, image-outside-flash.
        """
        require_fits(image, chip)
        if importlib.util.find_spec("esptool") is None:
            raise flasher_missing("esptool", "pip install 'edgeprune[esp]'")
        if not chip.esptool:
            raise flasher_missing(f"esptool's support of {chip.name}", "name another flasher in the board's file")
        port = choose_port(self._device, usb_ids(chip.name), self._board or chip.name)
        with tempfile.TemporaryDirectory(prefix="edgeprune-flash-") as name:
            folder = Path(name)
            found = self._identify(port, chip, folder)
            self._write(port, image.joined(_SECTOR), chip, folder, progress)
        return Flashed(found, image.size, "hashed")

    def _identify(self, port: str, chip: Chip, folder: Path) -> str:
        """What the ROM says that the chip is; nothing is written."""
        outcome = self._run(port, ["--chip", "auto", "--after", "no-reset", "get-security-info"], folder, 60.0)
        told = _FOUND.search(outcome.text)
        if told and _plain(told[1]) != _plain(chip.esptool):
            raise chip_mismatch(chip.name, told[1], port)
        locked = _LOCKED.search(outcome.text)
        if locked:
            raise chip_locked(chip.name, port, f"its fuses say '{locked[0]}': it takes no firmware of this kind")
        if outcome.code or told is None:
            raise _failure(outcome, chip, port, connected=told is not None)
        return told[1]

    def _write(self, port: str, image: Image, chip: Chip, folder: Path, progress: Progress) -> None:
        argv = ["--chip", chip.esptool, "--after", self._after, "write-flash", "--flash-mode", "keep"]
        argv += ["--flash-freq", "keep", "--flash-size", "keep"]
        for number, segment in enumerate(image.segments):
            path = folder / f"{number}.bin"
            path.write_bytes(segment.data)
            argv += [hex(segment.address - chip.flash.start), str(path)]

        def heard(line: str) -> None:
            percent = _PERCENT.search(line)
            if percent and "writing" in line.lower():
                progress("flash", min(int(percent[1]), 100) * image.size // 100, image.size, "")

        outcome = self._run(port, argv, folder, _BASE_SECONDS + image.size / _BYTES_PER_SECOND, heard)
        if outcome.code:
            raise _failure(outcome, chip, port, connected=True)
        if outcome.text.count("Hash of data verified") < len(image.segments):
            raise verify_failed(chip.name, port, "esptool did not say that the hashes are equal")
        progress("flash", image.size, image.size, "")

    def _run(
        self, port: str, argv: list[str], folder: Path, seconds: float, heard: Callable[[str], None] = lambda line: None
    ) -> Outcome:
        start = [sys.executable, "-m", "esptool", "--port", port, "--baud", str(self._baud)]
        start += ["--before", self._before, "--connect-attempts", "3", "--no-stub"]
        return run_program([*start, *argv], seconds, folder, port, heard)


def _failure(outcome: Outcome, chip: Chip, port: str, *, connected: bool) -> EdgepruneError:
    """What esptool said, in our words."""
    why = outcome.last("fatal error", "serial exception", "error")
    wrong = _WRONG.search(outcome.text)
    if wrong:
        return chip_mismatch(chip.name, wrong[1], port)
    if re.search(r"secure download|encrypted|secure boot", why, re.IGNORECASE):
        return chip_locked(chip.name, port, f"esptool says: {why}")
    if "does not match" in why:
        return verify_failed(chip.name, port, why)
    if re.search(_LOST, outcome.text, re.IGNORECASE) and connected:
        return probe_lost(port, why)
    if re.search(f"{_CONNECT}|{_LOST}", outcome.text, re.IGNORECASE):
        hint = "hold its BOOT button while you press RESET, then try again; close any serial monitor"
        return probe_missing(f"no {chip.name} answers: {readable(why)}", port, hint)
    return write_failed(chip.name, port, why)


def _plain(name: str) -> str:
    return name.lower().replace("-", "")
