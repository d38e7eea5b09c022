from __future__ import annotations

import pytest
from flash_chips import chip
from stand_in import StandIn

from edgeprune.chip import load_chip
from edgeprune.errors import EdgepruneError
from edgeprune.flash.dfu import DfuFlasher
from edgeprune.flash.image import image_of

F446 = load_chip("stm32f446re")
FIRST, SECOND = b"vectors" * 100, b"data" * 5
IMAGE = image_of([(0x08000000, FIRST), (0x08060000, SECOND)])
LINE = (
    'Found DFU: [0483:df11] ver=2200, devnum=31, cfg=1, intf=0, path="2-1", alt={alt}, name="@{name}", '
    'serial="{serial}"\n'
)
LAYOUT = "Internal Flash  /0x08000000/04*016Kg,01*064Kg,03*128Kg"


def listed(layout=LAYOUT, serial="336032683536"):
    others = "".join(
        LINE.format(alt=alt, name=name, serial=serial)
        for alt, name in ((3, "Device Feature/0xFFFF0000/01*004 e"), (1, "Option Bytes  /0x1FFFC000/01*016 e"))
    )
    return "dfu-util 0.11\n\n" + others + LINE.format(alt=0, name=layout, serial=serial)


@pytest.fixture
def dfu(tmp_path, monkeypatch):
    program = StandIn("dfu-util", tmp_path, monkeypatch)
    program.when("-l", says=listed())
    program.when(
        "-D", says="Erase done.\nDownload\t[=====    ]  50%   350 bytes\rDownload done.\nFile downloaded successfully\n"
    )
    program.when("-U", "0x08000000", says="Upload done.\n", writes={"-U": FIRST})
    program.when("-U", "0x08060000", says="Upload done.\n", writes={"-U": SECOND})
    program.when("--version", says="dfu-util 0.11\n")
    return program


def failure(flasher=None, of=F446):
    with pytest.raises(EdgepruneError) as caught:
        (flasher or DfuFlasher()).flash(IMAGE, of)
    return caught.value


def test_written_and_read_back(dfu):
    told = []
    done = DfuFlasher().flash(IMAGE, F446, lambda *step: told.append(step))
    assert done.identity == "one with 512 KB of flash at 0x08000000"
    assert (done.size, done.verified) == (720, "read-back")
    start = ["-d", "0483:df11", "-a", "0", "-S", "336032683536", "-s"]
    places = [call[call.index("-s") + 1] for call in dfu.calls[2:]]
    assert all(call[:7] == start for call in dfu.calls[2:])
    assert places == ["0x08000000", "0x08060000", "0x08060000:20", "0x08000000:700:leave"]
    assert told == [("flash", 350, 720, ""), ("flash", 710, 720, ""), ("flash", 720, 720, "")]


def test_not_installed(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert str(failure()) == (
        "dfu-util is not installed [flasher-missing]\n  where: --board\n  hint:  apt install dfu-util"
    )


def test_no_chip(dfu):
    dfu.when("-l", says="dfu-util 0.11\n")
    assert str(failure()) == (
        "no stm32f446re in its bootloader is plugged in [probe-missing]\n  where: USB\n"
        "  hint:  set BOOT0 (a jumper or a button), press RESET, and see that USB reaches the chip itself"
    )
    dfu.when("-l", says="dfu-util: Cannot open DFU device 0483:df11 found on devnum 5 (LIBUSB_ERROR_ACCESS)\n")
    assert failure().what == "a stm32f446re in its bootloader cannot be opened"
    assert failure(DfuFlasher("OTHER")).code == "probe-missing"


def test_several_chips(dfu):
    dfu.when("-l", says=listed() + listed(serial="SECOND"))
    error = failure()
    assert error.code == "board-ambiguous" and "2 chips are in their bootloader: " in error.what
    assert DfuFlasher("SECOND").flash(IMAGE, F446).size == 720
    assert dfu.calls[-1][4:6] == ["-S", "SECOND"]


@pytest.mark.parametrize(
    "layout", ["Internal Flash  /0x08000000/04*016Kg,01*064Kg,07*128Kg", "Internal Flash /0x08010000/512*001Kg"]
)
def test_another_chip_is_not_erased(dfu, layout):
    dfu.when("-l", says=listed(layout))
    error = failure()
    assert error.code == "chip-mismatch"
    assert error.what.endswith("the firmware is for stm32f446re (512 KB of flash at 0x08000000); nothing was erased")
    assert not any("-D" in call for call in dfu.calls)


@pytest.mark.parametrize("layout", ["Internal Flash /nonsense", "Internal Flash /0x08000000000/1*1Kg", ""])
def test_layouts_that_say_nothing(dfu, layout):
    dfu.when("-l", says=listed(layout))
    assert failure().code == "probe-missing"


def test_a_serial_number_is_no_option(dfu):
    dfu.when("-l", says=listed(serial="$(x) -D"))
    assert failure().code == "probe-missing"


@pytest.mark.parametrize(
    ("step", "said", "code", "what"),
    [
        (
            "-D",
            "dfu-util: Error during download (LIBUSB_ERROR_NO_DEVICE)\n",
            "probe-lost",
            "the connection was lost: dfu-util: Error during download (LIBUSB_ERROR_NO_DEVICE)",
        ),
        (
            "-D",
            "dfu-util: Page at 0x08000000 is not writeable\n",
            "flash-failed",
            "the stm32f446re could not be written: dfu-util: Page at 0x08000000 is not writeable",
        ),
        (
            "-D",
            "state(10) = dfuERROR, status(11) = errVENDOR\n",
            "chip-locked",
            "the stm32f446re is locked against reading and writing",
        ),
        (
            "-U",
            "dfu-util: No DFU capable USB device available\n",
            "probe-lost",
            "the connection was lost: dfu-util: No DFU capable USB device available",
        ),
    ],
)
def test_what_it_refuses(dfu, step, said, code, what):
    dfu.when(step, says=said, code=74)
    error = failure()
    assert (error.code, error.what) == (code, what)


def test_other_bytes_come_back(dfu):
    dfu.when("-U", "0x08000000", writes={"-U": FIRST[:100] + b"?" + FIRST[101:]})
    error = failure()
    assert (error.code, error.what) == (
        "flash-verify-failed",
        "the stm32f446re does not hold what was written: another byte stands at 0x08000064",
    )


def test_a_chip_without_dfu():
    error = failure(of=chip("odd", flash=(0x08000000, 1 << 20), dfu="-S x"))
    assert (error.code, error.what) == ("flasher-missing", "a DFU bootloader in odd is not installed")
