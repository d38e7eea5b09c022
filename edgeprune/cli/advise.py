"""`edgeprune advise`: before any work, which layers pruning makes faster on a target."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from edgeprune.cli.arguments import (
    Architecture,
    Dimensions,
    Json,
    ModelSource,
    Quiet,
    TargetName,
    Threads,
    check_target,
    model_file,
)
from edgeprune.cli.console import Console
from edgeprune.quantity import time_text

if TYPE_CHECKING:
    from rich.table import Table

_BAR_CELLS = 12


def advise_verb(
    model: ModelSource,
    target: TargetName = "host",
    arch: Architecture = None,
    dimension: Dimensions = None,
    threads: Threads = 1,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Say which layers pruning makes faster on a target, from which sparsity on, and why others not.

    On this machine's own target every layer is timed in the compiled model, pruned at random; the first time takes a
    minute, later ones read the cache ($EDGEPRUNE_CACHE, else edgeprune in $XDG_CACHE_HOME or ~/.cache). For other
    targets times are predicted, and `kind` says so, `basis` how: by running the compiled model on an emulated board
    where the target's time is known from those and qemu and llvm-mca are installed, else by the kernels' cycle models.

    \b
    JSON: target, kind ("measured" | "predicted"), basis, threads, dense_ms,
      levels [{pattern, sparsity, latency_ms, speedup}]: the whole model
      layers [{name, op, macs, time_us, share, pattern (the fastest), pays_from (sparsity or null),
        speedup {"0.5", "0.75", "0.875"}, verdict ("prune" | "keep"), reason}]

    \b
    Examples:
      edgeprune advise model.onnx
      edgeprune advise model.onnx --target x86-64-v4 --json
    """
    check_target(target)
    source = model_file(model, arch, dimension)
    from edgeprune import flow

    console = Console(as_json, quiet)
    with console.work() as progress:
        report = flow.advise(source, target=target, threads=threads, progress=progress)
    console.result(report, layers_table(model, report), levels_table(report))


def layers_table(title: str, report: Mapping[str, Any]) -> Table:
    """One row a layer, in the order they run, with its share of the time as a bar."""
    from rich.markup import escape
    from rich.table import Table

    head = f"{escape(title)} on {report['target']}: {time_text(report['dense_ms'])} dense ({report['kind']})"
    basis = report.get("basis") or None
    table = Table(title=head, title_justify="left", caption=basis and f"predicted from {escape(basis)}")
    for column in ("layer", "op"):
        table.add_column(column)
    table.add_column("time", justify="right")
    table.add_column("share", no_wrap=True)
    table.add_column("pattern")
    for column in ("pays from", "50 %", "75 %", "87.5 %"):
        table.add_column(column, justify="right")
    table.add_column("advice")
    for layer in report["layers"]:
        speedups = [f"{factor:.1f}x" for factor in layer["speedup"].values()] or ["", "", ""]
        table.add_row(
            escape(layer["name"]),
            layer["op"],
            "" if layer["time_us"] is None else f"{layer['time_us']:.1f} us",
            share_bar(layer["share"]),
            layer["pattern"],
            "" if layer["pays_from"] is None else f"{100 * layer['pays_from']:.0f} %",
            *speedups,
            escape(layer["reason"]) or "prune",
        )
    return table


def levels_table(report: Mapping[str, Any]) -> Table:
    """The whole model at every level of every pattern."""
    from rich.table import Table

    table = Table(title=f"Whole model ({report['kind']} layer by layer)", title_justify="left")
    table.add_column("pattern")
    for column in ("removed", "latency", "speedup"):
        table.add_column(column, justify="right")
    for level in report["levels"]:
        removed, latency = f"{100 * level['sparsity']:g} %", time_text(level["latency_ms"])
        table.add_row(level["pattern"], removed, latency, f"{level['speedup']:.2f}x")
    return table


def share_bar(share: float | None) -> str:
    """A share as a bar and in percent, nothing where it is not known."""
    if share is None:
        return ""
    eighths = round(8 * _BAR_CELLS * min(share, 1.0))
    bar = "█" * (eighths // 8) + ("", *"▏▎▍▌▋▊▉")[eighths % 8]
    return f"{bar} {100 * share:.1f} %".strip()
