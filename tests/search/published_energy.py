"""Coefficients per instruction, fitted from published measurements: what the facts in the files are checked against.

Instructions are not published. Those of a Cortex-M4 are its cycles over 1.47; another core's are taken to be as many
where the same runtime ran the same network.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

BASE = "NUCLEO_L4R5ZI"
M4_CYCLES = 1.47
M4_SPREAD = 1.15
CLOCKS_MHZ = {
    "NUCLEO_L4R5ZI": 120.0,
    "NUCLEO-H7A3ZI-Q": 280.0,
    "NUCLEO-U575ZI-Q": 160.0,
    "EK-RA6M4": 200.0,
    "DISCO_F746NG": 216.0,
    "cy8cproto_062_4343w": 150.0,
    "silicon_labs_xG24_DK2601B": 78.0,
}
"""The clocks of the cores, from their data sheets."""


@dataclass(frozen=True)
class Row:
    """One published measurement: milliseconds and microjoules of one inference."""

    round: str
    submitter: str
    board: str
    task: str
    latency_ms: float
    energy_uj: float

    @property
    def cycles(self) -> float:
        return self.latency_ms * 1e3 * CLOCKS_MHZ[self.board]

    @property
    def nanojoules_per_cycle(self) -> float:
        return self.energy_uj * 1e3 / self.cycles


def published_rows(data: Path) -> list[Row]:
    """The rows of boards whose clock is known, with the energy that was measured; accelerated ones left out."""
    with (data / "sets/mlperf_tiny_device_latency_v0.5-v1.0.csv").open(encoding="utf-8") as file:
        found = [
            Row(
                row["round"],
                row["submitter"] + row["system_runtime"].partition("/NUCLEO")[0] * ("/" in row["system_runtime"]),
                _board(row["system_runtime"]),
                row["task"],
                float(row["latency_ms"] or 0),
                float(row["energy_uJ_per_inf"] or 0),
            )
            for row in csv.DictReader(file)
        ]
    plain = [row for row in found if row.board in CLOCKS_MHZ and row.latency_ms]
    return [row for row in plain if (row.submitter, row.round) != ("silicon_labs", "1.0")]


def _board(name: str) -> str:
    last = name.rpartition("/")[2]
    return "NUCLEO_L4R5ZI" if last == "Nucleo-L4R5ZI" else last


def cycles_per_instruction(rows: Sequence[Row], boards: Sequence[str]) -> tuple[float, float]:
    """Of the cores of `boards`, and the factor it holds within; from what one runtime took there and on the M4."""
    taken = {(row.round, row.submitter, row.task, row.board): row.cycles for row in rows}
    ratios = [
        cycles / taken[(*case, BASE)]
        for (*case, board), cycles in taken.items()
        if board in boards and (*case, BASE) in taken
    ]
    middle, spread = middle_and_spread(ratios)
    return M4_CYCLES * middle, M4_SPREAD * spread


def nanojoules_per_cycle(rows: Sequence[Row], boards: Sequence[str]) -> tuple[float, float]:
    """The mean of `boards`, each of which counts once, and the factor within which all their rows lie."""
    found = {
        board: [row.nanojoules_per_cycle for row in rows if row.board == board and row.energy_uj] for board in boards
    }
    middle, _ = middle_and_spread([middle_and_spread(each)[0] for each in found.values()])
    ratios = [number / middle for each in found.values() for number in each]
    return middle, max(max(ratios), 1 / min(ratios))


def middle_and_spread(numbers: Sequence[float]) -> tuple[float, float]:
    """The geometric mean, and the factor within which all lie of it."""
    logarithms = np.log(numbers)
    middle = logarithms.mean()
    return float(np.exp(middle)), float(np.exp(np.abs(logarithms - middle).max()))
