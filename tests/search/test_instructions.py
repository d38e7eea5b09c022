"""Predictions from instructions against published measurements of real boards."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from published_energy import Row, cycles_per_instruction, middle_and_spread, nanojoules_per_cycle, published_rows

from edgeprune.chip import load_chip
from edgeprune.errors import EdgepruneError
from edgeprune.search.instructions import instruction_facts, predict_cycles, predict_energy, predict_latency
from edgeprune.target import load_target

M4, M33, M7 = (load_target(name) for name in ("cortex-m4", "cortex-m33", "cortex-m7"))
L4R5, U575, U585, F446 = (load_chip(name) for name in ("stm32l4r5zi", "stm32u575zi", "stm32u585ai", "stm32f446re"))
BOARDS = {"NUCLEO_L4R5ZI": (M4, L4R5), "NUCLEO-U575ZI-Q": (M33, U575)}
CMSIS_NN = {"ic": 29.86e6, "kws": 7.70e6, "vww": 24.10e6}
"""Counted instructions of an inference by TFLite Micro with CMSIS-NN on a Cortex-M4."""


def test_figures_are_instructions_times_what_one_takes() -> None:
    facts = instruction_facts(M4, L4R5)
    assert predict_cycles(1e6, facts).value == pytest.approx(1.47e6)
    assert predict_cycles(1e6, facts).spread == 1.15
    assert predict_latency(12e6, facts, 120).value == pytest.approx(147)
    assert predict_energy(1e6, facts).value == pytest.approx(0.581)


def test_figures_say_that_they_are_predicted_and_how_sure_they_are() -> None:
    found = predict_energy(20e6, instruction_facts(M4, L4R5))
    assert str(found) == "11.62 mJ (predicted, within a factor 1.35)"
    assert found.as_json() == {
        "kind": "predicted",
        "value": found.value,
        "low": pytest.approx(found.value / 1.35),
        "high": pytest.approx(found.value * 1.35),
        "unit": "mJ",
        "source": "MLPerf Tiny results v0.5 to v1.0: 20 measurements of NUCLEO-L4R5ZI at 120 MHz by 4 submitters",
    }


def test_a_chip_without_facts_has_those_of_its_core() -> None:
    assert instruction_facts(M4, F446) == instruction_facts(M4) == M4.per_instruction
    assert instruction_facts(M4, L4R5) == L4R5.per_instruction
    assert L4R5.per_instruction is not None and M4.per_instruction is not None
    assert M4.per_instruction.energy_spread > L4R5.per_instruction.energy_spread


def test_a_core_of_which_nothing_is_known_is_refused() -> None:
    with pytest.raises(EdgepruneError) as caught:
        instruction_facts(load_target("riscv32imc"), load_chip("esp32-c3"))
    assert str(caught.value) == (
        "nothing is known of what an instruction takes on riscv32imc [energy-unknown]\n"
        "  where: chip esp32-c3\n"
        "  hint:  add a section [per_instruction] to its file in targets/ or boards/chips/"
    )


@pytest.mark.parametrize("board", BOARDS)
def test_facts_of_chips_are_what_the_measurements_say(data_dir: Path, board: str) -> None:
    rows = published_rows(data_dir)
    facts = instruction_facts(*BOARDS[board])
    cycles, cycles_spread = (1.47, 1.15) if board == "NUCLEO_L4R5ZI" else cycles_per_instruction(rows, [board])
    energy, energy_spread = nanojoules_per_cycle(rows, [board])
    assert facts.cycles == pytest.approx(cycles, rel=0.01)
    assert facts.cycles_spread == pytest.approx(cycles_spread, rel=0.01)
    assert facts.nanojoules == pytest.approx(energy * cycles, rel=0.01)
    assert facts.energy_spread == pytest.approx(energy_spread * cycles_spread, rel=0.01)
    assert U585.per_instruction == U575.per_instruction


def test_facts_of_cores_are_what_the_measurements_say(data_dir: Path) -> None:
    rows = published_rows(data_dir)
    m33, m7, m4 = (instruction_facts(target) for target in (M33, M7, M4))
    chips, differ = nanojoules_per_cycle(rows, ["NUCLEO-U575ZI-Q", "EK-RA6M4", "silicon_labs_xG24_DK2601B"])
    cycles, spread = cycles_per_instruction(rows, ["NUCLEO-U575ZI-Q"])
    assert (m33.nanojoules, m33.energy_spread) == pytest.approx((chips * cycles, differ * spread), rel=0.01)
    cycles, spread = cycles_per_instruction(rows, ["NUCLEO-H7A3ZI-Q", "DISCO_F746NG"])
    energy, _ = nanojoules_per_cycle(rows, ["NUCLEO-H7A3ZI-Q"])
    assert (m7.cycles, m7.cycles_spread) == pytest.approx((cycles, spread), rel=0.01)
    assert (m7.nanojoules, m7.energy_spread) == pytest.approx((energy * cycles, differ * spread), rel=0.02)
    other, spread = cycles_per_instruction(rows, ["cy8cproto_062_4343w"])
    assert m4.cycles_spread == pytest.approx(spread * other / m4.cycles, rel=0.01)
    assert m4.energy_spread == pytest.approx(differ * 1.15, rel=0.02)


@pytest.mark.parametrize("board", BOARDS)
def test_each_measurement_is_predicted_from_all_others(data_dir: Path, board: str) -> None:
    """Every submitter's rows held out in turn, of a single submitter every round; instructions by way of its time."""
    rows = [row for row in published_rows(data_dir) if row.board == board and row.energy_uj]
    facts = instruction_facts(*BOARDS[board])

    def part(row: Row) -> str:
        return row.round if board == "NUCLEO-U575ZI-Q" else row.submitter

    for held_out in {part(row) for row in rows}:
        fitted, _ = middle_and_spread([row.nanojoules_per_cycle for row in rows if part(row) != held_out])
        for row in (row for row in rows if part(row) == held_out):
            predicted = row.cycles / facts.cycles * fitted * facts.cycles * 1e-3
            assert max(predicted / row.energy_uj, row.energy_uj / predicted) < facts.energy_spread


@pytest.mark.parametrize("task", CMSIS_NN)
def test_counted_instructions_give_what_a_board_took(data_dir: Path, task: str) -> None:
    """CMSIS-NN's kernels on a board, by another framework: counted here, measured there."""
    facts = instruction_facts(M4, L4R5)
    measured = [row for row in published_rows(data_dir) if "cmsis_nn" in row.submitter and row.task == task]
    assert len(measured) == 1
    time = predict_latency(CMSIS_NN[task], facts, 120)
    energy = predict_energy(CMSIS_NN[task], facts)
    assert time.low < measured[0].latency_ms < time.high
    assert energy.low < measured[0].energy_uj / 1e3 < energy.high
    assert abs(math.log(time.value / measured[0].latency_ms)) < math.log(1.1)
