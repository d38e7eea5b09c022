"""What every way of writing a chip can do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from edgeprune.errors import EdgepruneError
from edgeprune.flash.image import Image
from edgeprune.progress import Progress, silent

if TYPE_CHECKING:
    from edgeprune.chip import Chip


@dataclass(frozen=True)
class Flashed:
    """What was done: the identity that the chip gave, bytes written, and how they were verified.

    `verified`: "read-back", compared byte for byte; "hashed", by a checksum that the chip took over its flash;
    "restarted", the chip counted the blocks and started anew.
    """

    identity: str
    size: int
    verified: Literal["read-back", "hashed", "restarted"]


class Flasher(Protocol):
    """Writes one chip. Every call ends within its time; every failure is an EdgepruneError; another try may follow."""

    def flash(self, image: Image, chip: Chip, progress: Progress = silent) -> Flashed:
        """Identify the chip, erase what the image takes, write it, verify it, and start it.

        Raises EdgepruneError: probe-missing, chip-mismatch (nothing was erased then), chip-locked, flash-failed,
        flash-verify-failed, flash-timeout, probe-lost, flasher-missing.
        """


def require_fits(image: Image, chip: Chip) -> None:
    """Raises EdgepruneError (image-outside-flash) where a byte of the image lies outside the chip's flash."""
    flash = [region for region in chip.regions if region.kind == "flash"]
    for segment in image.segments:
        if any(region.start <= segment.address and segment.end <= region.end for region in flash):
            continue
        told = ", ".join(f"0x{region.start:08x} to 0x{region.end:08x}" for region in flash)
        what = f"the image takes 0x{segment.address:08x} to 0x{segment.end:08x}; the flash of {chip.name} is {told}"
        hint = "the firmware was linked for another chip: build it for this board"
        raise EdgepruneError("image-outside-flash", what, where="firmware", hint=hint)
