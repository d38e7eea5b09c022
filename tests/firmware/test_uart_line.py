"""The firmware's own serial line, on emulated hardware: nothing of the board is reached but its UART."""

from __future__ import annotations

import shutil
import subprocess
import time

import numpy as np
import pytest
from noisy_line import NoisyLine
from tiny_bare import link, tiny_inputs, tiny_outputs

from edgeprune.chip import load_chip
from edgeprune.deploy.mailbox_runner import MailboxRunner
from edgeprune.deploy.serial_memory import SerialMemory
from edgeprune.errors import EdgepruneError

pytest.importorskip("serial")

needs_qemu = pytest.mark.skipif(shutil.which("qemu-system-arm") is None, reason="qemu-system-arm is not installed")


@pytest.fixture
def start(tmp_path):
    """The memory of firmware that QEMU runs, at the other end of a line."""
    ends = []

    def make(name, **noise):
        chip = load_chip(name)
        firmware, line = link(chip, uart=True), NoisyLine(**noise)
        path = tmp_path / "firmware.elf"
        path.write_bytes(firmware.elf)
        command = ["qemu-system-arm", "-M", chip.machine, "-display", "none", "-monitor", "none"]
        board = subprocess.Popen([*command, "-serial", line.board, "-kernel", path])
        memory = SerialMemory(line.host, 115200)
        ends.append((memory, board, line))
        wait_for(memory)
        return firmware, memory

    yield make
    for memory, board, line in ends:
        memory.close()
        board.kill()
        board.wait()
        line.cut()


def wait_for(memory, seconds=60.0):
    """Ask until the firmware answers: QEMU takes its time to start where other tests keep the machine busy."""
    end = time.monotonic() + seconds
    while True:
        try:
            return memory.connect()
        except EdgepruneError:
            if time.monotonic() > end:
                raise


@needs_qemu
@pytest.mark.parametrize("chip", ["mps2-an386", "mps2-an500"])
def test_rows_are_computed(start, chip):
    firmware, memory = start(chip)
    memory.connect()
    assert memory.mailbox_address == firmware.mailbox_address
    runner = MailboxRunner(memory, firmware.mailbox_address, firmware.model)
    runner.require_library(bytes(range(8)))
    inputs = tiny_inputs(3)
    outputs, wanted = runner.run_rows(inputs), tiny_outputs(inputs)
    for name, values in wanted.items():
        np.testing.assert_array_equal(outputs[name], values)


@needs_qemu
def test_rows_are_computed_over_a_bad_line(start):
    firmware, memory = start("mps2-an386", seed=3, loses=0.002, adds=0.002)
    runner = MailboxRunner(memory, firmware.mailbox_address, firmware.model)
    inputs = tiny_inputs(2)
    np.testing.assert_array_equal(runner.run_rows(inputs)["sum"], tiny_outputs(inputs)["sum"])


def test_every_chip_with_a_line_has_its_file():
    for name in ("esp32-c3", "mps2-an386"):
        chip = load_chip(name)
        assert chip.uart
        if chip.boot == "vectors":
            assert b"uart" not in link(chip).elf and len(link(chip, uart=True).elf) > len(link(chip).elf)
