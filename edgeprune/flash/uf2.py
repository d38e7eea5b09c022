"""UF2, the file that a board's own drive takes (https://github.com/microsoft/uf2)."""

from __future__ import annotations

import struct

from edgeprune.errors import EdgepruneError
from edgeprune.flash.image import Image, image_of

BLOCK = 512
_PAYLOAD = 256
_CAPACITY = 476
_HEADER = struct.Struct("<8I")
_END = struct.Struct("<I")
_FIRST, _SECOND, _LAST = 0x0A324655, 0x9E5D5157, 0x0AB16F30
_NOT_FLASH, _HAS_FAMILY = 0x1, 0x2000


def encode(image: Image, family: int) -> bytes:
    """The image as UF2 for chips of `family`: whole pages of 256 bytes, their gaps as erased flash."""
    pages = image.pages(_PAYLOAD)
    blocks = []
    for number, (address, page) in enumerate(pages):
        facts = (_FIRST, _SECOND, _HAS_FAMILY, address, _PAYLOAD, number, len(pages), family)
        blocks.append(_HEADER.pack(*facts) + page.ljust(_CAPACITY, b"\0") + _END.pack(_LAST))
    return b"".join(blocks)


def decode(content: bytes) -> tuple[Image, int]:
    """The image and its family (0 where none is named) of a UF2. Raises EdgepruneError (image-invalid)."""
    if not content or len(content) % BLOCK:
        raise _invalid(f"{len(content)} bytes are no whole blocks of {BLOCK}")
    found, families, numbers = [], set(), []
    for place in range(0, len(content), BLOCK):
        first, second, flags, address, size, number, total, family = _HEADER.unpack_from(content, place)
        (last,) = _END.unpack_from(content, place + BLOCK - 4)
        if (first, second, last) != (_FIRST, _SECOND, _LAST) or size > _CAPACITY:
            raise _invalid(f"block {place // BLOCK} is damaged")
        if flags & _NOT_FLASH:
            continue
        if number >= total or total != len(content) // BLOCK:
            raise _invalid(f"block {place // BLOCK} counts {total} blocks")
        start = place + _HEADER.size
        found.append((address, content[start : start + size]))
        families.add(family if flags & _HAS_FAMILY else 0)
        numbers.append(number)
    if len(families) != 1 or len(set(numbers)) != len(numbers):
        raise _invalid("its blocks belong to several files")
    return image_of(found), families.pop()


def _invalid(why: str) -> EdgepruneError:
    return EdgepruneError("image-invalid", f"the UF2 file cannot be read: {why}", where="UF2", hint="build it again")
