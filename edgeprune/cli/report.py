"""`edgeprune report`: what is inside, as a page with plots."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgeprune.cli.arguments import (
    Architecture,
    Dimensions,
    Json,
    ModelOrPackage,
    Quiet,
    check_file,
    check_output,
    model_file,
)
from edgeprune.cli.console import Console
from edgeprune.quantity import bytes_text


def report_verb(
    model_or_package: ModelOrPackage,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="OUT.html", help="The page to write.", show_default=False)
    ],
    bench: Annotated[
        list[Path] | None,
        typer.Option(metavar="BENCH.json", help="What `edgeprune bench --json` printed, to show it too; repeatable."),
    ] = None,
    arch: Architecture = None,
    dimension: Dimensions = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write what is inside a package or a model as a page with plots.

    One HTML file that needs no network. Figures say whether they were measured, emulated or predicted.

    \b
    Examples:
      edgeprune report model.edge -o model.html
      edgeprune bench model.edge --vs onnxruntime --json > bench.json
      edgeprune report model.edge --bench bench.json -o model.html
    """
    check_output(output)
    source = model_file(model_or_package, arch, dimension)
    for path in bench or ():
        check_file(path, where="--bench")
    from edgeprune import flow

    console = Console(as_json, quiet)
    with console.work():
        report = flow.report(source, output, bench=bench or ())
    console.result(report, f"{output} ({bytes_text(report['bytes'])})")
