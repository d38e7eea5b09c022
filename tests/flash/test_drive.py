from __future__ import annotations

import errno
import io
import os
import shutil
import threading
import time

import pytest
from flash_chips import chip

from edgeprune.errors import EdgepruneError
from edgeprune.flash.drive import DriveFlasher, find_drives
from edgeprune.flash.image import image_of
from edgeprune.flash.uf2 import decode

IMAGE = image_of([(0x10000000, bytes(range(256)) * 300), (0x10020000, b"model" * 1000)])
PICO = chip(uf2_family=0xE48BFF56)


def drive(folder, board_id="RPI-RP2", model="Raspberry Pi RP2"):
    folder.mkdir(exist_ok=True)
    (folder / "INFO_UF2.TXT").write_text(f"UF2 Bootloader v2.0\r\nModel: {model}\r\nBoard-ID: {board_id}\r\n")
    return folder


class Board(threading.Thread):
    """Takes the file as soon as it is whole, and its drive is gone."""

    def __init__(self, folder):
        super().__init__(daemon=True)
        self.folder, self.taken = folder, b""
        self.start()

    def run(self):
        end = time.monotonic() + 20
        while time.monotonic() < end:
            for path in self.folder.glob("*.UF2"):
                content = path.read_bytes()
                try:
                    decode(content)
                except EdgepruneError:
                    continue
                self.taken = content
                shutil.rmtree(self.folder)
                return
            time.sleep(0.01)


def failure(flasher, of=PICO):
    with pytest.raises(EdgepruneError) as caught:
        flasher.flash(IMAGE, of)
    return caught.value


def test_written_and_gone(tmp_path):
    (tmp_path / "usb-stick").mkdir()
    other = drive(tmp_path / "other", "RP2350", "Raspberry Pi RP2350")
    board = Board(drive(tmp_path / "pico"))
    told = []
    folders = [tmp_path / "usb-stick", tmp_path / "nothing", other, tmp_path / "pico"]
    done = DriveFlasher(folders).flash(IMAGE, PICO, lambda *step: told.append(step))
    board.join(10)
    again, family = decode(board.taken)
    assert family == 0xE48BFF56 and (done.identity, done.size, done.verified) == ("RPI-RP2", IMAGE.size, "restarted")
    for segment in IMAGE.segments:
        assert again.binary()[segment.address - again.start :][: len(segment.data)] == segment.data
    assert told[-1][:3] == ("flash", len(board.taken), len(board.taken)) and len(told) > 2
    assert sorted(os.listdir(other)) == ["INFO_UF2.TXT"]


def test_no_drive(tmp_path):
    assert str(failure(DriveFlasher([tmp_path]))) == (
        "no drive of a rp2040 is mounted [probe-missing]\n  where: USB\n"
        "  hint:  hold its boot button while you plug it in, and see that its drive is mounted"
    )


def test_the_drive_of_another_board(tmp_path):
    other = drive(tmp_path / "other", "RP2350", "Raspberry Pi RP2350")
    assert str(failure(DriveFlasher([other]))) == (
        "the chip is Raspberry Pi RP2350 (RP2350), the firmware is for rp2040; nothing was erased [chip-mismatch]\n"
        f"  where: {other}\n  hint:  check which board is plugged in, or name the board that it is"
    )
    assert os.listdir(other) == ["INFO_UF2.TXT"]


def test_a_chip_without_a_family_fits_no_drive(tmp_path):
    assert failure(DriveFlasher([drive(tmp_path / "x", "SOMETHING")]), chip()).code == "chip-mismatch"


def test_two_boards(tmp_path):
    error = failure(DriveFlasher([drive(tmp_path / "a"), drive(tmp_path / "b")]))
    assert str(error) == (
        f"2 boards show a drive: {tmp_path / 'a'}, {tmp_path / 'b'} [board-ambiguous]\n  where: --board\n"
        "  hint:  leave one of them plugged in"
    )


class Breaking(io.FileIO):
    """A file whose drive breaks once `after` bytes were written, with `number` as the error."""

    def __init__(self, path, after, number, pulled=False):
        super().__init__(path, "w")
        self.path, self.left, self.number, self.pulled = path, after, number, pulled

    def write(self, data):
        self.left -= len(data)
        if self.left < 0:
            if self.pulled:
                shutil.rmtree(self.path.parent)
            raise OSError(self.number, os.strerror(self.number))
        return super().write(data)


def breaking(after, number, pulled=False):
    return lambda path: Breaking(path, after, number, pulled)


def test_a_full_drive(tmp_path):
    folder = drive(tmp_path / "pico")
    assert str(failure(DriveFlasher([folder], create=breaking(40000, errno.ENOSPC)))) == (
        f"the drive of the rp2040 is full [drive-full]\n  where: {folder}\n"
        "  hint:  remove what was put there, or unplug the board and plug it in again"
    )


def test_a_drive_that_cannot_be_written(tmp_path):
    error = failure(DriveFlasher([drive(tmp_path / "pico")], create=breaking(0, errno.EROFS)))
    assert error.what == "the rp2040 could not be written: its drive is read-only (Read-only file system)"


@pytest.mark.parametrize("after", [0, 32768, 100000])
def test_a_drive_that_vanishes_midway_and_a_retry(tmp_path, after):
    folder = drive(tmp_path / "pico")
    error = failure(DriveFlasher([folder], create=breaking(after, errno.EIO, pulled=True)))
    assert str(error) == (
        "the connection was lost: the drive went away before it had the whole file (Input/output error) "
        f"[probe-lost]\n  where: {folder}\n"
        "  hint:  plug the board in again and repeat; a half-written chip is written whole then"
    )
    Board(drive(folder))
    assert DriveFlasher([folder]).flash(IMAGE, PICO).verified == "restarted"


def test_a_drive_that_stays(tmp_path):
    folder = drive(tmp_path / "pico")
    error = failure(DriveFlasher([folder], seconds=0.1))
    assert (error.code, error.what) == (
        "flash-failed",
        f"the rp2040 could not be written: its drive {folder} is still there 0 s after the whole file was written",
    )


def test_no_link_is_followed(tmp_path):
    folder, outside = drive(tmp_path / "pico"), tmp_path / "outside"
    outside.write_text("precious")
    (folder / "EDGE.UF2").symlink_to(outside)
    failure(DriveFlasher([folder], seconds=0.1))
    assert outside.read_text() == "precious"


def test_what_a_drive_says_is_bounded(tmp_path):
    folder = drive(tmp_path / "pico", model="\x1b[31m" + "m" * 5000)
    (folder / "INFO_UF2.TXT").write_bytes(b"Board-ID: RPI-RP2\r\nModel: \x1b[31m" + b"m" * 100000)
    (found,) = find_drives([folder])
    assert found.board_id == "RPI-RP2" and len(found.model) == 200 and found.model.startswith("?[31m")
