from __future__ import annotations

import struct
import zlib

import msgspec
import numpy as np
import pytest
import unicorn
from tiny_bare import SOURCE_WITHOUT_FLOATS, STEPS, core, header, link, tiny_firmware, tiny_inputs, tiny_outputs
from unicorn import arm_const as arm

from edgeprune.chip import load_chip
from edgeprune.deploy.mailbox_runner import MailboxRunner
from edgeprune.deploy.unicorn_board import UnicornBoard
from edgeprune.elf import read_elf
from edgeprune.errors import EdgepruneError
from edgeprune.firmware.boot import checksum
from edgeprune.firmware.link import link_firmware
from edgeprune.firmware.room import check_arena, check_room
from edgeprune.flash.image import image_of_elf
from edgeprune.flash.intel_hex import decode as decode_hex
from edgeprune.flash.intel_hex import encode as encode_hex
from edgeprune.flash.uf2 import decode as decode_uf2
from edgeprune.flash.uf2 import encode as encode_uf2


def refused(call):
    with pytest.raises(EdgepruneError) as caught:
        call()
    return caught.value


def smaller(chip, kind, size):
    regions = tuple(
        msgspec.structs.replace(region, bytes=size) if region.kind == kind else region for region in chip.regions
    )
    return msgspec.structs.replace(chip, regions=regions)


def test_the_model_says_what_it_is():
    model = tiny_firmware().model
    assert (model.name, model.target, model.arena_bytes, model.steps) == ("tiny", "cortex-m4", 64, STEPS)
    first, _ = model.inputs
    assert (first.name, first.dtype, first.shape, first.size) == ("first", "int8", (1, 8), 8)
    assert (first.scale, first.zero, first.offset) == (0.5, 3, 0)
    assert [(tensor.name, tensor.dtype, tensor.scale) for tensor in model.outputs] == [
        *(("scaled", "int8", 0.125), ("sum", "float32", 0)),
    ]


def test_everything_stands_in_its_memory():
    firmware = tiny_firmware()
    elf, chip = read_elf(firmware.elf), firmware.chip
    assert elf.symbol("edge_vectors") == chip.flash.start
    stack, start = elf.words(chip.flash.start, 2)
    assert start == elf.symbol("edge_start") | 1 and elf.entry == start
    assert firmware.mailbox_address == chip.ram.start
    assert chip.ram.start < stack <= firmware.arena_address and stack % 8 == 0
    assert firmware.arena_address % 16 == 0
    assert firmware.arena_address + 64 - chip.ram.start == firmware.ram_bytes
    image = image_of_elf(firmware.elf)
    assert (image.start, image.end) == (chip.flash.start, chip.flash.start + firmware.flash_bytes)
    assert firmware.flash_bytes < 2000


def test_the_stack_stands_next_to_the_core_where_there_is_such_memory():
    firmware = tiny_firmware("emulated-m7")
    (stack,) = read_elf(firmware.elf).words(firmware.chip.flash.start, 1)
    assert stack == 0x20000000 + 4096 and firmware.arena_address >> 24 == 0x24


def test_the_same_input_gives_the_same_bytes():
    assert link(load_chip("emulated-m4")).elf == tiny_firmware().elf


def test_a_bootloader_keeps_its_place():
    firmware = link(load_chip("nrf52840"), bootloader_bytes=0x10000)
    assert image_of_elf(firmware.elf).start == 0x10000
    assert firmware.flash_bytes < 2000


@pytest.mark.parametrize("bootloader", [0, 256])
def test_too_little_flash_is_refused_with_the_numbers(bootloader):
    chip = smaller(load_chip("emulated-m4"), "flash", 1024)
    need = tiny_firmware().flash_bytes
    elf = read_elf(tiny_firmware().elf)
    if bootloader:
        elf = read_elf(link(load_chip("emulated-m4"), bootloader_bytes=bootloader).elf)
    caught = refused(lambda: check_room(chip, elf, "tiny", bootloader, 4096))
    told = f"{1024 - bootloader:,} beside its bootloader" if bootloader else "1,024"
    over = need - 1024 + bootloader
    what = f"the firmware of tiny takes {need:,} bytes of flash, and chip emulated-m4 has {told}: {over:,} too many"
    assert (caught.code, caught.what, caught.where) == ("firmware-flash-full", what, "chip emulated-m4")
    wanted = f"prune more (--sparsity, --size {1024 - bootloader}); it would fit stm32f446re or nrf52840 or stm32l4r5zi"
    assert caught.hint == wanted


def test_too_little_memory_is_refused_before_anything_is_built():
    chip = load_chip("nrf52840")
    caught = refused(lambda: link_firmware(b"", "", chip, core("cortex-m4"), arena_bytes=300_000, steps=["a"]))
    what = (
        "the firmware takes 304,164 bytes of memory, 300,000 of them for the arena, "
        "and chip nrf52840 has 262,144 in one piece"
    )
    assert (caught.code, caught.what) == ("firmware-ram-full", what)
    assert caught.hint == "42,020 must go: compile without --dense and with --ram 257980; it would fit stm32l4r5zi"
    huge = refused(lambda: check_arena(chip, 10_000_000, 4096))
    assert huge.hint.endswith("no cortex-m4 known here has as much")
    assert "all of them for the stack" in refused(lambda: check_arena(load_chip("emulated-m7"), 64, 1 << 20)).what


def test_memory_that_the_model_takes_beside_the_arena_counts():
    chip = smaller(load_chip("emulated-m4"), "ram", 4096 + 68 + 100)
    caught = refused(lambda: check_room(chip, read_elf(tiny_firmware().elf), "tiny", 0, 4096))
    assert caught.what.startswith("the firmware takes 4,272 bytes of memory, 64 of them for the arena")


def test_another_core_is_refused():
    caught = refused(lambda: link_firmware(b"", "", load_chip("rp2040"), core("cortex-m4"), arena_bytes=1, steps=["a"]))
    assert (caught.code, caught.hint) == ("firmware-target", "compile it for this chip: --target cortex-m0plus")
    assert caught.what == "the package was compiled for cortex-m4, and chip rp2040 is a cortex-m0plus"


def test_a_chip_without_a_start_of_ours_is_refused():
    chip = load_chip("imxrt1062")
    caught = refused(lambda: link_firmware(b"", "", chip, core("cortex-m7"), arena_bytes=1, steps=["a"]))
    assert (caught.code, caught.what) == ("firmware-unsupported", "no firmware can be made for chip imxrt1062 yet")
    assert "C library" in caught.hint


def test_a_library_that_is_not_the_packages_is_refused():
    caught = refused(lambda: link(load_chip("emulated-m4"), steps=["clear", "add"]))
    what = "the library has 3 steps, and the package tells of 2"
    assert (caught.code, caught.what, caught.hint) == ("firmware-facts", what, "compile the package again")
    caught = refused(lambda: link(load_chip("emulated-m4"), arena_bytes=32))
    what = "the library wants an arena of 64 bytes, and the package tells of 32"
    assert (caught.code, caught.what, caught.hint) == ("firmware-facts", what, "compile the package again")


def test_what_is_no_library_is_refused():
    chip = load_chip("emulated-m4")
    made = lambda: link_firmware(b"!<arch>\n", header(), chip, core("cortex-m4"), arena_bytes=64, steps=["a"] * 3)  # noqa: E731
    caught = refused(made)
    assert caught.code == "link-failed" and "edge_model" in caught.what


def test_an_elf_that_is_damaged_is_refused():
    for content in (b"", b"\x7fELF", tiny_firmware().elf[:60], b"\x7fELF\x02" + tiny_firmware().elf[5:]):
        caught = refused(lambda content=content: read_elf(content))
        assert caught.code == "elf-invalid" and caught.what.startswith("the firmware cannot be read: ")
    elf = read_elf(tiny_firmware().elf)
    assert refused(lambda: elf.symbol("absent")).what == "the firmware cannot be read: it has no symbol absent"
    assert "holds no 4 bytes at 0x10" in refused(lambda: elf.read(16, 4)).what
    assert "holds no text at 0x10" in refused(lambda: elf.text(16)).what


def test_images_hold_what_the_elf_loads():
    firmware = tiny_firmware()
    image = image_of_elf(firmware.elf)
    data = next(segment for segment in read_elf(firmware.elf).segments if segment.load != segment.address)
    assert image.binary()[data.load - image.start :][: len(data.data)] == data.data == struct.pack("<i", 1000)
    assert decode_hex(encode_hex(image)).binary() == image.binary()
    back, family = decode_uf2(encode_uf2(image, 0xADA52840))
    assert back.binary()[: len(image.binary())] == image.binary() and family == 0xADA52840


def reversed_bits(value, width):
    return int(f"{value:0{width}b}"[::-1], 2)


def test_the_checksum_is_that_of_the_datasheet():
    for content in (b"", b"123456789", bytes(range(252))):
        mirrored = zlib.crc32(bytes(reversed_bits(byte, 8) for byte in content)) ^ 0xFFFFFFFF
        assert checksum(content) == reversed_bits(mirrored, 32)
    assert checksum(b"123456789") == 0x0376E6E7


def test_the_second_stage_of_the_rp2040_starts_the_program():
    """The ROM's work: 256 bytes copied into RAM, their checksum compared, run there."""
    firmware = tiny_firmware("rp2040", SOURCE_WITHOUT_FLOATS)
    image = image_of_elf(firmware.elf).binary()
    assert struct.unpack_from("<I", image, 252) == (checksum(image[:252]),)
    machine = unicorn.Uc(unicorn.UC_ARCH_ARM, unicorn.UC_MODE_THUMB | unicorn.UC_MODE_MCLASS)
    machine.ctl_set_cpu_model(arm.UC_CPU_ARM_CORTEX_M0)
    for start, size in ((0x10000000, 0x10000), (0x18000000, 0x1000), (0x20041000, 0x1000)):
        machine.mem_map(start, size)
    machine.mem_write(0x10000000, image)
    machine.mem_write(0x20041F00, image[:256])
    stack, start = struct.unpack_from("<2I", image, 256)
    machine.emu_start(0x20041F01, start & ~1, count=100)
    assert machine.reg_read(arm.UC_ARM_REG_PC) == start & ~1 == read_elf(firmware.elf).symbol("edge_start")
    assert machine.reg_read(arm.UC_ARM_REG_SP) == stack
    ports = {place: struct.unpack("<I", machine.mem_read(0x18000000 + place, 4))[0] for place in (0, 4, 8, 0x14, 0xF4)}
    assert ports == {0: 0x001F0300, 4: 0, 8: 1, 0x14: 4, 0xF4: 0x03000218}


def test_the_block_of_the_rp2350_is_where_its_rom_looks():
    image = image_of_elf(tiny_firmware("rp2350").elf).binary()
    place = image.index(struct.pack("<I", 0xFFFFDED3))
    assert place % 4 == 0 and place < 4096
    assert struct.unpack_from("<5I", image, place)[1:] == (0x10210142, 0x1FF, 0, 0xAB123579)


def test_the_esp32_c3_starts_in_place_and_reads_its_constants_where_they_are_seen():
    """Direct boot: two words of magic, then code; data of the flash is read 0x06000000 below its code."""
    firmware = tiny_firmware("esp32-c3", SOURCE_WITHOUT_FLOATS)
    elf, image = read_elf(firmware.elf), image_of_elf(firmware.elf)
    assert struct.unpack_from("<2I", image.binary()) == (0xAEDB041D, 0xAEDB041D)
    assert (elf.entry, image.start) == (0x42000008, 0x42000000)
    assert image.end == image.start + firmware.flash_bytes
    constants = next(segment for segment in elf.segments if segment.address >> 24 == 0x3C)
    assert constants.load - constants.address == 0x06000000
    assert elf.symbol("edge_model") >> 24 == 0x3C and elf.symbol("edge_trap") % 256 == 0
    data = next(segment for segment in elf.segments if segment.address >> 16 == 0x3FC8)
    assert elf.symbol("edge_data_load") == data.load - 0x06000000


def test_the_esp32_c3_runs_with_its_watchdogs_stopped():
    """Under unicorn, with its ports as memory, and mscratch and mcycle in place of its own cycle counter."""
    firmware = tiny_firmware("esp32-c3", SOURCE_WITHOUT_FLOATS)
    board = UnicornBoard(firmware.elf, firmware.chip)
    start, size = read_elf(firmware.elf).sections[".text"]
    own = []
    for place in range(start, start + size - 2, 2):
        (word,) = struct.unpack("<I", board.read(place, 4))
        if word & 0x7F == 0x73 and 0x7E0 <= word >> 20 <= 0x7E2:
            own.append(word >> 20)
            board.write(place, struct.pack("<I", word & 0xFFFFF | (0xB00 if own[-1] == 0x7E2 else 0x340) << 20))
    assert set(own) == {0x7E0, 0x7E1, 0x7E2}
    board._machine.mem_map(0x60000000, 0x100000)
    runner = MailboxRunner(board, firmware.mailbox_address, firmware.model)
    inputs = tiny_inputs(2)
    np.testing.assert_array_equal(runner.run_rows(inputs)["sum"] * 0.5, tiny_outputs(inputs)["sum"])
    assert struct.unpack("<I", board.read(0x600080AC, 4)) == (1 << 31,)


@pytest.mark.parametrize("chip", ["mps2-an386", "esp32-c3"])
def test_a_serial_line_is_linked_where_it_is_asked_for(chip):
    plain, asked = (link(load_chip(chip), SOURCE_WITHOUT_FLOATS, uart=uart) for uart in (False, True))
    assert asked.flash_bytes > plain.flash_bytes + 500
    assert "edge_uart_get" in read_elf(asked.elf).symbols and "edge_uart_get" not in read_elf(plain.elf).symbols
