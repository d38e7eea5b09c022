"""Intel HEX, the text that most programmers of chips read (Intel, Hexadecimal Object File Format, 1988)."""

from __future__ import annotations

from edgeprune.errors import EdgepruneError
from edgeprune.flash.image import Image, image_of

_PAYLOAD = 16
_DATA, _END, _UPPER = 0, 1, 4


def encode(image: Image) -> str:
    """The image as records of 16 bytes, each of 64 KB preceded by the upper half of its addresses."""
    lines = []
    upper = 0
    for segment in image.segments:
        place = segment.address
        while place < segment.end:
            if place >> 16 != upper:
                upper = place >> 16
                lines.append(_record(0, _UPPER, upper.to_bytes(2, "big")))
            end = min(segment.end, place - place % _PAYLOAD + _PAYLOAD)
            data = segment.data[place - segment.address : end - segment.address]
            lines.append(_record(place & 0xFFFF, _DATA, data))
            place = end
    return "\n".join([*lines, _record(0, _END, b""), ""])


def decode(text: str) -> Image:
    """The image of a HEX file. Raises EdgepruneError (image-invalid)."""
    found: list[tuple[int, bytes]] = []
    upper, ended = 0, False
    for number, line in enumerate(text.split(), 1):
        content = _content(line, number)
        place, kind, data = int.from_bytes(content[1:3], "big"), content[3], content[4:-1]
        ended = kind == _END
        if kind == _UPPER:
            upper = int.from_bytes(data, "big")
        elif kind == _DATA:
            found.append((upper << 16 | place, data))
    if not ended:
        raise _invalid("its end is missing")
    return image_of(found)


def _record(place: int, kind: int, data: bytes) -> str:
    content = bytes([len(data), *place.to_bytes(2, "big"), kind]) + data
    return f":{(content + bytes([-sum(content) & 0xFF])).hex().upper()}"


def _content(line: str, number: int) -> bytes:
    try:
        content = bytes.fromhex(line[1:])
    except ValueError:
        content = b""
    if line[:1] != ":" or len(content) < 5 or content[0] != len(content) - 5 or sum(content) & 0xFF:
        raise _invalid(f"line {number} is damaged")
    return content


def _invalid(why: str) -> EdgepruneError:
    what = f"the HEX file cannot be read: {why}"
    return EdgepruneError("image-invalid", what, where="HEX", hint="build it again")
