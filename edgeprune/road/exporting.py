"""A package for a microcontroller as what other tools take: firmware images, and libraries for projects."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from edgeprune.board import BARE, Board, load_board
from edgeprune.chip import load_chip
from edgeprune.compiled import Package
from edgeprune.errors import EdgepruneError, nearest
from edgeprune.files import write_bytes
from edgeprune.firmware.layouts.arduino import arduino_library
from edgeprune.firmware.layouts.cmsis_pack import cmsis_pack
from edgeprune.firmware.layouts.library import CLibrary, c_library, zipped
from edgeprune.firmware.layouts.platformio import platformio_library
from edgeprune.firmware.layouts.zephyr import zephyr_module
from edgeprune.flash import intel_hex, uf2
from edgeprune.flash.image import image_of_elf
from edgeprune.package.manifest import Port
from edgeprune.road.bare_board import firmware_for

_LIBRARIES: Mapping[str, Callable[[CLibrary], dict[str, bytes]]] = {
    "c": c_library,
    "cmsis-pack": cmsis_pack,
    "zephyr": zephyr_module,
    "platformio": platformio_library,
    "arduino": arduino_library,
}
IMAGES = ("elf", "bin", "hex", "uf2")
FORMATS = (*IMAGES, *_LIBRARIES)
"""What `export` writes: firmware for a board, then libraries, each one archive."""

_VERSION = "0.1.0"


@dataclass(frozen=True)
class _Held:
    """A port as it lies in the arena."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    scale: float = 0.0
    zero: int = 0


def export_package(path: str | PathLike[str], output: Path, form: str, board: str | None) -> dict[str, Any]:
    """The JSON of `export`: `path` written to `output` in the format `form`.

    Raises EdgepruneError: format-unknown, board-missing, package-hosted (usage); what linking firmware raises.
    """
    if form not in FORMATS:
        hint = nearest(form, FORMATS)
        raise EdgepruneError("format-unknown", f"there is no format '{form}'", where="--as", hint=hint, exit_code=2)
    with Package.open(path) as package:
        if not package.manifest.target.bare:
            what = f"the package is for {package.manifest.target.name}: its library and header are plain members"
            hint = f"python -m zipfile -e {path} FOLDER"
            raise EdgepruneError("package-hosted", what, where=str(path), hint=hint, exit_code=2)
        content = _image(package, form, board) if form in IMAGES else zipped(_LIBRARIES[form](_library(package)))
    write_bytes(output, content)
    return {"output": str(output), "format": form, "board": board if form in IMAGES else None, "bytes": len(content)}


def _image(package: Package, form: str, name: str | None) -> bytes:
    """The firmware for a board, as flashers take it."""
    board = _board(name)
    firmware = firmware_for(package, board)
    if form == "elf":
        return firmware.elf
    image = image_of_elf(firmware.elf)
    if form == "uf2":
        return uf2.encode(image, _family(board))
    return intel_hex.encode(image).encode("ascii") if form == "hex" else image.binary()


def _board(name: str | None) -> Board:
    if name is None:
        what = "firmware is for one board, and none is named"
        raise EdgepruneError("board-missing", what, where="--board", hint="edgeprune boards lists them", exit_code=2)
    board = load_board(name)
    if board.transport not in BARE:
        what = f"board {name} has an operating system and takes no firmware"
        hint = f"edgeprune deploy PACKAGE --board {name}"
        raise EdgepruneError("board-missing", what, where="--board", hint=hint, exit_code=2)
    return board


def _family(board: Board) -> int:
    family = load_chip(board.chip).uf2_family
    if not family:
        what = f"chip {board.chip} has no UF2 bootloader that is known here"
        raise EdgepruneError("format-unknown", what, where="--as", hint="take bin, hex or elf", exit_code=2)
    return family


def _library(package: Package) -> CLibrary:
    manifest = package.manifest
    names = [name for name in manifest.members if name.endswith((".h", ".c"))]
    return CLibrary(
        name=manifest.name,
        version=_VERSION,
        target=manifest.target,
        archive=package.member(manifest.library),
        sources={name: package.member(name).decode() for name in names},
        arena_bytes=manifest.ram_bytes,
        inputs=[_held(port) for port in manifest.inputs],
        outputs=[_held(port) for port in manifest.outputs],
        states=[state.name for state in manifest.states],
    )


def _held(port: Port) -> _Held:
    if port.stored is None:
        return _Held(port.name, port.shape, port.dtype)
    return _Held(port.name, port.shape, port.stored.dtype, port.stored.scale, port.stored.zero)
