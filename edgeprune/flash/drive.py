"""Boards that show themselves as a drive and take a UF2 file."""

from __future__ import annotations

import errno
import getpass
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from edgeprune.device.failures import chip_mismatch, probe_lost, probe_missing, readable, write_failed
from edgeprune.errors import EdgepruneError
from edgeprune.flash.flasher import Flashed, require_fits
from edgeprune.flash.image import Image
from edgeprune.flash.uf2 import encode
from edgeprune.progress import Progress, silent

if TYPE_CHECKING:
    from edgeprune.chip import Chip

_FAMILIES = {"RPI-RP2": 0xE48BFF56, "RP2350": 0xE48BFF59, "nRF52840-": 0xADA52840}
"""How the Board-ID of boot ROMs and bootloaders begins, and the family of UF2 files that their chips take."""

_INFO = "INFO_UF2.TXT"
_FILE = "EDGE.UF2"
_INFO_BYTES = 4096
_CHUNK = 32 * 1024
_POLL_SECONDS = 0.05
_BOARD_ID = re.compile(r"^Board-ID:[ \t]*(\S+)", re.MULTILINE | re.IGNORECASE)
_MODEL = re.compile(r"^Model:[ \t]*(\S[^\r\n]*)", re.MULTILINE | re.IGNORECASE)


@dataclass(frozen=True)
class Drive:
    """A drive that takes UF2 files; `board_id` and `model` are what its INFO_UF2.TXT says."""

    path: Path
    board_id: str
    model: str

    @property
    def family(self) -> int:
        """The UF2 family of the chips that show this drive, 0 where it is not known."""
        return next((family for start, family in _FAMILIES.items() if self.board_id.startswith(start)), 0)


class DriveFlasher:
    """Writes a UF2 file to the drive of the board and waits until it restarts.

    Such a drive cannot be read back: it takes blocks with their numbers and restarts when it has them all.
    """

    def __init__(
        self,
        folders: Sequence[Path] | None = None,
        seconds: float = 20.0,
        create: Callable[[Path], BinaryIO] | None = None,
    ) -> None:
        """`folders` are mounted drives, else those of the system; `create` makes the file on one."""
        self._folders, self._seconds, self._create = folders, seconds, create or _create

    def flash(self, image: Image, chip: Chip, progress: Progress = silent) -> Flashed:
        """Errors: probe-missing, board-ambiguous, chip-mismatch, drive-full, flash-failed, probe-lost."""
        require_fits(image, chip)
        drive = self._drive(chip)
        content = encode(image, chip.uf2_family)
        try:
            self._write(drive.path / _FILE, content, progress)
        except OSError as error:
            raise _failure(error, drive, chip.name) from error
        if not _goes_away(drive, self._seconds):
            why = f"its drive {drive.path} is still there {self._seconds:.0f} s after the whole file was written"
            raise write_failed(chip.name, str(drive.path), why)
        return Flashed(drive.board_id, image.size, "restarted")

    def _drive(self, chip: Chip) -> Drive:
        """The one drive of a board like this."""
        drives = list(find_drives(self._folders))
        fitting = [drive for drive in drives if chip.uf2_family and drive.family == chip.uf2_family]
        if len(fitting) == 1:
            return fitting[0]
        if len(fitting) > 1:
            what = f"{len(fitting)} boards show a drive: {', '.join(str(drive.path) for drive in fitting)}"
            hint = "leave one of them plugged in"
            raise EdgepruneError("board-ambiguous", what, where="--board", hint=hint, exit_code=2)
        if drives:
            found = f"{drives[0].model} ({drives[0].board_id})"
            raise chip_mismatch(chip.name, found, str(drives[0].path))
        hint = "hold its boot button while you plug it in, and see that its drive is mounted"
        raise probe_missing(f"no drive of a {chip.name} is mounted", "USB", hint)

    def _write(self, path: Path, content: bytes, progress: Progress) -> None:
        """The file in parts that reach the board one by one: an error before the last means that it lacks something."""
        with self._create(path) as file:
            for start in range(0, len(content), _CHUNK):
                end = min(start + _CHUNK, len(content))
                file.write(content[start:end])
                try:
                    file.flush()
                    os.fsync(file.fileno())
                except OSError as error:
                    if end < len(content) or error.errno == errno.ENOSPC or path.with_name(_INFO).exists():
                        raise
                progress("flash", end, len(content), "")


def find_drives(folders: Sequence[Path] | None = None) -> Iterator[Drive]:
    """Drives with an INFO_UF2.TXT among `folders`, else among where systems mount drives."""
    for folder in mounted() if folders is None else folders:
        try:
            with (folder / _INFO).open("rb") as file:
                text = file.read(_INFO_BYTES).decode("ascii", "replace")
        except OSError:
            continue
        board_id, model = _BOARD_ID.search(text), _MODEL.search(text)
        if board_id:
            yield Drive(folder, readable(board_id[1]), readable(model[1]) if model else "unknown model")


def mounted() -> list[Path]:
    """Folders where a drive may be mounted."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = ""
    parents = [Path("/media"), Path("/run/media"), Path("/Volumes"), Path("/mnt")]
    if user and "/" not in user and user != "..":
        parents += [Path("/media") / user, Path("/run/media") / user]
    found: list[Path] = []
    for parent in parents:
        try:
            found += sorted(entry for entry in parent.iterdir() if entry.is_dir())
        except OSError:
            continue
    return found


def _create(path: Path) -> BinaryIO:
    """The new file, never one behind a link."""
    path.unlink(missing_ok=True)
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644), "wb")


def _goes_away(drive: Drive, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while (drive.path / _INFO).exists():
        if time.monotonic() > end:
            return False
        time.sleep(_POLL_SECONDS)
    return True


def _failure(error: OSError, drive: Drive, chip: str) -> EdgepruneError:
    why = error.strerror or str(error)
    if error.errno in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT):
        hint = "remove what was put there, or unplug the board and plug it in again"
        return EdgepruneError("drive-full", f"the drive of the {chip} is full", where=str(drive.path), hint=hint)
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return write_failed(chip, str(drive.path), f"its drive is read-only ({why})")
    return probe_lost(str(drive.path), f"the drive went away before it had the whole file ({why})")
