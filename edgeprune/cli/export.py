"""`edgeprune export`: firmware images and libraries from a package for a microcontroller."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgeprune.cli.arguments import Json, PackagePath, Quiet, check_board, check_output, check_package, complete_board
from edgeprune.cli.console import Console
from edgeprune.cli.tables import fact_table
from edgeprune.quantity import bytes_text

_FORMATS = ("elf", "bin", "hex", "uf2", "c", "cmsis-pack", "zephyr", "platformio", "arduino")
_BY_SUFFIX = {".elf": "elf", ".bin": "bin", ".hex": "hex", ".uf2": "uf2", ".pack": "cmsis-pack"}


def export_verb(
    package: PackagePath,
    output: Annotated[Path, typer.Option("--output", "-o", help="The file to write.", show_default=False)],
    form: Annotated[
        str,
        typer.Option(
            "--as",
            metavar="FORMAT",
            help=f"One of {', '.join(_FORMATS)}. [default: by the file's suffix, else c]",
            autocompletion=lambda incomplete: [name for name in _FORMATS if name.startswith(incomplete)],
        ),
    ] = "",
    board: Annotated[
        str | None,
        typer.Option("--board", "-b", metavar="BOARD", help="What firmware is for.", autocompletion=complete_board),
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write a microcontroller's package as a firmware image, or as a C library for your own project.

    elf, bin, hex and uf2 are firmware for a board, which answers `edgeprune run`, `bench` and `verify`. c, cmsis-pack,
    zephyr, platformio and arduino are archives with the model's library, its header and an example.

    \b
    Examples:
      edgeprune export model.edge --board raspberry-pi-pico -o model.uf2
      edgeprune export model.edge -o model.zip
      edgeprune export model.edge --as zephyr -o module.zip
    """
    check_output(output)
    check_package(package)
    if board is not None:
        check_board(board)
    from edgeprune import flow

    console = Console(as_json, quiet)
    with console.work():
        report = flow.export(package, output, form or _BY_SUFFIX.get(output.suffix.lower(), "c"), board=board)
    shown = {"format": report["format"], "board": report["board"], "size": bytes_text(report["bytes"])}
    console.result(report, fact_table(str(output), {name: value for name, value in shown.items() if value}))
