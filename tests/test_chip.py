from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeprune.board import BARE, board_folder, board_names, load_board
from edgeprune.chip import Identity, Region, check_regions, checked_board, chip_folder, chip_names, load_chip, read_chip
from edgeprune.errors import EdgepruneError

GOOD = """
description = "one of ours"
target = "cortex-m4"
clock_mhz = 80
regions = [
  { name = "flash", start = 0x0800_0000, bytes = 0x1000, kind = "flash" },
  { name = "ram", start = 0x2000_0000, bytes = 0x800, kind = "ram" },
]
"""


@pytest.fixture(autouse=True)
def own(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    chip_folder().mkdir(parents=True)
    return chip_folder()


def refused(call):
    with pytest.raises(EdgepruneError) as caught:
        call()
    assert (caught.value.exit_code, bool(caught.value.hint)) == (2, True)
    return caught.value


def test_every_chip_that_comes_along_is_whole():
    assert len(chip_names()) >= 18
    for name in chip_names():
        chip = load_chip(name)
        assert (chip.name, bool(chip.description)) == (name, True)
        assert chip.flash.bytes >= 2**17 and chip.ram.bytes >= 2**16
        assert chip.identity is None or chip.identity.matches(chip.identity.value)


def test_every_bare_board_names_a_chip_of_its_target():
    boards = [load_board(name) for name in board_names()]
    bare = [board for board in boards if board.transport in BARE]
    cores = {"cortex-m0plus", "cortex-m3", "cortex-m4", "cortex-m7", "cortex-m33", "cortex-m55", "riscv32imc"}
    assert {board.target for board in bare} == cores and len(bare) >= 19
    for board in bare:
        assert load_chip(board.chip).target == board.target


def test_the_largest_memory_is_the_arenas():
    chip = load_chip("stm32h743zi")
    assert (chip.flash.name, chip.ram.name, chip.flash_bytes, chip.ram_bytes) == ("flash", "axi", 2 << 20, 640 << 10)


def test_identity_compares_masked_bits():
    identity = Identity("DBGMCU_IDCODE", 0xE0042000, 0xFFF, 0x470)
    assert identity.matches(0x10016470) and not identity.matches(0x10016471)


def test_a_new_chip_is_one_file(own):
    (own / "mine.toml").write_text(GOOD)
    assert load_chip("mine").description == "one of ours"
    assert "mine" in chip_names()


def test_unknown_chip_suggests_the_nearest():
    caught = refused(lambda: load_chip("stm32f446"))
    assert (caught.code, caught.what) == ("chip-unknown", "there is no chip 'stm32f446'")
    assert "stm32f446re" in caught.hint


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (("0x800,", "0,"), "region ram has 0 bytes"),
        (("0x2000_0000", "0x0800_0800"), "regions flash and ram overlap from 0x8000800 to 0x8001000"),
        (("0x2000_0000", "0xffff_fff0"), "region ram goes from 0xfffffff0 to 0x1000007f0"),
        (('"ram", start', '"flash", start'), "two regions have the same name"),
        (('kind = "ram"', 'kind = "flash"'), "a chip needs flash and memory for data"),
        (('kind = "ram"', 'kind = "rom"'), "Invalid enum value 'rom' - at `$.regions[1].kind`"),
        (("clock_mhz = 80", "clock_mhz = 0"), "0 MHz is no clock"),
        (("cortex-m4", "cortex-m44"), "'cortex-m44' is no target of microcontrollers"),
        (("cortex-m4", "x86-64-v3"), "'x86-64-v3' is no target of microcontrollers"),
        (("cortex-m4", "host"), "'host' is no target of microcontrollers"),
        (("clock_mhz", "speed"), "Object contains unknown field `speed`"),
    ],
)
def test_a_chip_that_cannot_be_is_refused(own, change, what):
    path = own / "mine.toml"
    path.write_text(GOOD.replace(*change))
    caught = refused(lambda: read_chip(path))
    assert (caught.code, caught.what, caught.where) == ("chip-invalid", what, str(path))


@pytest.mark.parametrize(
    ("facts", "what", "hint"),
    [
        (
            'like = "nucleo-l4r5zi"\nchip = "rp2040"',
            "board mine says target cortex-m4, and its chip rp2040 is a cortex-m0plus",
            'write target = "cortex-m0plus"',
        ),
        ('like = "nucleo-l4r5zi"\ntarget = "cortex-m5"', "there is no target 'cortex-m5'", "did you mean cortex-m"),
        ('like = "raspberry-pi-4"\ntarget = "raspberry"', "there is no target 'raspberry'", "raspberry-pi-4"),
        ('like = "nucleo-l4r5zi"\nchip = "stm32l4"', "there is no chip 'stm32l4'", "stm32l4r5zi"),
        (
            'like = "nucleo-l4r5zi"\nbootloader_bytes = 2097152',
            "a bootloader of 2,097,152 bytes leaves nothing of 2,097,152 bytes of flash",
            "correct bootloader_bytes",
        ),
    ],
)
def test_a_board_that_contradicts_its_chip_is_refused(own, facts, what, hint):
    board_folder().mkdir()
    (board_folder() / "mine.toml").write_text(facts)
    caught = refused(lambda: checked_board("mine"))
    assert (caught.what, caught.where) == (what, "board mine")
    assert hint in caught.hint


def test_every_board_that_comes_along_agrees_with_its_chip():
    for name in board_names():
        board, chip = checked_board(name)
        assert (board.name, chip is None) == (name, not board.chip)


def test_a_file_that_is_no_toml_is_refused(own):
    path = own / "mine.toml"
    path.write_text("name = ")
    assert refused(lambda: read_chip(path)).what.startswith("the chip's file cannot be read: ")


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(1, 9)), min_size=1, max_size=5))
def test_regions_overlap_exactly_where_they_share_an_address(spans):
    regions = [Region(f"r{index}", start, size, "ram") for index, (start, size) in enumerate(spans)]
    addresses = [address for region in regions for address in range(region.start, region.end)]
    if len(set(addresses)) == len(addresses):
        check_regions(regions, "here")
    else:
        assert "overlap" in refused(lambda: check_regions(regions, "here")).what
