"""`edgeprune demo`: the whole road on a small real data set."""

from __future__ import annotations

from edgeprune.cli.arguments import Json, Quiet
from edgeprune.cli.console import Console
from edgeprune.cli.tables import demo_table


def demo_verb(as_json: Json = False, quiet: Quiet = False) -> None:
    """Show the whole road in about a minute, offline.

    Trains a small network on handwritten digits, prunes it, compiles it for this machine and measures it; then
    the same in int8 on an emulated microcontroller.

    \b
    Example:
      edgeprune demo
    """
    from edgeprune.demo import run_demo

    console = Console(as_json, quiet)
    with console.work() as progress:
        report = run_demo(progress=progress)
    console.result(report, demo_table(report), _NEXT)


_NEXT = """\
Next, with a model of your own:
  edgeprune inspect model.onnx
  edgeprune compile model.onnx --data card.toml -o model.edge
  edgeprune bench model.edge --vs onnxruntime
"""
