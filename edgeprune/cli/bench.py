"""`edgeprune bench`: latency, interleaved with other runtimes in one run."""

from __future__ import annotations

from typing import Annotated

import typer

from edgeprune.cli.arguments import (
    Architecture,
    BoardName,
    Dimensions,
    Json,
    PackagePath,
    Quiet,
    Threads,
    check_package,
    local_board,
    model_file,
    usage_error,
)
from edgeprune.cli.console import Console
from edgeprune.cli.tables import latency_table, slowest_layers_table
from edgeprune.errors import nearest

PEERS = ("onnxruntime", "openvino", "litert", "onnxruntime-int8", "openvino-int8")


def bench_verb(
    package: PackagePath,
    vs: Annotated[str, typer.Option(metavar="PEERS", help=f"Compare with some of {','.join(PEERS)}.")] = "",
    model: Annotated[
        str | None, typer.Option(metavar="MODEL", help="What the peers run; else the model inside the package.")
    ] = None,
    board: BoardName = "local",
    arch: Architecture = None,
    dimension: Dimensions = None,
    threads: Threads = 1,
    seconds: Annotated[float, typer.Option(min=0.1, help="How long to measure, all runtimes together.")] = 5.0,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Measure latency here, beside other runtimes.

    Rounds alternate between the package and the other runtimes, all with the same number of threads. The int8 ones
    take a quantized model as it is; a float one goes through ONNX Runtime's quantizer first.

    \b
    Examples:
      edgeprune bench model.edge
      edgeprune bench model.edge --vs onnxruntime,openvino --model model.onnx --threads 2
    """
    local_board(board)
    peers = _peers(vs)
    check_package(package)
    source = None if model is None else model_file(model, arch, dimension)
    from edgeprune import flow

    console = Console(as_json, quiet)
    with console.work() as progress:
        report = flow.bench(package, vs=peers, model=source, threads=threads, seconds=seconds, progress=progress)
    console.result(report, latency_table(str(package), report), *slowest_layers_table(report))


def _peers(text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    for name in names:
        if name not in PEERS:
            raise usage_error(
                "peer-unknown", f"there is no runtime '{name}' to compare with", "--vs", nearest(name, PEERS)
            )
    return names
