from __future__ import annotations

import pytest
from flash_chips import chip
from stand_in import StandIn

from edgeprune.chip import load_chip
from edgeprune.errors import EdgepruneError
from edgeprune.flash.image import image_of
from edgeprune.flash.picotool import PicotoolFlasher

PICO = load_chip("rp2040")
IMAGE = image_of([(0x10000000, b"vectors" * 100)])


@pytest.fixture
def picotool(tmp_path, monkeypatch):
    program = StandIn("picotool", tmp_path, monkeypatch)
    program.when("version", says="picotool v2.1.1 (Linux, GNU-12.2.0, Release)\n")
    program.when("info", says="Device Information\n type:                  RP2040\n flash size:  2048K\n")
    program.when("load", says="Loading into Flash: [====      ]  50%\rLoading into Flash: [=====]  100%\nOK\n")
    return program


def failure(of=PICO):
    with pytest.raises(EdgepruneError) as caught:
        PicotoolFlasher().flash(IMAGE, of)
    return caught.value


def test_written_and_verified(picotool):
    told = []
    done = PicotoolFlasher().flash(IMAGE, PICO, lambda *step: told.append(step[:3]))
    assert (done.identity, done.size, done.verified) == ("RP2040", 700, "read-back")
    assert picotool.calls[:2] == [["version"], ["info", "-d"]] and picotool.calls[2][:3] == ["load", "-v", "-x"]
    assert told == [("flash", 350, 700), ("flash", 693, 700), ("flash", 700, 700)]


def test_not_installed(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert str(failure()) == (
        "picotool is not installed [flasher-missing]\n  where: --board\n"
        "  hint:  build it from github.com/raspberrypi/picotool, or mount the board's drive"
    )


def test_another_chip_is_not_erased(picotool):
    picotool.when("info", says=" type: RP2350\n")
    assert failure().what == "the chip is RP2350, the firmware is for rp2040; nothing was erased"
    assert len(picotool.calls) == 2
    assert failure(chip("odd", flash=(0x10000000, 1 << 20))).what == "picotool's support of odd is not installed"


@pytest.mark.parametrize(
    ("step", "said", "code", "what"),
    [
        (
            "info",
            "No accessible RP-series devices in BOOTSEL mode were found.\n",
            "probe-missing",
            "no rp2040 in its boot ROM answers: No accessible RP-series devices in BOOTSEL mode were found.",
        ),
        (
            "load",
            "ERROR: Communication with RP2040 device failed\n",
            "probe-lost",
            "the connection was lost: ERROR: Communication with RP2040 device failed",
        ),
        (
            "load",
            "ERROR: Verify failed\n",
            "flash-verify-failed",
            "the rp2040 does not hold what was written: ERROR: Verify failed",
        ),
        (
            "load",
            "ERROR: The device returned an error: permission failure\n",
            "chip-locked",
            "the rp2040 is locked against reading and writing",
        ),
        (
            "load",
            "ERROR: File does not fit\n",
            "flash-failed",
            "the rp2040 could not be written: ERROR: File does not fit",
        ),
    ],
)
def test_what_it_refuses(picotool, step, said, code, what):
    picotool.when(step, says=said, code=249)
    error = failure()
    assert (error.code, error.what) == (code, what)
