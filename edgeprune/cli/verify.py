"""`edgeprune verify`: a board computes what this machine does."""

from __future__ import annotations

from typing import Annotated

import typer

from edgeprune.cli.arguments import (
    BoardName,
    BoardThreads,
    DataCard,
    Json,
    PackagePath,
    Quiet,
    RandomCalibration,
    check_board,
    check_data,
    check_package,
)
from edgeprune.cli.console import Console
from edgeprune.cli.tables import fact_table


def verify_verb(
    package: PackagePath,
    board: BoardName = "local",
    samples: Annotated[int, typer.Option(min=1, max=100_000, help="How many rows to compare.")] = 16,
    data: DataCard = None,
    random_calibration: RandomCalibration = False,
    threads: BoardThreads = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Compare the outputs of a package on a board with this machine's: int8 bit by bit, fp32 within 1e-4.

    Rows are the first test rows of the data card, else seeded noise.

    \b
    Examples:
      edgeprune verify model.edge --board raspberry-pi-4@192.168.1.7
      edgeprune verify model.edge --board kitchen --data card.toml --samples 200
    """
    check_board(board)
    check_package(package)
    check_data(data, random_calibration)
    from edgeprune import flow

    console = Console(as_json, quiet)
    with console.work() as progress:
        report = flow.verify(package, board=board, samples=samples, data=data, threads=threads, progress=progress)
    console.result(report, fact_table(f"{package} on {board}", report))
