"""`edgeprune eval`: the metric of a data card."""

from __future__ import annotations

from typing import Annotated

import typer

from edgeprune.cli.arguments import (
    BoardName,
    DataCard,
    Json,
    ModelOrPackage,
    Quiet,
    RandomCalibration,
    Threads,
    check_file,
    check_model,
    local_board,
    usage_error,
)
from edgeprune.cli.console import Console
from edgeprune.cli.tables import fact_table


def eval_verb(
    model_or_package: ModelOrPackage,
    data: DataCard = None,
    split: Annotated[str, typer.Option(help="train, validate, calibrate or test.")] = "test",
    reference: Annotated[
        str | None, typer.Option(metavar="MODEL", help="For the metric fidelity: the model to compare with.")
    ] = None,
    board: BoardName = "local",
    random_calibration: RandomCalibration = False,
    threads: Threads = 1,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Measure accuracy on a data card.

    \b
    Examples:
      edgeprune eval model.onnx --data card.toml
      edgeprune eval model.edge --data card.toml --split validate --json
    """
    local_board(board)
    if data is None:
        what = "random inputs have no labels: there is no metric" if random_calibration else "no data card was given"
        raise usage_error("data-missing", what, "--data", "give a card that has labels: --data CARD.toml")
    check_file(data, where="--data", code="card-missing")
    for source in filter(None, (model_or_package, reference)):
        check_model(source)
    from edgeprune import flow

    console = Console(as_json, quiet)
    with console.work() as progress:
        score = flow.evaluate(
            model_or_package, data=data, split=split, reference=reference, threads=threads, progress=progress
        )
    report = {"metric": score.metric, "value": score.value, "samples": score.samples, "split": split}
    console.result(report, fact_table(f"{model_or_package} on {data}", report))
