"""`edgeprune flash`: a package on a board, verified there."""

from __future__ import annotations

from edgeprune.cli.arguments import BoardName, Json, PackagePath, Quiet, check_board, check_package
from edgeprune.cli.console import Console
from edgeprune.cli.tables import fact_table
from edgeprune.quantity import bytes_text


def flash_verb(package: PackagePath, board: BoardName, as_json: Json = False, quiet: Quiet = False) -> None:
    """Put a package on a board and check there that it computes what it should.

    A microcontroller gets firmware: the chip's identity is compared before anything is erased, and what was written
    is read back. A board with an operating system gets the files that `deploy` leaves there.

    \b
    Examples:
      edgeprune flash model.edge --board emulated-m4
      edgeprune flash model.edge --board nucleo-l4r5zi
    """
    check_board(board)
    check_package(package)
    from edgeprune import flow

    console = Console(as_json, quiet)
    with console.work() as progress:
        report = flow.flash(package, board=board, progress=progress)
    shown = {
        "flash": bytes_text(report["flash_bytes"]) if "flash_bytes" in report else None,
        "working memory": bytes_text(report["ram_bytes"]) if "ram_bytes" in report else None,
        "chip": report.get("identity"),
        "folder": report.get("folder"),
        "verified": "outputs are the same" if report["verified"]["exact"] else "outputs are the same but for rounding",
    }
    console.result(report, fact_table(f"{package} on {board}", {name: value for name, value in shown.items() if value}))
