"""Whether firmware fits into a chip: the numbers, and what would fit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from edgeprune.chip import Chip, chip_names, load_chip
from edgeprune.elf import Elf
from edgeprune.errors import EdgepruneError
from edgeprune.firmware.script import stack_region

_MAILBOX_BYTES = 68


def check_arena(chip: Chip, arena_bytes: int, stack_bytes: int) -> None:
    """Refuse, before anything is built, an arena that fits nowhere. Raises EdgepruneError (firmware-ram-full)."""
    least = arena_bytes + _MAILBOX_BYTES + (stack_bytes if stack_region(chip) == chip.ram else 0)
    if least > chip.ram.bytes:
        raise _ram_full(chip, least, arena_bytes)
    if stack_bytes > stack_region(chip).bytes:
        raise _ram_full(chip, stack_bytes, 0)


def check_room(chip: Chip, elf: Elf, model: str, bootloader_bytes: int, stack_bytes: int) -> tuple[int, int]:
    """Bytes of flash and of memory that `elf` takes. Raises EdgepruneError: firmware-flash-full, firmware-ram-full."""
    flash = max(segment.load + len(segment.data) for segment in elf.segments) - chip.flash.start - bootloader_bytes
    room = chip.flash.bytes - bootloader_bytes
    ram = chip.ram
    arena, arena_bytes = elf.sections[".edge_arena"]
    used = arena + arena_bytes - ram.start
    if used > ram.bytes:
        raise _ram_full(chip, used, arena_bytes)
    if flash > room:
        what = f"the firmware of {model} takes {flash:,} bytes of flash, and chip {chip.name} has {room:,}"
        what += (
            f" beside its bootloader: {flash - room:,} too many" if bootloader_bytes else f": {flash - room:,} too many"
        )
        hint = f"prune more (--sparsity, --size {room}); {_others(chip, flash, used)}"
        raise EdgepruneError("firmware-flash-full", what, where=f"chip {chip.name}", hint=hint)
    return flash, used + (stack_bytes if stack_region(chip) != ram else 0)


def _ram_full(chip: Chip, wanted: int, arena_bytes: int) -> EdgepruneError:
    room, beside = chip.ram.bytes, wanted - arena_bytes
    parts = f"{arena_bytes:,} of them for the arena" if arena_bytes else "all of them for the stack"
    what = f"the firmware takes {wanted:,} bytes of memory, {parts}, and chip {chip.name} has {room:,} in one piece"
    remedy = f"compile without --dense and with --ram {room - beside}; " if 0 < room - beside < arena_bytes else ""
    hint = f"{wanted - room:,} must go: {remedy}{_others(chip, 0, wanted)}"
    return EdgepruneError("firmware-ram-full", what, where=f"chip {chip.name}", hint=hint)


def _others(chip: Chip, flash: int, ram: int) -> str:
    """The sentence that names chips of the same core, smallest first, where so much would fit."""
    fit = [other for other in _known() if other.target == chip.target and other.flash.bytes >= flash]
    fit = sorted(
        (other for other in fit if other.ram.bytes >= ram), key=lambda other: other.flash_bytes + other.ram_bytes
    )
    if not fit:
        return f"no {chip.target} known here has as much"
    return f"it would fit {' or '.join(other.name for other in fit[:3])}"


def _known() -> Iterator[Chip]:
    """Every chip that is not emulated; a file of the user's that is broken says nothing here."""
    for name in chip_names():
        if not name.startswith(("emulated", "mps")):
            with suppress(EdgepruneError):
                yield load_chip(name)
