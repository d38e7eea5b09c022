from __future__ import annotations

import importlib.util
import random
import sys

import pytest
from flash_chips import chip

if importlib.util.find_spec("esptool") is None:
    pytest.skip("esptool is not installed", allow_module_level=True)

from slip_peer import DATA, MD5, Rom

from edgeprune.chip import load_chip
from edgeprune.errors import EdgepruneError
from edgeprune.flash.esptool import EsptoolFlasher
from edgeprune.flash.image import image_of

C3 = load_chip("esp32-c3")
DRAW = random.Random(3)
IMAGE = image_of([(0x42000000, DRAW.randbytes(3000)), (0x42008000, DRAW.randbytes(1001))])
RETRY = "plug the board in again and repeat; a half-written chip is written whole then"


@pytest.fixture
def plug():
    """Makes chips whose cables are pulled at the end."""
    roms = []

    def make(**facts):
        roms.append(Rom(**facts))
        return roms[-1]

    yield make
    for rom in roms:
        rom.close()


def flasher(rom):
    return EsptoolFlasher(rom.port, before="no-reset", after="no-reset")


def failure(rom, of=C3, with_=None):
    with pytest.raises(EdgepruneError) as caught:
        (with_ or flasher(rom)).flash(IMAGE, of)
    return caught.value


def holds(rom):
    return all(rom.flash[s.address - 0x42000000 :][: len(s.data)] == s.data for s in IMAGE.segments)


def test_written_and_hashed_by_the_chip(plug):
    rom, told = plug(), []
    done = flasher(rom).flash(IMAGE, C3, lambda *step: told.append(step))
    assert (done.identity, done.size, done.verified) == ("ESP32-C3", 4001, "hashed")
    assert holds(rom) and rom.erased == [(0, 4096), (0x8000, 0x9000)]
    assert told[-1] == ("flash", 4001, 4001, "") and len(told) > 2


@pytest.mark.parametrize(
    ("pulled", "code"),
    [
        ({"pulled_after": 0}, "probe-missing"),
        ({"pulled_after": 6}, "probe-lost"),
        ({"pulled_at": DATA}, "probe-lost"),
        ({"pulled_at": MD5}, "probe-lost"),
    ],
    ids=["sync", "identify", "write", "verify"],
)
def test_pulled_and_plugged_in_again(plug, pulled, code):
    rom = plug(**pulled)
    error = failure(rom)
    assert (error.code, error.where) == (code, rom.port), str(error)
    if code == "probe-missing":
        assert error.what.startswith("no esp32-c3 answers: ")
        assert error.hint == "hold its BOOT button while you press RESET, then try again; close any serial monitor"
    else:
        assert error.what.startswith("the connection was lost: ") and error.hint == RETRY
    again = plug(flash=rom.flash)
    assert flasher(again).flash(IMAGE, C3).verified == "hashed" and holds(again)


def test_nobody_answers(plug):
    rom = plug(silent_after=0)
    assert str(failure(rom)) == (
        "no esp32-c3 answers: ERROR: A fatal error occurred: Failed to connect to Espressif device: No serial data "
        f"received. [probe-missing]\n  where: {rom.port}\n"
        "  hint:  hold its BOOT button while you press RESET, then try again; close any serial monitor"
    )


def test_no_such_port():
    error = failure(None, with_=EsptoolFlasher("/dev/not-there"))
    assert (error.code, error.where) == ("probe-missing", "/dev/not-there")


def test_another_chip_is_not_erased(plug):
    rom = plug(chip_id=9)
    assert str(failure(rom)) == (
        "the chip is ESP32-S3, the firmware is for esp32-c3; nothing was erased [chip-mismatch]\n"
        f"  where: {rom.port}\n  hint:  check which board is plugged in, or name the board that it is"
    )
    assert rom.erased == []


@pytest.mark.parametrize(("flags", "said"), [(4, "in Secure Download Mode"), (1, "Secure Boot: Enabled")])
def test_a_locked_chip(plug, flags, said):
    rom = plug(flags=flags)
    assert str(failure(rom)) == (
        f"the esp32-c3 is locked against reading and writing [chip-locked]\n  where: {rom.port}\n"
        f"  hint:  its fuses say '{said}': it takes no firmware of this kind"
    )
    assert rom.erased == []


def test_worn_flash(plug):
    rom = plug(worn=True)
    error = failure(rom)
    assert (error.code, error.what) == (
        "flash-verify-failed",
        "the esp32-c3 does not hold what was written: ERROR: A fatal error occurred: MD5 of file does not match "
        "data in flash!",
    )


def test_it_is_not_installed(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert str(failure(None, with_=EsptoolFlasher("/dev/x"))) == (
        "esptool is not installed [flasher-missing]\n  where: --board\n  hint:  pip install 'edgeprune[esp]'"
    )


def test_a_chip_that_it_does_not_write():
    error = failure(None, chip("rp2040", flash=(0x42000000, 1 << 20)), EsptoolFlasher("/dev/x"))
    assert (error.code, error.what) == ("flasher-missing", "esptool's support of rp2040 is not installed")


def test_it_is_never_imported():
    assert "esptool" not in sys.modules
