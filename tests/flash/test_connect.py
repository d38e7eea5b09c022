from __future__ import annotations

import msgspec
import pytest

from edgeprune.board import Board, board_names, load_board
from edgeprune.chip import load_chip
from edgeprune.errors import EdgepruneError
from edgeprune.flash import connect
from edgeprune.flash.connect import flasher_for
from edgeprune.flash.flasher import Flashed
from edgeprune.flash.image import image_of

PICO = load_board("raspberry-pi-pico")
CHIP = load_chip("rp2040")
IMAGE = image_of([(0x10000000, b"x")])


class Says:
    """A flasher that fails with `code`, or has written."""

    def __init__(self, code=""):
        self.code = code

    def flash(self, image, chip, progress=None):
        if self.code:
            raise EdgepruneError(self.code, f"what {self.code}", where=f"where {self.code}", hint=f"hint {self.code}")
        return Flashed("it", image.size, "hashed")


def flash(monkeypatch, **said):
    monkeypatch.setattr(connect, "_flasher", lambda name, board: Says(said[name.replace("-", "_")]))
    names = tuple(name.replace("_", "-") for name in said)
    return flasher_for(msgspec.structs.replace(PICO, flashers=names)).flash(IMAGE, CHIP)


def test_every_board_has_flashers_that_exist():
    boards = [load_board(name) for name in board_names()]
    for board in boards:
        if board.flashers:
            assert flasher_for(board) is not None
    kinds = ("pyocd", "openocd", "esptool", "picotool", "uf2", "dfu-util", "stm32loader")
    made = {type(connect._flasher(kind, PICO)).__name__ for kind in kinds}
    assert len(made) == len(kinds)


def test_no_flasher():
    with pytest.raises(EdgepruneError) as caught:
        flasher_for(Board(name="x", target="cortex-m4", transport="probe", chip="rp2040"))
    assert str(caught.value) == (
        "board x names no flasher [flasher-missing]\n  where: --board\n"
        '  hint:  name one in its file, such as flashers = ["pyocd"]'
    )


def test_the_next_where_one_reaches_nothing(monkeypatch):
    assert flash(monkeypatch, pyocd="flasher-missing", uf2="probe-missing", openocd="").identity == "it"


@pytest.mark.parametrize("code", ["chip-mismatch", "chip-locked", "probe-lost", "flash-failed", "board-ambiguous"])
def test_no_other_where_one_has_reached_something(monkeypatch, code):
    with pytest.raises(EdgepruneError) as caught:
        flash(monkeypatch, pyocd=code, uf2="")
    assert caught.value.code == code


def test_nothing_reaches_it(monkeypatch):
    with pytest.raises(EdgepruneError) as caught:
        flash(monkeypatch, pyocd="flasher-missing", uf2="probe-missing")
    assert str(caught.value) == (
        "nothing reaches board raspberry-pi-pico: pyocd: what flasher-missing; uf2: what probe-missing "
        "[probe-missing]\n  where: --board\n  hint:  hint flasher-missing; or hint probe-missing"
    )
    with pytest.raises(EdgepruneError) as caught:
        flash(monkeypatch, pyocd="flasher-missing")
    assert caught.value.what == "what flasher-missing"
