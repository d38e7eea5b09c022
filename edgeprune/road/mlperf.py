"""`bench --mlperf-tiny`: a package's firmware under a runner of MLPerf Tiny, in performance and accuracy mode."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from os import PathLike
from typing import Any

import msgspec
import numpy as np

from edgeprune.bare_model import BareModel
from edgeprune.board import BARE, Board, load_board
from edgeprune.compiled import Package
from edgeprune.data import Samples, load_card
from edgeprune.deploy.bare_runner import EMULATED
from edgeprune.deploy.mlperf_board import Speaking, speaking
from edgeprune.deploy.mlperf_runner import MlperfRunner
from edgeprune.errors import EdgepruneError
from edgeprune.firmware.link import Firmware
from edgeprune.firmware.mlperf_tiny import MlperfTiny, mlperf_tiny_of
from edgeprune.metric import evaluate, top1
from edgeprune.progress import Progress
from edgeprune.road.bare_board import firmware_for, write_firmware
from edgeprune.road.board_check import verify_rows
from edgeprune.road.board_use import require_package

_INPUTS = 5
_COUNTED_RUNS = 2
"""Counts of instructions repeat: one inference says it all and a second proves it."""

_LABELLED = ("top1", "auc")


def mlperf_on_board(
    package: str | PathLike[str], board: str, data: str | PathLike[str] | None, progress: Progress
) -> dict[str, Any]:
    """The JSON of `bench --mlperf-tiny`; the firmware is written to a real board first.

    Performance: the first five test rows of the card `data`, or seeded noise, each for 10 seconds and 10 inferences or
    more; the median counts. Accuracy: all test rows, where there is a card. Raises EdgepruneError: option-conflict,
    package-wanted, mlperf-metric (usage); firmware-clock, mlperf-*, and what linking and reaching the board raise.
    """
    facts = load_board(board)
    _require_bare(facts)
    require_package(package, facts)
    emulated = facts.transport in EMULATED
    with Package.open(package) as opened:
        rows = None if data is None else _labelled_rows(opened, data)
        firmware, benchmark = _firmware(opened, facts)
        inputs = _stored(firmware.model, benchmark, verify_rows(opened, _INPUTS, None) if rows is None else rows)
        told: dict[str, Any] = {"board": facts.name, "kind": "emulated" if emulated else "measured"}
        told |= {"precision": opened.manifest.precision}
        told |= {"flash_bytes": firmware.flash_bytes, "ram_bytes": firmware.ram_bytes}
    if not emulated:
        told |= write_firmware(firmware, facts, progress)
    with speaking(firmware, facts) as spoken:
        report = msgspec.to_builtins(spoken.runner.connect())
        report["clock_mhz"] = None if emulated else firmware.chip.reset_mhz or None
        report["performance"] = _performance(spoken, inputs[:_INPUTS], progress)
        report["accuracy"] = None
        if rows is not None and data is not None:
            report["accuracy"] = _accuracy(spoken.runner, inputs, rows, data, progress)
    return {**told, "mlperf_tiny": report}


def _performance(spoken: Speaking, inputs: Sequence[bytes], progress: Progress) -> dict[str, Any]:
    """Inferences a second by the board's clock, or instructions of an inference where a board is emulated."""
    if spoken.take_regions is not None:
        return _counted(spoken, inputs, progress)
    runs = []
    for index, data in enumerate(inputs):
        progress("measuring on the board", index, len(inputs), "")
        spoken.runner.load(data)
        runs.append(spoken.runner.performance())
    progress("measuring on the board", len(inputs), len(inputs), "")
    return {
        "kind": "measured",
        "inferences_per_second": statistics.median(run.per_second for run in runs),
        "runs": [{"inferences": run.count, "seconds": run.microseconds / 1e6} for run in runs],
    }


def _counted(spoken: Speaking, inputs: Sequence[bytes], progress: Progress) -> dict[str, Any]:
    """Every input `_COUNTED_RUNS` times after one that is left out."""
    assert spoken.take_regions is not None
    spoken.take_regions()
    spoken.runner.connect()
    for index, data in enumerate(inputs):
        progress("counting on the board", index, len(inputs), "")
        spoken.runner.load(data)
        spoken.runner.infer(_COUNTED_RUNS, 1)
    progress("counting on the board", len(inputs), len(inputs), "")
    regions = spoken.take_regions()
    spoken.runner.connect()
    each = _COUNTED_RUNS + 1
    groups = [regions[start : start + each] for start in range(0, len(regions), each)]
    if len(regions) != each * len(inputs) or any(len(set(group)) != 1 for group in groups):
        what = f"{len(regions)} inferences of {each * len(inputs)} were counted, and those of one input took "
        what += ", ".join(str(sorted(set(group))) for group in groups)
        raise EdgepruneError("emulator-failed", what, where="--board", hint="report this with the package")
    runs = [{"inferences": _COUNTED_RUNS, "instructions": group[0]} for group in groups]
    return {"kind": "emulated", "instructions": statistics.median(group[0] for group in groups), "runs": runs}


def _accuracy(
    runner: MlperfRunner, inputs: Sequence[bytes], rows: Samples, data: str | PathLike[str], progress: Progress
) -> dict[str, Any]:
    """The card's metric over the results of one inference a row, and top-1 beside it."""
    results = []
    for index, content in enumerate(inputs):
        progress("judging on the board", index, len(inputs), "")
        runner.load(content)
        results.append(runner.infer().results)
    progress("judging on the board", len(inputs), len(inputs), "")
    outputs = np.array(results)
    score = evaluate(load_card(data).metric, outputs, rows.labels)
    assert rows.labels is not None
    classes = outputs.shape[1] > 1
    return {
        "metric": score.metric,
        "value": score.value,
        "samples": score.samples,
        "top1": top1(outputs, rows.labels) if classes else None,
    }


def _labelled_rows(package: Package, data: str | PathLike[str]) -> Samples:
    """The test rows. Raises EdgepruneError (mlperf-metric, usage) where the card's metric is another one."""
    card = load_card(data)
    if card.metric not in _LABELLED:
        what = f"MLPerf Tiny judges by {' or '.join(_LABELLED)}, and the card's metric is {card.metric}"
        raise EdgepruneError(
            "mlperf-metric", what, where=str(data), hint="leave --data out to measure alone", exit_code=2
        )
    return card.load("test", package.inputs)


def _firmware(package: Package, board: Board) -> tuple[Firmware, MlperfTiny]:
    """The firmware, linked twice: what a model looks like is known once it is linked."""
    benchmark = mlperf_tiny_of(firmware_for(package, board).model)
    return firmware_for(package, board, benchmark), benchmark


def _stored(model: BareModel, benchmark: MlperfTiny, rows: Samples) -> list[bytes]:
    """What the runner sends for each row."""
    sent = []
    for index in range(rows.count):
        stored = b"".join(tensor.stored(rows.inputs[tensor.name][index]) for tensor in model.inputs)
        sent.append(bytes(byte ^ benchmark.flip for byte in stored))
    return sent


def _require_bare(board: Board) -> None:
    if board.transport not in BARE:
        what = f"MLPerf Tiny is for microcontrollers, and board {board.name} is none"
        hint = "name one with --board, such as emulated-m4, or leave --mlperf-tiny out"
        raise EdgepruneError("option-conflict", what, where="--mlperf-tiny", hint=hint, exit_code=2)
