from __future__ import annotations

import shutil

import numpy as np
import pytest
from tiny_bare import SOURCE, STEPS, tiny_firmware, tiny_inputs, tiny_outputs

from edgeprune.chip import load_chip
from edgeprune.deploy import qemu_board
from edgeprune.deploy.mailbox_runner import MailboxRunner
from edgeprune.deploy.qemu_board import QemuBoard
from edgeprune.deploy.unicorn_board import UnicornBoard
from edgeprune.errors import EdgepruneError

needs_qemu = pytest.mark.skipif(shutil.which("qemu-system-arm") is None, reason="qemu-system-arm is not installed")


@pytest.fixture
def start():
    boards = []

    def make(firmware):
        board = QemuBoard(firmware.elf, firmware.chip)
        boards.append(board)
        return MailboxRunner(board, firmware.mailbox_address, firmware.model, take_regions=board.take_regions)

    yield make
    for board in boards:
        board.close()


def refused(call):
    with pytest.raises(EdgepruneError) as caught:
        call()
    assert caught.value.hint
    return caught.value


@needs_qemu
@pytest.mark.parametrize("chip", ["mps2-an386", "mps2-an500", "mps3-an547"])
def test_rows_are_computed_and_instructions_counted(start, chip):
    firmware = tiny_firmware(chip)
    runner = start(firmware)
    inputs = tiny_inputs(2)
    outputs, wanted = runner.run_rows(inputs), tiny_outputs(inputs)
    for name, values in wanted.items():
        np.testing.assert_array_equal(outputs[name], values)
    told = runner.bench(1)
    assert [layer.name for layer in told.layers] == list(STEPS) and told.latency_ns is None
    np.testing.assert_array_equal(runner.run_rows(inputs)["sum"], wanted["sum"])
    if chip != "mps3-an547":
        other = UnicornBoard(firmware.elf, firmware.chip)
        counted = MailboxRunner(other, firmware.mailbox_address, firmware.model, take_regions=other.take_regions)
        assert counted.bench(1) == told


@needs_qemu
def test_a_fault_is_told_and_a_loop_is_given_up(start):
    source = SOURCE.replace(
        "if (note) note(context, 0);",
        "if (first[9] == 1) *(volatile int *)0x50000000; while (((volatile int8_t *)first)[9] == 2) {}",
        1,
    )
    firmware = tiny_firmware("mps2-an386", source)
    runner = start(firmware)
    runner._seconds_a_row = 0.3
    runner._memory.write(firmware.arena_address + 9, b"\2")
    assert refused(lambda: runner.run_rows(tiny_inputs(1))).code == "mailbox-timeout"
    runner._memory.write(firmware.arena_address + 9, b"\0")
    runner._memory.wait(5)
    inputs = tiny_inputs(1)
    np.testing.assert_array_equal(runner.run_rows(inputs)["sum"], tiny_outputs(inputs)["sum"])
    runner._memory.write(firmware.arena_address + 9, b"\1")
    caught = refused(lambda: runner.run_rows(inputs))
    what = "the firmware ran into a fault, such as memory that is not there, and stopped"
    assert (caught.code, caught.what) == ("mailbox-failed", what)


@needs_qemu
def test_a_machine_that_does_not_start_is_told(monkeypatch):
    firmware = tiny_firmware("mps2-an386")
    board = QemuBoard(firmware.elf, firmware.chip)
    board._machine = "no-such-machine"
    caught = refused(lambda: board.read(0, 4))
    assert caught.code == "emulator-failed"
    assert caught.what.startswith("QEMU did not start the machine no-such-machine: ") and "unsupported" in caught.what
    board.close()
    assert not board._folder.exists()


def test_without_qemu_it_is_named(monkeypatch):
    monkeypatch.setattr(qemu_board.shutil, "which", lambda name: None)
    caught = refused(lambda: QemuBoard(b"", load_chip("mps2-an386")))
    assert (caught.code, caught.what) == ("emulator-missing", "qemu-system-arm is not installed")
    assert caught.hint.startswith("apt-get install qemu-system-arm")


def test_a_chip_that_qemu_lacks_is_refused():
    caught = refused(lambda: QemuBoard(b"", load_chip("stm32l4r5zi")))
    assert (caught.code, caught.what) == ("emulator-unsupported", "QEMU has no chip stm32l4r5zi")
