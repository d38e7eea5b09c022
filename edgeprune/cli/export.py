"""`edgeprune export`: firmware images and libraries from a package for a microcontroller."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgeprune.cli.arguments import (
    Json,
    PackagePath,
    Quiet,
    check_board,
    check_output,
    check_package,
    complete_board,
    usage_error,
)
from edgeprune.cli.console import Console
from edgeprune.cli.tables import fact_table
from edgeprune.errors import nearest
from edgeprune.quantity import bytes_text

_FORMATS = ("elf", "bin", "hex", "uf2", "c", "cmsis-pack", "zephyr", "platformio", "arduino")
_BY_SUFFIX = {".elf": "elf", ".bin": "bin", ".hex": "hex", ".uf2": "uf2", ".pack": "cmsis-pack", ".zip": "c"}


def export_verb(
    package: PackagePath,
    output: Annotated[Path, typer.Option("--output", "-o", help="The file to write.", show_default=False)],
    form: Annotated[
        str,
        typer.Option(
            "--as",
            metavar="FORMAT",
            help=f"One of {', '.join(_FORMATS)}. [default: by the file's suffix; .zip is c]",
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
    form = _format(form, output)
    check_package(package)
    if board is not None:
        check_board(board)
    from edgeprune import flow

    console = Console(as_json, quiet)
    with console.work():
        report = flow.export(package, output, form, board=board)
    shown = {"format": report["format"], "board": report["board"], "size": bytes_text(report["bytes"])}
    console.result(report, fact_table(str(output), {name: value for name, value in shown.items() if value}))


def _format(asked: str, output: Path) -> str:
    """The format that is asked for, else the one that the file's suffix names.

    Raises EdgepruneError (usage): format-unknown with the nearest names; option-conflict where the two differ.
    """
    suffix = output.suffix.lower()
    named = _BY_SUFFIX.get(suffix)
    if not asked:
        if named is None:
            told = f"names like '*{suffix}'" if suffix else "names without a suffix"
            hint = nearest(suffix, _BY_SUFFIX) if suffix else f"known names: {', '.join(_BY_SUFFIX)}"
            raise usage_error(
                "format-unknown", f"no format goes by {told}", str(output), f"{hint}; or give --as FORMAT"
            )
        return named
    if asked not in _FORMATS:
        raise usage_error("format-unknown", f"there is no format '{asked}'", "--as", nearest(asked, _FORMATS))
    if named not in (None, "c", asked):
        what = f"--as {asked} does not go with a file called *{suffix}"
        raise usage_error("option-conflict", what, str(output), "leave --as out, or name the file otherwise")
    return asked
