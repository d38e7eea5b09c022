"""`edgeprune inspect`: what is inside a package or a model."""

from __future__ import annotations

from edgeprune.cli.arguments import Architecture, Dimensions, Json, ModelOrPackage, Quiet, model_file
from edgeprune.cli.console import Console
from edgeprune.cli.tables import layer_table, state_table, summary_table


def inspect_verb(
    model_or_package: ModelOrPackage,
    arch: Architecture = None,
    dimension: Dimensions = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Show what is inside a package or a model.

    \b
    Examples:
      edgeprune inspect model.edge
      edgeprune inspect model.onnx --json
    """
    source = model_file(model_or_package, arch, dimension)
    from edgeprune import flow

    console = Console(as_json, quiet)
    with console.work():
        report = flow.inspect(source)
    console.result(report, layer_table(report), *state_table(report), summary_table(model_or_package, report))
