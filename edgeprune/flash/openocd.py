"""Chips behind a debug probe, written by OpenOCD where pyOCD has no flash algorithm for them."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from edgeprune.device.external import Outcome, find_program, refused, require_version, run_program
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
from edgeprune.flash.image import LARGEST_SECTOR, Image
from edgeprune.progress import Progress, silent

if TYPE_CHECKING:
    from edgeprune.chip import Chip

_HINT = "apt install openocd"
_LEAST = (0, 11)
_SERIAL = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_SCRIPT = re.compile(r"(?:target|board)/[A-Za-z0-9._-]+\.cfg")
_INTERFACES = (("target/stm32", "stlink"), ("target/nrf", "jlink"), ("target/", "cmsis-dap"))
"""The probe that the boards of a maker carry, by the start of the chip's target script; board scripts name theirs."""

_WORD = re.compile(r"0x0*([0-9a-f]{1,8}):\s*([0-9a-f]{8})\b", re.IGNORECASE)
_SECONDS, _BYTES_PER_SECOND = 60.0, 4000


class OpenocdFlasher:
    """Writes by OpenOCD; `serial` picks a probe, `interface` is its script's name where the maker's is not meant."""

    def __init__(self, serial: str = "", interface: str = "") -> None:
        self._serial, self._interface = serial, interface

    def flash(self, image: Image, chip: Chip, progress: Progress = silent) -> Flashed:
        """The chip's core takes checksums of what was written, and OpenOCD compares them.

        Raises EdgepruneError: flasher-missing, probe-missing, chip-mismatch, chip-locked, flash-failed,
        flash-verify-failed, flash-timeout, probe-lost, image-outside-flash.
        """
        require_fits(image, chip)
        program = find_program("openocd", _HINT)
        start = [program, *self._scripts(chip)]
        with tempfile.TemporaryDirectory(prefix="edgeprune-flash-") as name:
            folder = Path(name)
            require_version(program, _LEAST, _HINT, folder)
            found = _identify(start, chip, folder)
            progress("flash", 0, image.size, "")
            _write(start, image, chip, folder)
            progress("flash", image.size, image.size, "")
        return Flashed(found, image.size, "hashed")

    def _scripts(self, chip: Chip) -> list[str]:
        """The scripts that describe probe and chip. Raises EdgepruneError (flasher-missing)."""
        if not _SCRIPT.fullmatch(chip.openocd):
            raise flasher_missing(f"a script of OpenOCD's for {chip.name}", "name another flasher in the board's file")
        named = [name for begin, name in _INTERFACES if chip.openocd.startswith(begin)][:1]
        interface = [self._interface] if self._interface else named
        argv = [word for name in interface for word in ("-f", f"interface/{name}.cfg")] + ["-f", chip.openocd]
        if self._serial:
            if not _SERIAL.fullmatch(self._serial):
                raise probe_missing(f"{self._serial!a} is no serial number of a probe", "--board", "correct it")
            argv += ["-c", f"adapter serial {self._serial}"]
        return [*argv, "-c", "gdb_port disabled; tcl_port disabled; telnet_port disabled"]


def _identify(start: list[str], chip: Chip, folder: Path) -> str:
    """What the chip says of itself; nothing is written. Raises EdgepruneError (chip-mismatch)."""
    identity = chip.identity
    if identity is None:
        return "not asked"
    outcome = run_program([*start, "-c", f"init; mdw {identity.address:#x} 1; shutdown"], 30.0, folder, "probe")
    words = {int(address, 16): int(word, 16) for address, word in _WORD.findall(outcome.text)}
    word = words.get(identity.address)
    if outcome.code or word is None:
        raise refused(outcome, _rules(chip, connected=False))
    told = f"{identity.register} 0x{word & identity.mask:x}"
    if not identity.matches(word):
        raise chip_mismatch(f"{chip.name} ({identity.register} 0x{identity.value:x})", f"one with {told}", "probe")
    return told


def _write(start: list[str], image: Image, chip: Chip, folder: Path) -> None:
    commands, joined = ["init", "reset halt"], image.joined(LARGEST_SECTOR)
    for number, segment in enumerate(joined.segments):
        (folder / f"{number}.bin").write_bytes(segment.data)
        commands.append(f"flash write_image erase {number}.bin {segment.address:#x} bin")
    for number, segment in enumerate(joined.segments):
        commands.append(f"verify_image {number}.bin {segment.address:#x} bin")
    argv = [*start, "-c", "; ".join([*commands, "reset run", "shutdown"])]
    outcome = run_program(argv, _SECONDS + image.size / _BYTES_PER_SECOND, folder, "probe")
    if outcome.code:
        raise refused(outcome, _rules(chip, connected=True))
    _require_said(outcome, chip, joined)


def _require_said(outcome: Outcome, chip: Chip, image: Image) -> None:
    """Its exit code says little: the lines about what was written and verified count."""
    verified = sum(map(int, re.findall(r"verified (\d+) bytes", outcome.text)))
    if verified != image.size:
        raise verify_failed(chip.name, "probe", f"OpenOCD verified {verified} of {image.size} bytes")


def _rules(chip: Chip, *, connected: bool) -> list[tuple[str, Callable[[str], EdgepruneError]]]:
    """What OpenOCD says, and what it means; the first that fits."""
    unlock = "unlocking erases it: see the chip's section in OpenOCD's documentation"

    def missing(why: str) -> EdgepruneError:
        hint = "plug the board in; on Linux its probe needs OpenOCD's udev rule; is another program using it?"
        return probe_missing(f"no {chip.name} answers: {why}", "probe", hint)

    return [
        (r"can't find ((?:interface|target|board)/\S+)", lambda name: flasher_missing(f"OpenOCD's {name}", _HINT)),
        (r"contents differ|checksum mismatch|verify failed", lambda why: verify_failed(chip.name, "probe", why)),
        (r"protected|locked|approtect|security bit", lambda why: chip_locked(chip.name, "probe", unlock)),
        (
            r"libusb_error_(?:no_device|io|pipe)|communication failure|polling failed|jtag communication",
            lambda why: probe_lost("probe", why) if connected else missing(why),
        ),
        (r"open failed|no device found|unable to (?:find|open|connect)|not found|error connecting|init mode", missing),
        ("", lambda why: write_failed(chip.name, "probe", why)),
    ]
