from __future__ import annotations

import os
import random
import struct
import sys

import pytest
from flash_chips import chip

pytest.importorskip("pyocd")
pytest.importorskip("unicorn")

from emulated_probe import Chip, EmulatedProbe, plugged_in

from edgeprune.chip import load_chip
from edgeprune.device.probe import list_probes
from edgeprune.errors import EdgepruneError
from edgeprune.flash.image import image_of
from edgeprune.flash.pyocd import ProbeFlasher

NRF = load_chip("nrf52840")
ENTRY = 0x100
LOOP = struct.pack("<H", 0xE7FE)
"""`b .`: the core stays there."""


def image(seed=1, size=900):
    draw = random.Random(seed)
    vectors = struct.pack("<2I", 0x20001000, ENTRY | 1)
    return image_of(
        [(0, vectors + draw.randbytes(ENTRY - 8)), (ENTRY, LOOP + draw.randbytes(size)), (0x8004, draw.randbytes(333))]
    )


def failure(flasher, of=NRF, what=None):
    with pytest.raises(EdgepruneError) as caught:
        flasher.flash(what or image(), of)
    return caught.value


def holds(board, what):
    return all(board.flash(s.address, len(s.data)) == s.data for s in what.segments)


def test_written_by_the_flash_algorithm_on_the_core():
    board = Chip()
    with plugged_in(EmulatedProbe(board)):
        board.uc.mem_write(0x1000, b"old" * 10)
        board.uc.mem_write(0x7000, b"kept")
        told = []
        done = ProbeFlasher().flash(image(), NRF, lambda *step: told.append(step))
    assert (done.identity, done.size, done.verified) == ("FICR.INFO.PART 0x52840", image().size, "read-back")
    assert holds(board, image()) and board.flash(0x7000, 4) == b"kept"
    end = image().segments[0].end
    assert board.flash(end, 0x1000 - end) == b"\xff" * (0x1000 - end) and board.flash(0x1000, 3) == b"old"
    assert board.erased == [0, 0x8000] and board.executed > 0
    assert told[-1] == ("verify", image().size, image().size, "") and ("flash", image().size, image().size, "") in told
    assert not board.halted and board.started >= 2 and not board.fault


def test_a_second_image_over_the_first():
    board = Chip()
    with plugged_in(EmulatedProbe(board)):
        for seed in (1, 2):
            ProbeFlasher("e0c0ffee").flash(image(seed), NRF)
            assert holds(board, image(seed))


def test_no_probe():
    with plugged_in():
        assert str(failure(ProbeFlasher())) == (
            "no debug probe is plugged in [probe-missing]\n  where: USB\n  hint:  plug the board in; on Linux its USB "
            "device needs a udev rule (pyocd's documentation has them)"
        )
        assert list_probes() == []


def test_a_probe_without_a_board():
    with plugged_in(EmulatedProbe(None)):
        assert str(failure(ProbeFlasher())) == (
            "no chip answers behind the probe: no ACK [probe-missing]\n  where: probe E0C0FFEE\n"
            "  hint:  see that the board has power and that its debug pins are connected"
        )


def test_several_probes_and_a_name():
    boards = Chip(), Chip()
    with plugged_in(EmulatedProbe(boards[0], "AAAA"), EmulatedProbe(boards[1], "BBBB")):
        assert [facts.serial for facts in list_probes()] == ["AAAA", "BBBB"]
        assert str(failure(ProbeFlasher())) == (
            "2 debug probes are plugged in: AAAA, BBBB [board-ambiguous]\n  where: --board\n"
            "  hint:  name one: --board NAME@AAAA"
        )
        assert str(failure(ProbeFlasher("CCCC"))) == (
            "there is no probe CCCC [probe-missing]\n  where: USB\n  hint:  plugged in: AAAA, BBBB"
        )
        ProbeFlasher("BBBB").flash(image(), NRF)
    assert holds(boards[1], image()) and not boards[0].erased


def test_another_chip_is_not_touched():
    board = Chip(part=0x52833)
    with plugged_in(EmulatedProbe(board)):
        assert str(failure(ProbeFlasher())) == (
            "the chip is one with FICR.INFO.PART 0x52833, the firmware is for nrf52840 (FICR.INFO.PART 0x52840); "
            "nothing was erased [chip-mismatch]\n  where: probe E0C0FFEE\n"
            "  hint:  check which board is plugged in, or name the board that it is"
        )
    assert not board.erased and board.flash() == b"\xff" * len(board.flash())


def test_a_chip_of_another_maker_is_not_touched():
    board = Chip(part=0x12345, control_port=False)
    with plugged_in(EmulatedProbe(board)):
        error = failure(ProbeFlasher())
    assert error.code == "chip-mismatch" and "one with FICR.INFO.PART 0x12345, the firmware is for" in error.what
    assert not board.erased


def test_a_locked_chip_is_not_unlocked():
    board = Chip(locked=True)
    with plugged_in(EmulatedProbe(board)):
        assert str(failure(ProbeFlasher())) == (
            "the nrf52840 is locked against reading and writing [chip-locked]\n  where: probe E0C0FFEE\n"
            "  hint:  unlocking erases it: `pyocd erase --mass`, or the chip maker's own tool"
        )
        assert not board.erased
        board.locked = False
        ProbeFlasher().flash(image(), NRF)
    assert holds(board, image())


def test_worn_flash():
    board = Chip()
    place = next(i for i, b in enumerate(image().segments[0].data) if i > 0x200 and b & 1)
    board.stuck = {place: 1}
    with plugged_in(EmulatedProbe(board)):
        error = failure(ProbeFlasher())
    wanted = image().segments[0].data[place]
    assert str(error) == (
        f"the nrf52840 does not hold what was written: 0x{wanted - 1:02x} instead of 0x{wanted:02x} at "
        f"0x{place:08x} [flash-verify-failed]\n  where: probe E0C0FFEE\n"
        "  hint:  flash it again; its flash may be worn out"
    )


def test_an_algorithm_that_fails():
    board = Chip()
    board.refuses = True
    with plugged_in(EmulatedProbe(board)):
        error = failure(ProbeFlasher())
    assert str(error) == (
        "the nrf52840 could not be written: flash init failure (result code 0x7) [flash-failed]\n"
        "  where: probe E0C0FFEE\n  hint:  switch the board off and on, then flash it again"
    )


def steps():
    """How many accesses one flashing takes."""
    probe = EmulatedProbe(Chip())
    with plugged_in(probe):
        ProbeFlasher().flash(image(), NRF)
    return probe.accesses


def test_pulled_at_every_step_and_plugged_in_again():
    total = steps()
    draw = random.Random(7)
    places = [0, 2, 5, *sorted(draw.sample(range(6, total - 150), 5)), total - 45]
    board = Chip()
    for place in places:
        with plugged_in(EmulatedProbe(board, pulled_after=place)):
            error = failure(ProbeFlasher())
        assert error.code == "probe-lost", (place, total, str(error))
        assert str(error) in [
            f"the connection was lost: {why} [probe-lost]\n  where: probe E0C0FFEE\n"
            "  hint:  plug the board in again and repeat; a half-written chip is written whole then"
            for why in ("the USB device is gone", "the probe is gone")
        ], place
    with plugged_in(EmulatedProbe(board)):
        ProbeFlasher().flash(image(3), NRF)
    assert holds(board, image(3))


def test_a_chip_that_pyocd_does_not_know():
    with plugged_in(EmulatedProbe(Chip())):
        error = failure(ProbeFlasher(), chip("stm32l4r5zi", flash=(0, 1 << 20), pyocd="stm32l4r5-not-there"))
        assert str(error) == (
            "pyOCD's support of stm32l4r5-not-there is not installed [flasher-missing]\n  where: --board\n"
            "  hint:  pyocd pack install stm32l4r5-not-there"
        )
        error = failure(ProbeFlasher(), chip("odd", flash=(0, 1 << 20)))
        assert str(error) == (
            "a flash algorithm of pyOCD for odd is not installed [flasher-missing]\n  where: --board\n"
            "  hint:  name another flasher in the board's file"
        )


def test_memory_that_pyocd_does_not_know():
    larger = chip("larger", flash=(0, 16 << 20), pyocd="nrf52840", identity=NRF.identity)
    with plugged_in(EmulatedProbe(Chip())):
        error = failure(ProbeFlasher(), larger, image_of([(0x800000, b"far")]))
    assert (error.code, error.what) == (
        "flash-failed",
        "the larger could not be written: pyOCD knows other memory of it: no memory region defined for address "
        "0x00800000",
    )


def test_pyocd_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyocd.probe.aggregator", None)
    assert str(failure(ProbeFlasher())) == (
        "pyOCD is not installed [flasher-missing]\n  where: --board\n  hint:  pip install 'edgeprune[probe]'"
    )


def test_no_script_and_no_settings_of_the_folder_are_used(tmp_path, monkeypatch):
    (tmp_path / "pyocd_user.py").write_text("open('ran', 'w')")
    (tmp_path / "pyocd.yaml").write_text("user_script: pyocd_user.py\nauto_unlock: true\n")
    monkeypatch.chdir(tmp_path)
    board = Chip()
    with plugged_in(EmulatedProbe(board)):
        ProbeFlasher().flash(image(), NRF)
    assert os.getcwd() == str(tmp_path) and not (tmp_path / "ran").exists() and holds(board, image())
