"""Frames of the mailbox's serial line: numbered, in COBS, with a CRC-32 (edgeprune/firmware/uart.h)."""

from __future__ import annotations

import struct
import zlib
from typing import NamedTuple

HELLO, READ, WRITE, DONE = 1, 2, 3, 0x80
OK, UNKNOWN, ADDRESS, SESSION = 0, 1, 2, 3

_HEAD = struct.Struct("<BBH")
_TAIL = struct.Struct("<I")
_BLOCK = 254
_MOST_BYTES = 4096


class Frame(NamedTuple):
    """A request, an answer or a note."""

    number: int
    kind: int
    session: int
    body: bytes


def encode(frame: Frame) -> bytes:
    """The frame as it goes over the line, 0 before and behind."""
    plain = _HEAD.pack(frame.number, frame.kind, frame.session) + frame.body
    return b"\0" + stuffed(plain + _TAIL.pack(zlib.crc32(plain))) + b"\0"


def stuffed(data: bytes) -> bytes:
    """`data` by COBS: the same without a byte that is 0."""
    parts = []
    for run in data.split(b"\0"):
        whole = len(run) // _BLOCK * _BLOCK
        parts += [b"\xff" + run[start : start + _BLOCK] for start in range(0, whole, _BLOCK)]
        parts.append(bytes([len(run) - whole + 1]) + run[whole:])
    return b"".join(parts)


def unstuffed(data: bytes) -> bytes | None:
    """What `stuffed` was given; None where `data` comes from nowhere."""
    parts, place = [], 0
    while place < len(data):
        code = data[place]
        block = data[place + 1 : place + code]
        if code == 0 or len(block) != code - 1:
            return None
        place += code
        parts.append(block + (b"\0" if code < 0xFF and place < len(data) else b""))
    return b"".join(parts)


class Decoder:
    """Finds frames in what arrives; whatever is no whole frame with a right checksum is passed over."""

    def __init__(self) -> None:
        self._waiting = b""

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that `data` completes."""
        *whole, rest = (self._waiting + data).split(b"\0")
        self._waiting = rest[: _MOST_BYTES + 1]
        return [frame for part in whole if part and len(part) <= _MOST_BYTES for frame in _parsed(part)]


def _parsed(part: bytes) -> list[Frame]:
    plain = unstuffed(part)
    if plain is None or len(plain) < _HEAD.size + _TAIL.size:
        return []
    body, (checksum,) = plain[: -_TAIL.size], _TAIL.unpack(plain[-_TAIL.size :])
    if zlib.crc32(body) != checksum:
        return []
    number, kind, session = _HEAD.unpack_from(body)
    return [Frame(number, kind, session, body[_HEAD.size :])]
