from __future__ import annotations

import random
import struct
from itertools import pairwise

import pytest
from flash_chips import chip
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeprune.errors import EdgepruneError
from edgeprune.flash.flasher import require_fits
from edgeprune.flash.image import image_of, image_of_elf
from edgeprune.flash.uf2 import decode, encode

PIECES = st.dictionaries(st.integers(0, 40), st.binary(min_size=1, max_size=97), min_size=1, max_size=9)


def refused(code, work, *arguments):
    with pytest.raises(EdgepruneError) as caught:
        work(*arguments)
    assert caught.value.code == code
    return str(caught.value)


def bytes_of(image):
    return {s.address + i: b for s in image.segments for i, b in enumerate(s.data)}


@given(PIECES, st.integers(0, 1000))
def test_segments_are_ordered_and_joined(pieces, seed):
    given_ = [(place * 100, data) for place, data in pieces.items()]
    random.Random(seed).shuffle(given_)
    image = image_of(given_)
    assert bytes_of(image) == {address + i: b for address, data in given_ for i, b in enumerate(data)}
    assert all(low.end < high.address for low, high in pairwise(image.segments))
    whole = image.binary()
    assert len(whole) == image.end - image.start
    assert all(whole[address - image.start] == b for address, b in bytes_of(image).items())
    assert whole.count(0xFF) >= len(whole) - image.size


@given(PIECES, st.integers(1, 300))
def test_joined_segments_stand_apart(pieces, gap):
    image = image_of([(place * 100, data) for place, data in pieces.items()])
    joined = image.joined(gap)
    both = bytes_of(joined) | bytes_of(image)
    assert both == bytes_of(joined)
    assert {byte for address, byte in both.items() if address not in bytes_of(image)} <= {0xFF}
    assert all(low.end + gap <= high.address for low, high in pairwise(joined.segments))


@given(PIECES, st.sampled_from([8, 64, 256]))
def test_pages_are_whole(pieces, size):
    image = image_of([(place * 100, data) for place, data in pieces.items()])
    pages = dict(image.pages(size))
    assert {address // size * size for address in bytes_of(image)} == set(pages) and list(pages) == sorted(pages)
    found = {address + i: byte for address, page in pages.items() for i, byte in enumerate(page)}
    assert len(found) == size * len(pages)
    assert found == dict.fromkeys(found, 255) | bytes_of(image)


def test_neighbours_become_one_segment():
    assert image_of([(4, b"ef"), (0, b"abcd")]).segments == image_of([(0, b"abcdef")]).segments
    assert image_of([(4, b"ef"), (0, b"abcd")]).sha256() == image_of([(0, b"abcdef")]).sha256()
    assert image_of([(1, b"abcd")]).sha256() != image_of([(0, b"abcd")]).sha256()


@pytest.mark.parametrize(
    ("segments", "why"),
    [
        ([], "it holds no bytes"),
        ([(0, b""), (5, b"")], "it holds no bytes"),
        ([(0, b"abcd"), (3, b"e")], "bytes overlap at 0x00000003"),
        ([(2**32 - 1, b"ab")], "0xffffffff is no address of 32 bits"),
    ],
)
def test_no_image(segments, why):
    text = refused("image-invalid", image_of, segments)
    assert text == (
        f"the firmware image cannot be written: {why} [image-invalid]\n  where: firmware\n"
        "  hint:  build the firmware again"
    )


def test_a_wide_gap_is_no_binary():
    image = image_of([(0, b"a"), (1 << 22, b"b")])
    assert "4194303 bytes lie empty before 0x00400000" in refused("image-invalid", image.binary)


def elf(segments, *, tail=b""):
    table, offset = b"", 52 + 32 * len(segments)
    for kind, physical, data in segments:
        table += struct.pack("<8I", kind, offset, physical + 0x1000, physical, len(data), len(data) + 8, 5, 4)
        offset += len(data)
    head = b"\x7fELF\x01\x01\x01" + bytes(9) + struct.pack("<HHIIIIIHHHHHH", 2, 40, 1, 0, 52, 0, 0, 52, 32, 0, 0, 0, 0)
    head = head[:44] + struct.pack("<H", len(segments)) + head[46:]
    return head + table + b"".join(data for _, _, data in segments) + tail


def test_an_elf_is_loaded_at_its_physical_addresses():
    made = elf([(1, 0x8000000, b"vectors"), (6, 0, b"note"), (1, 0x20000000, b""), (1, 0x8000100, b"data")])
    assert bytes_of(image_of_elf(made)) == bytes_of(image_of([(0x8000000, b"vectors"), (0x8000100, b"data")]))


def test_damaged_elf_files():
    good = elf([(1, 0, b"abcdefgh")])
    assert "elf-invalid" in refused("elf-invalid", image_of_elf, b"MZ" + good)
    assert "it holds no bytes" in refused("image-invalid", image_of_elf, elf([]))


@settings(max_examples=20)
@given(PIECES)
def test_uf2_round_trip(pieces):
    image = image_of([(0x10000000 + place * 100, data) for place, data in pieces.items()])
    content = encode(image, 0xE48BFF56)
    again, family = decode(content)
    assert family == 0xE48BFF56 and len(content) % 512 == 0
    assert all(bytes_of(again)[address] == b for address, b in bytes_of(image).items())
    assert {b for address, b in bytes_of(again).items() if address not in bytes_of(image)} <= {0xFF}
    assert all(s.address % 256 == 0 and len(s.data) % 256 == 0 for s in again.segments)


def test_damaged_uf2_files():
    good = encode(image_of([(0, bytes(range(256)) * 3)]), 7)
    assert refused("image-invalid", decode, good[:-1]).startswith(
        "the UF2 file cannot be read: 1535 bytes are no whole blocks of 512 [image-invalid]"
    )
    assert "block 1 is damaged" in refused("image-invalid", decode, good[:512] + b"x" + good[513:])
    assert "counts 3 blocks" in refused("image-invalid", decode, good[:1024])
    assert "belong to several files" in refused("image-invalid", decode, good[:512] + good[:512] + good[1024:])


def test_an_image_outside_the_flash():
    require_fits(image_of([(0x10000000, b"a"), (0x101FFFFF, b"b")]), chip())
    text = refused("image-outside-flash", require_fits, image_of([(0x101FFFFF, b"ab")]), chip())
    assert text == (
        "the image takes 0x101fffff to 0x10200001; the flash of rp2040 is 0x10000000 to 0x10200000 "
        "[image-outside-flash]\n  where: firmware\n  hint:  the firmware was linked for another chip: build it for "
        "this board"
    )
