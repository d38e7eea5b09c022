"""A package on a microcontroller: linked with the board's firmware, and reached through the mailbox there."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from typing import Any

from edgeprune.board import BARE, Board, load_board
from edgeprune.chip import load_chip
from edgeprune.compiled import Package
from edgeprune.deploy.bare_runner import EMULATED, running
from edgeprune.errors import EdgepruneError
from edgeprune.firmware.link import Firmware, link_firmware
from edgeprune.firmware.mlperf_tiny import MlperfTiny
from edgeprune.progress import Progress, silent
from edgeprune.road.assembly import Draft
from edgeprune.road.board_use import OnBoard, require_package

HEADER = "edge_model.h"


def firmware_for(package: Package, board: Board, mlperf_tiny: MlperfTiny | None = None) -> Firmware:
    """The program that runs `package` on `board`, for a runner of MLPerf Tiny where it is to serve that.

    Raises EdgepruneError: firmware-target, firmware-unsupported, firmware-clock, firmware-ram-full,
    firmware-flash-full, link-failed.
    """
    manifest = package.manifest
    return link_firmware(
        package.member(manifest.library),
        package.member(HEADER).decode(),
        load_chip(board.chip),
        manifest.target,
        arena_bytes=manifest.ram_bytes,
        steps=[layer.name for layer in manifest.layers],
        digest=digest_of(package),
        bootloader_bytes=board.bootloader_bytes,
        uart=board.transport == "uart",
        mlperf_tiny=mlperf_tiny,
        keeps=bool(manifest.states),
    )


def digest_of(package: Package) -> bytes:
    """What tells firmware of one package from another's: the first bytes of its library's SHA-256."""
    return hashlib.sha256(package.member(package.manifest.library)).digest()[:8]


def draft_for_board(draft: Draft, name: str) -> Draft:
    """`draft` with the program for the microcontroller `name` as one more member; as it is for any other board.

    Raises EdgepruneError as `firmware_for` does.
    """
    board = load_board(name)
    if board.transport not in BARE:
        return draft
    with draft.package() as package:
        firmware = firmware_for(package, board)
    return Draft(draft.manifest, {**draft.members, f"firmware/{board.name}.elf": firmware.elf})


@contextmanager
def open_on_bare(
    path: str | PathLike[str],
    board: Board,
    threads: int | None = None,
    write: bool = False,
    progress: Progress = silent,
) -> Iterator[OnBoard]:
    """The package at `path` on the microcontroller `board` until the end of the block; with `write` it is put there.

    An emulated one is made for the purpose; a real one must have been flashed with this package. Raises
    EdgepruneError: package-wanted, threads-unsupported (usage); board-architecture; board-other-package; what
    `firmware_for` and reaching the board raise.
    """
    require_package(path, board)
    if threads not in (None, 1):
        what = f"{threads} threads on board {board.name}, which has one"
        raise EdgepruneError("threads-unsupported", what, where="--threads", hint="leave it out", exit_code=2)
    with Package.open(path) as package:
        target = package.manifest.target
        if not target.bare:
            what = f"the package was compiled for {target.name}, and board {board.name} is a {board.target}"
            hint = f"compile the model with --target {board.target}"
            raise EdgepruneError("board-architecture", what, where=str(path), hint=hint)
        firmware = firmware_for(package, board)
        facts: dict[str, Any] = {"flash_bytes": firmware.flash_bytes, "ram_bytes": firmware.ram_bytes}
        if write and board.transport not in EMULATED:
            facts |= write_firmware(firmware, board, progress)
        with running(firmware, board) as runner:
            runner.require_library(digest_of(package))
            kind = "emulated" if board.transport in EMULATED else "measured"
            yield OnBoard(package, board, kind, runner, facts=facts, chip=firmware.chip)


def write_firmware(firmware: Firmware, board: Board, progress: Progress) -> dict[str, Any]:
    """Flash the board; what is to be told of it."""
    from edgeprune.flash.connect import flasher_for
    from edgeprune.flash.image import image_of_elf

    done = flasher_for(board).flash(image_of_elf(firmware.elf), firmware.chip, progress)
    return {"identity": done.identity, "written_bytes": done.size, "verified_by": done.verified}
