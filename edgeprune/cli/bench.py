"""`edgeprune bench`: latency, interleaved with other runtimes in one run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from edgeprune.cli.arguments import (
    Architecture,
    BoardName,
    BoardThreads,
    DataCard,
    Dimensions,
    Json,
    PackagePath,
    Quiet,
    RandomCalibration,
    check_board,
    check_data,
    check_package,
    model_file,
    usage_error,
)
from edgeprune.cli.console import Console
from edgeprune.cli.tables import fact_table, latency_table, slowest_layers_table
from edgeprune.errors import nearest
from edgeprune.quantity import bytes_text

PEERS = ("onnxruntime", "openvino", "litert", "onnxruntime-int8", "openvino-int8")


def bench_verb(
    package: PackagePath,
    vs: Annotated[str, typer.Option(metavar="PEERS", help=f"Compare with some of {','.join(PEERS)}.")] = "",
    model: Annotated[
        str | None, typer.Option(metavar="MODEL", help="What the peers run; else the model inside the package.")
    ] = None,
    board: BoardName = "local",
    mlperf_tiny: Annotated[
        bool, typer.Option("--mlperf-tiny", help="On a microcontroller, by MLPerf Tiny's rules; writes its firmware.")
    ] = False,
    data: DataCard = None,
    random_calibration: RandomCalibration = False,
    arch: Architecture = None,
    dimension: Dimensions = None,
    threads: BoardThreads = None,
    seconds: Annotated[float, typer.Option(min=0.1, help="How long to measure, all runtimes together.")] = 5.0,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Measure latency here, beside other runtimes, or on a board.

    Rounds alternate between the package and the other runtimes, all with the same number of threads. The int8 ones
    take a quantized model as it is; a float one goes through ONNX Runtime's quantizer first.

    \b
    Examples:
      edgeprune bench model.edge
      edgeprune bench model.edge --vs onnxruntime,openvino --model model.onnx --threads 2
      edgeprune bench model.edge --board raspberry-pi-4@192.168.1.7
      edgeprune bench kws.edge --board emulated-m4 --mlperf-tiny --data kws.toml
    """
    check_board(board)
    peers = _peers(vs)
    _check_mlperf(mlperf_tiny, data, {"--vs": peers, "--model": model, "--threads": threads})
    check_data(data, random_calibration)
    check_package(package)
    source = None if model is None else model_file(model, arch, dimension)
    from edgeprune import flow

    console = Console(as_json, quiet)
    with console.work() as progress:
        report = flow.bench(
            package,
            vs=peers,
            model=source,
            threads=threads,
            board=board,
            seconds=seconds,
            mlperf_tiny=mlperf_tiny,
            data=data,
            progress=progress,
        )
    if mlperf_tiny:
        console.result(report, _mlperf_table(report))
        return
    console.result(report, latency_table(str(package), report), *_board_table(report), *slowest_layers_table(report))


def _check_mlperf(mlperf_tiny: bool, data: Path | None, others: dict[str, Any]) -> None:
    """Refuse what means nothing beside `--mlperf-tiny`, or without it. Raises EdgepruneError (option-conflict)."""
    if data is not None and not mlperf_tiny:
        what = "--data goes with --mlperf-tiny"
        raise usage_error("option-conflict", what, "--data", "leave it out; `edgeprune eval` judges")
    for name, value in others.items():
        if value and mlperf_tiny:
            what = f"{name} means nothing to MLPerf Tiny, which measures the package alone"
            raise usage_error("option-conflict", what, name, f"leave {name} or --mlperf-tiny out")


def _mlperf_table(report: dict[str, Any]) -> Any:
    """What a runner of MLPerf Tiny found."""
    told = report["mlperf_tiny"]
    performance, accuracy = told["performance"], told["accuracy"]
    facts: dict[str, Any] = {"benchmark": told["model"], "runs": len(performance["runs"])}
    if "instructions" in performance:
        facts["instructions"] = f"{performance['instructions']:,.0f} an inference ({performance['kind']})"
    else:
        clock = f", clock of {told['clock_mhz']:g} MHz" if told.get("clock_mhz") else ""
        facts["inferences a second"] = f"{performance['inferences_per_second']:.2f} ({performance['kind']}{clock})"
    if accuracy is not None:
        facts[accuracy["metric"]] = f"{accuracy['value']:.4f} of {accuracy['samples']} rows"
    return fact_table(f"MLPerf Tiny on {report['board']}", facts)


def _board_table(report: dict[str, Any]) -> list[Any]:
    """What the board is and how it was doing, where another one than this machine measured."""
    if "conditions" not in report:
        return []
    machine, conditions = report["machine"], report["conditions"]
    facts = {"machine": machine.get("model") or machine.get("system"), "cores used": machine.get("used_cores")}
    if report.get("peak_rss_bytes"):
        facts["memory at most"] = bytes_text(report["peak_rss_bytes"])
    for when in ("before", "after"):
        facts[when] = _doing(conditions[when])
    return [fact_table(f"Board {report['board']}", {name: value for name, value in facts.items() if value})]


def _doing(conditions: dict[str, Any]) -> str:
    """Governor, clock, temperature and throttling, as far as the board says."""
    clock, top = conditions.get("frequency_mhz"), conditions.get("top_frequency_mhz")
    told = [conditions.get("governor") or ""]
    told.append("" if clock is None else f"{clock:.0f} MHz" + (f" of {top:.0f}" if top else ""))
    told.append("" if conditions.get("temperature_c") is None else f"{conditions['temperature_c']:.1f} C")
    if conditions.get("throttled") is not None:
        told.append("throttled" if conditions["throttled"] else "not throttled")
    return ", ".join(part for part in told if part)


def _peers(text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    for name in names:
        if name not in PEERS:
            raise usage_error(
                "peer-unknown", f"there is no runtime '{name}' to compare with", "--vs", nearest(name, PEERS)
            )
    return names
