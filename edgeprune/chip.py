"""Facts about a microcontroller, read from boards/chips/NAME.toml or from a file of the user's."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import resources
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import msgspec

from edgeprune.board import Board, board_folder, load_board
from edgeprune.errors import EdgepruneError, nearest
from edgeprune.target import InstructionFacts, load_target, target_names

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_ADDRESSES = 1 << 32


class Region(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Memory that is there without any set-up: `bytes` of it from the address `start`.

    `kind`: flash is read in place; ram is what every master sees; ccm, itcm and dtcm are next to the core.
    """

    name: str
    start: int
    bytes: int
    kind: Literal["flash", "ram", "ccm", "itcm", "dtcm"]

    @property
    def end(self) -> int:
        """The first address behind it."""
        return self.start + self.bytes


class Identity(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a chip says of itself: the word at `address`, of which the bits of `mask` are `value`."""

    register: str
    address: int
    mask: int
    value: int

    def matches(self, word: int) -> bool:
        """Whether `word`, read from `address`, is this chip's."""
        return word & self.mask == self.value


class Chip(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One microcontroller: the target it is compiled for, its memory, and what flashers call it.

    `clock_mhz` is the highest clock of its core, `reset_mhz` the one that it runs at after reset, where firmware
    that sets no clock stays; 0 where unknown. `boot` is what must stand in flash before the vector table,
    `data_view` the address at which data in that flash is read, 0 where it is that of the code. `uart` is the serial
    line that firmware can be asked over.
    `pyocd`, `openocd` (its target script), `esptool`, `machine` (QEMU's) are what those programs call the chip,
    `uf2_family` its family id there, `dfu` its USB id in DFU mode, vendor:product. `per_instruction` is what is known
    of this chip beyond its core.
    """

    name: str
    description: str
    target: str
    clock_mhz: float
    regions: tuple[Region, ...]
    reset_mhz: float = 0.0
    boot: Literal["vectors", "rp2040", "rp2350", "imxrt", "esp32"] = "vectors"
    data_view: int = 0
    uart: Literal["", "cmsdk", "esp32c3"] = ""
    identity: Identity | None = None
    pyocd: str = ""
    openocd: str = ""
    esptool: str = ""
    uf2_family: int = 0
    dfu: str = ""
    machine: str = ""
    per_instruction: InstructionFacts | None = None

    @property
    def flash(self) -> Region:
        """The largest flash: where firmware stands."""
        return _largest(self.regions, ("flash",))

    @property
    def ram(self) -> Region:
        """The largest memory that is written and read: where the arena stands."""
        return _largest(self.regions, ("ram", "dtcm", "ccm"))

    @property
    def flash_bytes(self) -> int:
        """Bytes of all flash."""
        return sum(region.bytes for region in self.regions if region.kind == "flash")

    @property
    def ram_bytes(self) -> int:
        """Bytes of all memory for data."""
        return sum(region.bytes for region in self.regions if region.kind not in ("flash", "itcm"))


def chip_folder() -> Path:
    """Where the user's own chips are: edgeprune/chips beside the boards."""
    return board_folder().with_name("chips")


def chip_names() -> list[str]:
    """The name of every chip that has a file: those that come along and the user's own."""
    return sorted({*_built_in(), *_own()})


def load_chip(name: str, where: str = "--board") -> Chip:
    """The facts of chip `name`.

    Raises EdgepruneError (usage): chip-unknown with the nearest names; chip-invalid where a file is not what it
    should be.
    """
    if name not in chip_names():
        what = f"there is no chip '{name}'"
        raise EdgepruneError("chip-unknown", what, where=where, hint=nearest(name, chip_names()), exit_code=2)
    if name in _own():
        return read_chip(_own()[name])
    text = (resources.files("edgeprune.boards") / "chips" / f"{name}.toml").read_text(encoding="utf-8")
    return _converted(tomllib.loads(text), f"chip {name}")


def checked_board(text: str) -> tuple[Board, Chip | None]:
    """The board that `text` names, as `load_board` takes it, with its chip; both are what they should be together.

    Raises EdgepruneError (usage): what `load_board` and `load_chip` raise; board-invalid where the board names a
    target that there is not, or another than its chip, or more bytes of a bootloader than there is flash.
    """
    board = load_board(text)
    where = f"board {board.name}"
    if board.target not in target_names():
        raise _contradiction(f"there is no target '{board.target}'", where, nearest(board.target, target_names()))
    if not board.chip:
        return board, None
    chip = load_chip(board.chip, where)
    if chip.target != board.target:
        what = f"board {board.name} says target {board.target}, and its chip {chip.name} is a {chip.target}"
        raise _contradiction(what, where, f'write target = "{chip.target}" in its file, or name another chip')
    if board.bootloader_bytes >= chip.flash.bytes:
        what = f"a bootloader of {board.bootloader_bytes:,} bytes leaves nothing of {chip.flash.bytes:,} bytes of flash"
        raise _contradiction(what, where, "correct bootloader_bytes in its file")
    return board, chip


def read_chip(path: Path) -> Chip:
    """The chip that the file `path` describes. Raises EdgepruneError (chip-invalid, usage)."""
    try:
        facts = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise _invalid(
            f"the chip's file cannot be read: {error}", str(path), "one fact a line: name = value"
        ) from error
    return _converted({"name": path.stem, **facts}, str(path))


def check_regions(regions: Sequence[Region], where: str) -> None:
    """Refuse memory that cannot be. Raises EdgepruneError (chip-invalid, usage)."""
    for region in regions:
        if region.bytes <= 0:
            what = f"region {region.name} has {region.bytes} bytes"
            raise _invalid(what, where, "leave out memory that is not there")
        if region.start < 0 or region.end > _ADDRESSES:
            what = f"region {region.name} goes from {region.start:#x} to {region.end:#x}"
            raise _invalid(what, where, "addresses have 32 bits")
    for low, high in pairwise(sorted(regions, key=lambda region: region.start)):
        if high.start < low.end:
            what = f"regions {low.name} and {high.name} overlap from {high.start:#x} to {min(low.end, high.end):#x}"
            raise _invalid(what, where, "list each piece of memory once, without its aliases")
    if len({region.name for region in regions}) < len(regions):
        raise _invalid("two regions have the same name", where, "give each its own")


def _converted(facts: dict[str, Any], where: str) -> Chip:
    try:
        chip = msgspec.convert(facts, Chip)
    except msgspec.ValidationError as error:
        raise _invalid(str(error), where, "facts of a chip: " + ", ".join(Chip.__struct_fields__)) from error
    check_regions(chip.regions, where)
    kinds = {region.kind for region in chip.regions}
    if "flash" not in kinds or not kinds & {"ram", "dtcm", "ccm"}:
        raise _invalid("a chip needs flash and memory for data", where, 'list regions of kind = "flash" and "ram"')
    if chip.clock_mhz <= 0:
        raise _invalid(f"{chip.clock_mhz:g} MHz is no clock", where, "give the highest clock of its core")
    bare = [name for name in target_names() if name != "host" and load_target(name).bare]
    if chip.target not in bare:
        raise _invalid(f"'{chip.target}' is no target of microcontrollers", where, nearest(chip.target, bare))
    return chip


def _largest(regions: Sequence[Region], kinds: tuple[str, ...]) -> Region:
    """The largest of `kinds`; of equals the one listed first."""
    return max((region for region in regions if region.kind in kinds), key=lambda region: region.bytes)


def _built_in() -> list[str]:
    entries = (resources.files("edgeprune.boards") / "chips").iterdir()
    return [Path(entry.name).stem for entry in entries if entry.name.endswith(".toml")]


def _own() -> dict[str, Path]:
    try:
        return {path.stem: path for path in chip_folder().glob("*.toml")}
    except OSError:
        return {}


def _contradiction(what: str, where: str, hint: str) -> EdgepruneError:
    return EdgepruneError("board-invalid", what, where=where, hint=hint, exit_code=2)


def _invalid(what: str, where: str, hint: str) -> EdgepruneError:
    return EdgepruneError("chip-invalid", what, where=where, hint=hint, exit_code=2)
