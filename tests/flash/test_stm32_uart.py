from __future__ import annotations

import random
import sys

import pytest
from flash_chips import chip

pytest.importorskip("serial")

from stm32_peer import Bootloader

from edgeprune.chip import Identity, load_chip
from edgeprune.errors import EdgepruneError
from edgeprune.flash import stm32_uart
from edgeprune.flash.image import image_of
from edgeprune.flash.stm32_uart import Stm32UartFlasher

F446 = load_chip("stm32f446re")
DRAW = random.Random(5)
IMAGE = image_of([(0x08000000, DRAW.randbytes(1001)), (0x08002005, DRAW.randbytes(70))])


@pytest.fixture(autouse=True)
def patience(monkeypatch):
    monkeypatch.setattr(stm32_uart, "_ANSWER_SECONDS", 0.3)


@pytest.fixture
def plug():
    peers = []

    def make(**facts):
        peers.append(Bootloader(**facts))
        return peers[-1]

    yield make
    for peer in peers:
        peer.close()


def failure(peer, of=F446, with_=None):
    with pytest.raises(EdgepruneError) as caught:
        (with_ or flasher(peer)).flash(IMAGE, of)
    return caught.value


def flasher(peer):
    return Stm32UartFlasher(peer.port, parity="N")


def holds(peer):
    return all(peer.flash[s.address - 0x08000000 :][: len(s.data)] == s.data for s in IMAGE.segments)


def test_written_read_back_and_started(plug):
    peer, told = plug(), []
    done = flasher(peer).flash(IMAGE, F446, lambda *step: told.append(step))
    assert (done.identity, done.size, done.verified) == ("id 0x421", 1071, "read-back")
    assert holds(peer) and peer.erased and peer.started == 0
    assert set(peer.flash[1001:0x2000]) == {0xFF}
    assert told[-1] == ("verify", 1071, 1071, "") and ("flash", 1071, 1071, "") in told


def test_a_bootloader_that_was_spoken_to_before(plug):
    peer = plug()
    flasher(peer).flash(IMAGE, F446)
    assert flasher(peer).flash(IMAGE, F446).verified == "read-back"


def test_nobody_answers(plug):
    peer = plug(silent=True)
    assert str(failure(peer)) == (
        f"the bootloader of a stm32f446re does not answer [probe-missing]\n  where: {peer.port}\n"
        "  hint:  set BOOT0 (a jumper on most boards), press RESET, then try again"
    )


def test_no_such_port():
    error = failure(None, with_=Stm32UartFlasher("/dev/not-there", parity="N"))
    assert error.code == "probe-missing" and error.where == "/dev/not-there"
    assert error.what.startswith("the serial port /dev/not-there cannot be opened: ")
    assert error.hint == "plug the board in; `edgeprune boards --detect` lists the ports"


def test_another_chip_is_not_erased(plug):
    peer = plug(product=0x470)
    assert str(failure(peer)) == (
        "the chip is one with the id 0x470, the firmware is for stm32f446re (0x421); nothing was erased "
        f"[chip-mismatch]\n  where: {peer.port}\n"
        "  hint:  check which board is plugged in, or name the board that it is"
    )
    assert not peer.erased


def test_a_locked_chip(plug):
    peer = plug(protected=True)
    assert str(failure(peer)) == (
        f"the stm32f446re is locked against reading and writing [chip-locked]\n  where: {peer.port}\n"
        "  hint:  readout protection is on; ST's own tool takes it away, which erases the chip"
    )
    assert not peer.erased


@pytest.mark.parametrize(
    ("command", "why"),
    [
        (0x44, "it refuses to erase: some of it is write-protected"),
        (0x31, "it refuses to write at 0x08000000"),
        (0x21, "it refuses to start the firmware"),
    ],
)
def test_a_command_that_is_refused(plug, command, why):
    peer = plug()
    peer.refused = {command}
    error = failure(peer)
    assert (error.code, error.what) == ("flash-failed", f"the stm32f446re could not be written: {why}")


def test_worn_flash(plug):
    place = next(i for i, byte in enumerate(IMAGE.segments[0].data) if i > 300 and byte & 4)
    error, wanted = failure(plug(stuck={place: 4})), IMAGE.segments[0].data[place]
    assert (error.code, error.what) == (
        "flash-verify-failed",
        f"the stm32f446re does not hold what was written: 0x{wanted - 4:02x} instead of 0x{wanted:02x} at "
        f"0x{0x08000000 + place:08x}",
    )


def test_pulled_at_every_step_and_plugged_in_again(plug):
    peer = plug()
    flasher(peer).flash(IMAGE, F446)
    total, flash = peer.taken, bytearray(0x4000)
    for place in [0, 1, 2, 4, 6, 11, 13, 17, *range(20, total - 8, total // 9)]:
        pulled = plug(pulled_after=place, flash=flash)
        error = failure(pulled)
        assert (error.code, error.where) == ("probe-lost", pulled.port), (place, str(error))
        assert error.hint == "plug the board in again and repeat; a half-written chip is written whole then"
    again = plug(flash=flash)
    assert flasher(again).flash(IMAGE, F446).verified == "read-back" and holds(again)


@pytest.mark.parametrize(
    "of",
    [
        chip(flash=(0x08000000, 1 << 20)),
        chip(flash=(0x08000000, 1 << 20), identity=Identity("x", 0, 1, 1), dfu="2e8a:0003"),
    ],
)
def test_a_chip_of_another_maker(of):
    error = failure(None, of, Stm32UartFlasher("/dev/x"))
    assert (error.code, error.what) == ("flasher-missing", "a bootloader of ST's for rp2040 is not installed")


def test_pyserial_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "serial", None)
    assert str(failure(None, with_=Stm32UartFlasher("/dev/x"))) == (
        "pyserial is not installed [flasher-missing]\n  where: --board\n  hint:  pip install 'edgeprune[serial]'"
    )
