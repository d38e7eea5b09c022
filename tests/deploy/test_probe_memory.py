from __future__ import annotations

import struct

import pytest

pytest.importorskip("pyocd")
pytest.importorskip("unicorn")

from emulated_probe import RAM, Chip, EmulatedProbe, plugged_in

from edgeprune.chip import load_chip
from edgeprune.deploy.mailbox import RUN, Mailbox, MailboxClient, find_mailbox
from edgeprune.deploy.probe_memory import ProbeMemory
from edgeprune.errors import EdgepruneError

NRF = load_chip("nrf52840")
MAILBOX = RAM + 0x400
CODE = (0x4805, 0x6901, 0x6942, 0x4291, 0xD0FB, 0x6983, 0x18DB, 0x6203, 0x6141, 0xE7F6, 0xBF00, 0xBF00)
"""Waits until sequence is not done_sequence, puts twice the argument into the cycles, and says that it is done.

ldr r0, =mailbox; 1: ldr r1, [r0, #16]; ldr r2, [r0, #20]; cmp r1, r2; beq 1b; ldr r3, [r0, #24]; adds r3, r3, r3;
str r3, [r0, #32]; str r1, [r0, #20]; b 1b
"""


@pytest.fixture
def board():
    """A chip whose firmware is running."""
    chip = Chip()
    chip.uc.mem_write(0, struct.pack("<2I", RAM + 0x8000, 0x101))
    chip.uc.mem_write(0x100, struct.pack("<12HI", *CODE, MAILBOX))
    words = Mailbox(*[0] * 17)._replace(magic=0x4D474445, version=1, status=1, arena_address=RAM + 0x1000)
    chip.uc.mem_write(MAILBOX, struct.pack("<17I", *words))
    chip.reset()
    return chip


def failure(work, *arguments):
    with pytest.raises(EdgepruneError) as caught:
        work(*arguments)
    return caught.value


def test_a_mailbox_is_found_and_answers_while_the_core_runs(board):
    with plugged_in(EmulatedProbe(board)):
        memory = ProbeMemory(NRF)
        address = find_mailbox(memory, RAM, 0x2000)
        assert address == MAILBOX
        client = MailboxClient(memory, address)
        for argument in (21, 1000):
            assert client.call(RUN, argument).cycles == 2 * argument
        memory.close()
    assert not board.halted and board.started == 2


@pytest.mark.parametrize(("address", "size"), [(0, 1), (1, 2), (3, 9), (0, 4), (4, 8), (2, 5000), (0, 9000)])
def test_bytes_at_any_place(board, address, size):
    data = bytes(i * 7 & 0xFF for i in range(size))
    start = RAM + 0x2000 + address
    with plugged_in(EmulatedProbe(board)):
        memory = ProbeMemory(NRF)
        memory.write(start, data)
        assert memory.read(start, size) == data
        assert memory.read(start - 2, size + 4) == bytes(2) + data + bytes(2)
        memory.close()
    assert bytes(board.uc.mem_read(start, size)) == data


def test_another_chip_is_not_written(board):
    other = Chip(part=0x52833)
    with plugged_in(EmulatedProbe(other)):
        error = failure(ProbeMemory(NRF).connect)
    assert (error.code, error.where) == ("chip-mismatch", "probe E0C0FFEE")
    assert "one with FICR.INFO.PART 0x52833, the firmware is for nrf52840 (FICR.INFO.PART 0x52840)" in error.what


def test_a_cable_that_is_pulled_and_plugged_in_again(board):
    probe = EmulatedProbe(board)
    with plugged_in(probe):
        memory = ProbeMemory(NRF)
        memory.connect()
        probe.pulled_after = probe.accesses + 1
        error = failure(memory.read, RAM, 4000)
        assert (error.code, error.what) == ("probe-lost", "the connection was lost: the USB device is gone")
        assert failure(memory.connect).code == "probe-missing"
        EmulatedProbe.plugged.append(EmulatedProbe(board))
        memory.connect()
        assert MailboxClient(memory, MAILBOX).call(RUN, 4).cycles == 8
        memory.close()


def test_a_closed_one_opens_again_and_a_reset_starts_the_firmware(board):
    with plugged_in(EmulatedProbe(board)):
        memory = ProbeMemory(NRF)
        memory.connect()
        memory.close()
        assert memory.read(MAILBOX, 4) == struct.pack("<I", 0x4D474445)
        before = board.started
        memory.reset()
        assert board.started > before and MailboxClient(memory, MAILBOX).call(RUN, 5).cycles == 10
        memory.wait(0.001)
        memory.close()
        memory.close()


def test_memory_that_is_not_there(board):
    with plugged_in(EmulatedProbe(board)):
        memory = ProbeMemory(NRF)
        assert str(failure(memory.read, 0x70000000, 4)) == (
            "the nrf52840 has no memory there: Memory transfer fault (memory fault) @ 0x70000000-0x70000003 "
            "[memory-fault]\n  where: probe E0C0FFEE\n  hint:  flash the package again, then retry"
        )
        memory.close()
