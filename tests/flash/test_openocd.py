from __future__ import annotations

from itertools import pairwise

import pytest
from flash_chips import chip
from stand_in import StandIn

from edgeprune.chip import load_chip
from edgeprune.errors import EdgepruneError
from edgeprune.flash.image import image_of
from edgeprune.flash.openocd import OpenocdFlasher

L4 = load_chip("stm32l4r5zi")
IMAGE = image_of([(0x08000000, b"vectors" * 100), (0x08100000, b"data" * 5)])
HEAD = "Open On-Chip Debugger 0.12.0\nInfo : clock speed 500 kHz\n"
IDENTIFIED = (
    HEAD + "Info : STLINK V2J37M27 (API v2) VID:PID 0483:374B\n0xe0042000: 20016470 \nshutdown command invoked\n"
)
VERIFIED = "wrote 4096 bytes from file 0.bin in 0.3s\nverified 700 bytes in 0.01s\nverified 20 bytes in 0.01s\n"


@pytest.fixture
def openocd(tmp_path, monkeypatch):
    program = StandIn("openocd", tmp_path, monkeypatch)
    program.when("mdw", says=IDENTIFIED)
    program.when("write_image", says=HEAD + VERIFIED)
    program.when("--version", says="Open On-Chip Debugger 0.12.0\n")
    return program


def failure(flasher=None, of=L4):
    with pytest.raises(EdgepruneError) as caught:
        (flasher or OpenocdFlasher()).flash(IMAGE, of)
    return caught.value


def test_written_and_verified(openocd):
    told = []
    done = OpenocdFlasher("066AFF").flash(IMAGE, L4, lambda *step: told.append(step))
    assert (done.identity, done.size, done.verified) == ("DBGMCU_IDCODE 0x470", 720, "hashed")
    version, identify, write = openocd.calls
    start = [
        "-f",
        "interface/stlink.cfg",
        "-f",
        "target/stm32l4x.cfg",
        "-c",
        "adapter serial 066AFF",
        "-c",
        "gdb_port disabled; tcl_port disabled; telnet_port disabled",
        "-c",
    ]
    assert version == ["--version"] and identify == [*start, "init; mdw 0xe0042000 1; shutdown"]
    assert write == [
        *start,
        "init; reset halt; flash write_image erase 0.bin 0x8000000 bin; flash write_image erase 1.bin 0x8100000 bin; "
        "verify_image 0.bin 0x8000000 bin; verify_image 1.bin 0x8100000 bin; reset run; shutdown",
    ]
    assert told == [("flash", 0, 720, ""), ("flash", 720, 720, "")]


def test_not_installed(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert str(failure()) == (
        "openocd is not installed [flasher-missing]\n  where: --board\n  hint:  apt install openocd"
    )


@pytest.mark.parametrize(
    ("said", "named"),
    [
        ("Open On-Chip Debugger 0.10.0\n", "openocd 0.11 or later (this is 0.10)"),
        ("Segmentation fault\n", "openocd (it does not say its version: Segmentation fault)"),
    ],
)
def test_an_old_one(openocd, said, named):
    openocd.when("--version", says=said)
    error = failure()
    assert (error.code, error.what) == ("flasher-missing", f"{named} is not installed")


def test_another_chip_is_not_erased(openocd):
    openocd.when("mdw", says=IDENTIFIED.replace("20016470", "10076413"))
    assert str(failure()) == (
        "the chip is one with DBGMCU_IDCODE 0x413, the firmware is for stm32l4r5zi (DBGMCU_IDCODE 0x470); nothing was "
        "erased [chip-mismatch]\n  where: probe\n"
        "  hint:  check which board is plugged in, or name the board that it is"
    )
    assert not any("write_image" in word for call in openocd.calls for word in call)


def test_segments_that_could_share_a_sector_are_one_file(openocd):
    openocd.when("write_image", says="verified 8212 bytes in 0.01s\n")
    close = image_of([(0x08000000, b"vectors" * 100), (0x08002000, b"data" * 5)])
    assert OpenocdFlasher().flash(close, L4).size == 720
    assert openocd.calls[-1][-1].count("write_image") == 1


@pytest.mark.parametrize(
    ("step", "said", "code", "what"),
    [
        ("mdw", "Error: open failed\n", "probe-missing", "no stm32l4r5zi answers: Error: open failed"),
        (
            "mdw",
            "Error: init mode failed (unable to connect to the target)\n",
            "probe-missing",
            "no stm32l4r5zi answers: Error: init mode failed (unable to connect to the target)",
        ),
        (
            "mdw",
            "embedded:startup.tcl:60: Error: Can't find target/stm32l4x.cfg\n",
            "flasher-missing",
            "OpenOCD's target/stm32l4x.cfg is not installed",
        ),
        (
            "write_image",
            "Error: stm32x device protected\n",
            "chip-locked",
            "the stm32l4r5zi is locked against reading and writing",
        ),
        (
            "write_image",
            "Error: libusb_bulk_write LIBUSB_ERROR_NO_DEVICE\n",
            "probe-lost",
            "the connection was lost: Error: libusb_bulk_write LIBUSB_ERROR_NO_DEVICE",
        ),
        (
            "write_image",
            "diff 0 address 0x08000000. Was 0x00 instead of 0x76\nError: ** contents differ **\n",
            "flash-verify-failed",
            "the stm32l4r5zi does not hold what was written: Error: ** contents differ **",
        ),
        (
            "write_image",
            "Error: flash write algorithm aborted\n",
            "flash-failed",
            "the stm32l4r5zi could not be written: Error: flash write algorithm aborted",
        ),
        ("write_image", "", "flash-failed", "the stm32l4r5zi could not be written: Open On-Chip Debugger 0.12.0"),
    ],
)
def test_what_it_refuses(openocd, step, said, code, what):
    openocd.when(step, says="Open On-Chip Debugger 0.12.0\n" + said, code=1)
    error = failure()
    assert (error.code, error.what) == (code, what)


def test_its_exit_code_is_not_believed(openocd):
    openocd.when("write_image", says=HEAD + "verified 700 bytes in 0.01s\n")
    error = failure()
    assert (error.code, error.what) == (
        "flash-verify-failed",
        "the stm32l4r5zi does not hold what was written: OpenOCD verified 700 of 720 bytes",
    )


def test_nothing_of_the_users_becomes_a_command(openocd):
    assert failure(OpenocdFlasher("x; exec rm")).what == "'x; exec rm' is no serial number of a probe"
    assert openocd.calls == []
    for script in ("", "/etc/passwd", "target/../x.cfg; exec", "target/a b.cfg"):
        error = failure(of=chip("odd", flash=(0x08000000, 2 << 20), openocd=script))
        assert (error.code, error.what) == ("flasher-missing", "a script of OpenOCD's for odd is not installed")


@pytest.mark.parametrize(
    ("script", "files"),
    [
        ("target/nrf52.cfg", ["interface/jlink.cfg", "target/nrf52.cfg"]),
        ("target/rp2040.cfg", ["interface/cmsis-dap.cfg", "target/rp2040.cfg"]),
        ("board/esp32c3-builtin.cfg", ["board/esp32c3-builtin.cfg"]),
    ],
)
def test_the_probe_of_each_maker(openocd, script, files):
    openocd.when("write_image", says=VERIFIED)
    done = OpenocdFlasher().flash(IMAGE, chip("some", flash=(0x08000000, 2 << 20), openocd=script))
    call = openocd.calls[-1]
    assert [value for option, value in pairwise(call) if option == "-f"] == files
    assert done.identity == "not asked"
