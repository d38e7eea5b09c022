"""`edgeprune run`: one inference per row of an .npz file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgeprune.cli.arguments import (
    BoardName,
    BoardThreads,
    Json,
    PackagePath,
    Quiet,
    check_board,
    check_file,
    check_output,
    check_package,
)
from edgeprune.cli.console import Console


def run_verb(
    package: PackagePath,
    input: Annotated[Path, typer.Option("--input", "-i", metavar="IN.npz", help="One array per model input, or `x`.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="OUT.npz", help="The outputs, by name.")],
    board: BoardName = "local",
    threads: BoardThreads = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Run a package on every row of an .npz file.

    Arrays are named as the model's inputs (or x where there is one input), rows along the first axis.

    \b
    Example:
      edgeprune run model.edge --input images.npz --output scores.npz
    """
    check_board(board)
    check_output(output)
    check_package(package)
    check_file(input, where="--input")
    from edgeprune import flow

    console = Console(as_json, quiet)
    with console.work() as progress:
        report = flow.run(package, input, output, threads=threads, board=board, progress=progress)
    console.result(report, f"{report['rows']} rows -> {output}")
