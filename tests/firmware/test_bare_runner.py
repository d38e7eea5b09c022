from __future__ import annotations

import shutil

import msgspec
import numpy as np
import pytest
from tiny_bare import tiny_firmware, tiny_inputs, tiny_outputs

from edgeprune.board import load_board
from edgeprune.deploy import bare
from edgeprune.deploy.bare_runner import EMULATED, running
from edgeprune.deploy.unicorn_board import UnicornBoard
from edgeprune.errors import EdgepruneError


@pytest.mark.parametrize("name", ["emulated-m4", "qemu-mps2-an386"])
def test_emulated_boards_are_started_and_ended(name):
    board = load_board(name)
    if board.transport == "qemu" and shutil.which("qemu-system-arm") is None:
        pytest.skip("qemu-system-arm is not installed")
    inputs = tiny_inputs(1)
    with running(tiny_firmware(board.chip), board) as runner:
        np.testing.assert_array_equal(runner.run_rows(inputs)["sum"], tiny_outputs(inputs)["sum"])
        assert runner.bench(1).instructions > 100
    assert board.transport in EMULATED


def test_a_real_board_is_reached_by_its_memory(monkeypatch):
    """An emulated core in the probe's place: measured, as nothing tells that it is one; closed at the end."""
    firmware, told = tiny_firmware("stm32u575zi"), []

    class Probe(UnicornBoard):
        def connect(self):
            told.append("connected")

        def close(self):
            told.append("closed")

    monkeypatch.setattr(bare, "memory_for", lambda board, chip: Probe(firmware.elf, chip))
    board = msgspec.structs.replace(load_board("nucleo-u575zi-q"), command_seconds=5)
    inputs = tiny_inputs(1)
    with running(firmware, board) as runner:
        np.testing.assert_array_equal(runner.run_rows(inputs)["sum"], tiny_outputs(inputs)["sum"])
    assert told == ["connected", "closed"]


def test_what_goes_wrong_ends_it_too(monkeypatch):
    told = []

    class Probe:
        def connect(self):
            raise EdgepruneError("probe-missing", "none")

        def close(self):
            told.append("closed")

    monkeypatch.setattr(bare, "memory_for", lambda board, chip: Probe())
    with pytest.raises(EdgepruneError, match="none"), running(tiny_firmware(), load_board("nucleo-l4r5zi")):
        pass
    assert told == ["closed"]
