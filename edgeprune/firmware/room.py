"""Whether firmware fits into a chip: the numbers, and what would fit."""

from __future__ import annotations

from edgeprune.chip import Chip, chip_names, load_chip
from edgeprune.elf import Elf
from edgeprune.errors import EdgepruneError
from edgeprune.firmware.script import stack_region

_MAILBOX_BYTES = 68


def check_arena(chip: Chip, arena_bytes: int, stack_bytes: int) -> None:
    """Refuse, before anything is built, an arena that fits nowhere. Raises EdgepruneError (firmware-ram-full)."""
    least = arena_bytes + _MAILBOX_BYTES + (stack_bytes if stack_region(chip) == chip.ram else 0)
    if least > chip.ram.bytes:
        raise _ram_full(chip, least, f"{arena_bytes:,} of them for the arena")
    if stack_bytes > stack_region(chip).bytes:
        raise _ram_full(chip, stack_bytes, "all of them for the stack")


def check_room(chip: Chip, elf: Elf, model: str, bootloader_bytes: int, stack_bytes: int) -> tuple[int, int]:
    """Bytes of flash and of memory that `elf` takes. Raises EdgepruneError: firmware-flash-full, firmware-ram-full."""
    flash = max(segment.load + len(segment.data) for segment in elf.segments) - chip.flash.start - bootloader_bytes
    room = chip.flash.bytes - bootloader_bytes
    ram = chip.ram
    arena, arena_bytes = elf.sections[".edge_arena"]
    used = arena + arena_bytes - ram.start
    if used > ram.bytes:
        raise _ram_full(chip, used, f"{arena_bytes:,} of them for the arena")
    if flash > room:
        what = f"the firmware of {model} takes {flash:,} bytes of flash, and chip {chip.name} has {room:,}"
        what += (
            f" beside its bootloader: {flash - room:,} too many" if bootloader_bytes else f": {flash - room:,} too many"
        )
        hint = f"prune more (--sparsity, --size {room}); {_others(chip, flash, used)}"
        raise EdgepruneError("firmware-flash-full", what, where=f"chip {chip.name}", hint=hint)
    return flash, used + (stack_bytes if stack_region(chip) != ram else 0)


def _ram_full(chip: Chip, wanted: int, why: str) -> EdgepruneError:
    room = chip.ram.bytes
    what = f"the firmware takes {wanted:,} bytes of memory, {why}, and chip {chip.name} has {room:,} in one piece"
    hint = f"{wanted - room:,} must go: compile with --ram {room}; {_others(chip, 0, wanted)}"
    return EdgepruneError("firmware-ram-full", what, where=f"chip {chip.name}", hint=hint)


def _others(chip: Chip, flash: int, ram: int) -> str:
    """The sentence that names chips of the same core, smallest first, where so much would fit."""
    known = [load_chip(name) for name in chip_names() if not name.startswith(("emulated", "mps"))]
    fit = [other for other in known if other.target == chip.target and other.flash.bytes >= flash]
    fit = sorted(
        (other for other in fit if other.ram.bytes >= ram), key=lambda other: other.flash_bytes + other.ram_bytes
    )
    if not fit:
        return f"no {chip.target} known here has as much"
    return f"it would fit {' or '.join(other.name for other in fit[:3])}"
