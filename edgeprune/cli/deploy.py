"""`edgeprune deploy`: a package on a board, for good."""

from __future__ import annotations

from edgeprune.cli.arguments import BoardName, Json, PackagePath, Quiet, check_board, check_package
from edgeprune.cli.console import Console
from edgeprune.cli.tables import fact_table
from edgeprune.quantity import bytes_text


def deploy_verb(package: PackagePath, board: BoardName, as_json: Json = False, quiet: Quiet = False) -> None:
    """Put a package on a board, check there that it computes what it should, and leave it there.

    What goes there is the compiled model and edge-run, a program that runs and times it; both need nothing installed.

    \b
    Examples:
      edgeprune deploy model.edge --board raspberry-pi-4@192.168.1.7
      edgeprune deploy model.edge --board android-arm64
    """
    check_board(board)
    check_package(package)
    from edgeprune import flow

    console = Console(as_json, quiet)
    with console.work() as progress:
        report = flow.deploy(package, board=board, progress=progress)
    shown = {
        "folder": report["folder"],
        "files": ", ".join(f"{name} {bytes_text(size)}" for name, size in report["files"].items()),
        "uploaded": bytes_text(report["uploaded_bytes"]),
        "verified": "outputs are the same" if report["verified"]["exact"] else "outputs are the same but for rounding",
        "run it there": report["command"],
    }
    console.result(report, fact_table(f"{package} on {board}", shown))
