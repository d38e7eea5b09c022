"""`edgeprune eval`: the metric of a data card."""

from __future__ import annotations

from typing import Annotated

import typer

from edgeprune.cli.arguments import (
    Architecture,
    BoardName,
    BoardThreads,
    DataCard,
    Dimensions,
    Json,
    ModelOrPackage,
    Quiet,
    RandomCalibration,
    brings_network,
    check_board,
    check_data,
    model_file,
    usage_error,
)
from edgeprune.cli.console import Console
from edgeprune.cli.road_options import States
from edgeprune.cli.tables import fact_table
from edgeprune.model_file import ModelFile


def eval_verb(
    model_or_package: ModelOrPackage,
    data: DataCard = None,
    split: Annotated[str, typer.Option(help="train, validate, calibrate or test.")] = "test",
    reference: Annotated[
        str | None, typer.Option(metavar="MODEL", help="For the metric fidelity: the model to compare with.")
    ] = None,
    arch: Architecture = None,
    dimension: Dimensions = None,
    state: States = None,
    board: BoardName = "local",
    random_calibration: RandomCalibration = False,
    threads: BoardThreads = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Measure accuracy on a data card.

    \b
    Examples:
      edgeprune eval model.onnx --data card.toml
      edgeprune eval model.edge --data card.toml --split validate --json
    """
    check_board(board)
    if data is None:
        what = "random inputs have no labels: there is no metric" if random_calibration else "no data card was given"
        raise usage_error("data-missing", what, "--data", "give a card that has labels: --data CARD.toml")
    check_data(data, random_calibration)
    judged, compared = _opened(model_or_package, reference, arch, dimension)
    from edgeprune import flow

    console = Console(as_json, quiet)
    with console.work() as progress:
        score = flow.evaluate(
            judged,
            data=data,
            split=split,
            reference=compared,
            threads=threads,
            board=board,
            states=tuple(state or ()),
            progress=progress,
        )
    report = {"metric": score.metric, "value": score.value, "samples": score.samples, "split": split}
    if score.top1_agreement is not None:
        report["top1_agreement"] = score.top1_agreement
    shown = {name: f"{value:.4f}" if isinstance(value, float) else value for name, value in report.items()}
    console.result(report, fact_table(f"{model_or_package} on {data}", shown))


def _opened(
    judged: str, reference: str | None, arch: str | None, dimensions: list[str] | None
) -> tuple[ModelFile, ModelFile | None]:
    """The two that are compared; `--arch` is meant for the checkpoints and `--dimension` for the models among them."""
    given = [judged] if reference is None else [judged, reference]
    checkpoints = [source for source in given if not brings_network(source)] or given
    models = [source for source in given if not source.endswith(".edge")] or given
    files = [
        model_file(source, arch if source in checkpoints else None, dimensions if source in models else None)
        for source in given
    ]
    return files[0], files[1] if reference is not None else None
