from __future__ import annotations

import re

import msgspec
import numpy as np
import pytest
import unicorn
from tiny_bare import SOURCE, SOURCE_WITHOUT_FLOATS, STEPS, link, tiny_firmware, tiny_inputs, tiny_outputs

from edgeprune.chip import load_chip
from edgeprune.deploy import unicorn_core
from edgeprune.deploy.mailbox import BENCH, RUN, MailboxClient
from edgeprune.deploy.mailbox_runner import MailboxRunner
from edgeprune.deploy.unicorn_board import UnicornBoard
from edgeprune.elf import read_elf
from edgeprune.errors import EdgepruneError

CHIPS = ("emulated-m4", "emulated-m7", "stm32u575zi")


def started(firmware):
    board = UnicornBoard(firmware.elf, firmware.chip)
    return board, MailboxRunner(board, firmware.mailbox_address, firmware.model, take_regions=board.take_regions)


def broken(change: str):
    """Firmware whose model does `change` after its first step."""
    return tiny_firmware("emulated-m4", SOURCE.replace("if (note) note(context, 0);", change, 1))


def refused(call):
    with pytest.raises(EdgepruneError) as caught:
        call()
    assert caught.value.hint
    return caught.value


@pytest.mark.parametrize("chip", CHIPS)
def test_rows_are_computed_on_each_core(chip):
    _, runner = started(tiny_firmware(chip))
    inputs = tiny_inputs(3)
    outputs, wanted = runner.run_rows(inputs), tiny_outputs(inputs)
    assert sorted(outputs) == sorted(wanted)
    for name, values in wanted.items():
        np.testing.assert_array_equal(outputs[name], values)


@pytest.mark.parametrize("chip", ["rp2040", "emulated-m3", "emulated-rv32"])
def test_cores_without_floats(chip):
    _, runner = started(tiny_firmware(chip, SOURCE_WITHOUT_FLOATS))
    inputs = tiny_inputs(2)
    np.testing.assert_array_equal(runner.run_rows(inputs)["sum"] * 0.5, tiny_outputs(inputs)["sum"])
    assert runner.bench(1).instructions > 100


def test_instructions_are_those_that_were_executed():
    """One instruction after another, between the marks, is what the counter says of whole blocks.

    unicorn tells nothing of an instruction that its IT block skips, which a core executes and counts all the same.
    """
    firmware = tiny_firmware()
    board, runner = started(firmware)
    elf = read_elf(firmware.elf)
    begin, end = elf.symbol("edge_mark_begin"), elf.symbol("edge_mark_end")
    stepped: list[int] = []

    def note(_machine, address, _size, _data):
        if address == begin:
            stepped.append(0)
        elif address != end and stepped:
            stepped[-1] += 1
        elif address == end:
            stepped.append(0)

    board._machine.hook_add(unicorn.UC_HOOK_CODE, note)
    client = MailboxClient(board, firmware.mailbox_address)
    board.take_regions()
    client.call(BENCH, 1)
    counted = board.take_regions()
    assert len(counted) == len(stepped[::2])
    assert all(0 <= whole - told <= 2 for whole, told in zip(counted, stepped[::2], strict=True))
    assert counted[:3] == stepped[:6:2]
    assert len(counted) == 1 + len(STEPS) + 1 and counted[0] > 100
    assert runner.bench(1).instructions == counted[0]


def test_counts_repeat_and_do_not_depend_on_the_inputs_before():
    told = []
    for seed in (0, 1):
        _, runner = started(tiny_firmware())
        runner.run_rows(tiny_inputs(seed + 1, seed))
        told += [runner.bench(1), runner.bench(5)]
    assert len({found.instructions for found in told}) == 1
    assert [layer.name for layer in told[0].layers] == list(STEPS)
    assert told[0].layers == told[3].layers and told[0].latency_ns is None
    steps = sum(layer.instructions for layer in told[0].layers)
    assert told[0].instructions <= steps <= told[0].instructions + 20 * len(STEPS)


def test_counts_that_depend_on_the_inputs_repeat():
    waits = 'for (int i = 0; i < first[0] + 128; i++) __asm__ volatile("nop"); if (note) note(context, 0);'
    board, runner = started(broken(waits))
    told = []
    for value in (-50.0, 50.0):
        board.take_regions()
        runner.run_rows({"first": np.full((1, 1, 8), value, np.float32), "second": np.zeros((1, 1, 8), np.float32)})
        told += [*board.take_regions(), runner.bench(1).instructions]
    assert told[0] != told[2] and told[1] == told[3]


def test_data_was_copied_and_zeros_were_made():
    firmware = tiny_firmware()
    elf = read_elf(firmware.elf)
    board = UnicornBoard(firmware.elf, firmware.chip)
    for name in (".data", ".bss"):
        start, size = elf.sections[name]
        board.write(start, b"\xa5" * size)
    runner = MailboxRunner(board, firmware.mailbox_address, firmware.model)
    inputs = tiny_inputs(1)
    np.testing.assert_array_equal(runner.run_rows(inputs)["sum"], tiny_outputs(inputs)["sum"])
    runs = elf.sections[".bss"][0], elf.sections[".bss"][1]
    assert 1 in np.frombuffer(board.read(*runs), "<u4")


def test_firmware_of_another_package_is_refused():
    _, runner = started(tiny_firmware())
    runner.require_library(bytes(range(32)))
    caught = refused(lambda: runner.require_library(b"\xff" * 32))
    assert caught.code == "board-other-package"
    assert caught.what == "the board holds another package: library 0001020304050607, not ffffffffffffffff"


FAULTS = """switch (first[9]) {
    case 1: *(volatile int *)0x60000000; break;
    case 2: *(volatile int *)0x60000004 = 1; break;
    case 3: *(volatile int *)0x08000000 = 1; break;
    case 4: ((void (*)(void))0x70000001)();
}"""


@pytest.mark.parametrize(
    ("case", "why"),
    [
        (1, "a read at 0x60000000"),
        (2, "a write at 0x60000004"),
        (3, "a write at 0x08000000"),
        (4, "a jump at 0x70000000"),
    ],
)
def test_memory_that_is_not_there_is_a_fault(case, why):
    firmware = broken(FAULTS)
    board, runner = started(firmware)
    board.write(firmware.arena_address + 9, bytes([case]))
    caught = refused(lambda: runner.run_rows(tiny_inputs(1)))
    assert caught.code == "emulated-fault"
    assert re.fullmatch(rf"the firmware failed at 0x[0-9a-f]{{8}} \(\w+\): {why}", caught.what)


def test_the_host_reaches_only_what_is_there():
    firmware = tiny_firmware()
    board = UnicornBoard(firmware.elf, firmware.chip)
    assert "the host read 4 bytes at 0x60000000: " in refused(lambda: board.read(0x60000000, 4)).what
    assert "the host wrote 2 bytes at 0x60000000: " in refused(lambda: board.write(0x60000000, b"ab")).what


def test_a_model_without_end_is_given_up_and_the_board_goes_on():
    firmware = broken("while (((volatile int8_t *)first)[8]) {}")
    board = UnicornBoard(firmware.elf, firmware.chip)
    runner = MailboxRunner(board, firmware.mailbox_address, firmware.model, seconds_a_row=0.2)
    inputs = tiny_inputs(1)
    board.write(firmware.arena_address + 8, b"\1")
    assert refused(lambda: runner.run_rows(inputs)).code == "mailbox-timeout"
    board.write(firmware.arena_address + 8, b"\0")
    board.wait(1)
    np.testing.assert_array_equal(runner.run_rows(inputs)["sum"], tiny_outputs(inputs)["sum"])


def test_unknown_commands_are_refused_by_the_firmware():
    firmware = tiny_firmware()
    board = UnicornBoard(firmware.elf, firmware.chip)
    client = MailboxClient(board, firmware.mailbox_address)
    client.wait_ready(1)
    assert refused(lambda: client.call(7)).what == "the firmware refused what it was asked (error 1)"
    assert client.call(RUN).error == 0


def test_a_core_that_unicorn_lacks_is_refused():
    chip = msgspec.structs.replace(load_chip("emulated-m4"), target="cortex-m55")
    caught = refused(lambda: UnicornBoard(tiny_firmware().elf, chip))
    assert (caught.code, caught.what) == ("emulator-unsupported", "unicorn has no cortex-m55")


def test_without_unicorn_the_package_is_named(monkeypatch):
    monkeypatch.setitem(unicorn_core.importlib.sys.modules, "unicorn", None)
    caught = refused(lambda: UnicornBoard(tiny_firmware().elf, load_chip("emulated-m4")))
    assert (caught.code, caught.hint) == ("emulator-missing", "pip install unicorn")


def test_a_stack_that_grows_too_large_ends_in_an_error():
    firmware = link(load_chip("emulated-m7"), SOURCE.replace(
        "if (note) note(context, 0);", "volatile char much[8192]; for (int i = 0; i < 8192; i++) much[i] = i;", 1
    ))  # fmt: skip
    _, runner = started(firmware)
    assert "a write at 0x1fff" in refused(lambda: runner.run_rows(tiny_inputs(1))).what


def test_a_core_with_caches_shares_what_the_host_reads_and_writes():
    """Lines of arena and mailbox go back to memory: the arena before a run and after it, the mailbox last of all."""
    firmware = tiny_firmware("emulated-m7")
    board, runner = started(firmware)
    shared = []
    board._machine.hook_add(
        unicorn.UC_HOOK_MEM_WRITE,
        lambda _machine, _access, _place, _size, value, _data: shared.append(value & 0xFFFFFFFF),
        begin=0xE000EF70,
        end=0xE000EF73,
    )
    runner.run_rows(tiny_inputs(1))
    arena = [firmware.arena_address // 32 * 32 + line for line in range(0, firmware.model.arena_bytes, 32)]
    mailbox = [firmware.mailbox_address + line for line in (0, 32, 64)]
    assert [line for line in shared if line in arena] == 2 * arena
    assert shared[-3:] == shared[:3] == mailbox
    assert set(arena) < set(shared[: len(mailbox) + len(arena) + 1])


def test_cores_without_caches_do_nothing_of_the_kind():
    assert b"\x70\xef\x00\xe0" not in tiny_firmware("emulated-m4").elf
