"""What is written into a chip: bytes at addresses."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable
from dataclasses import dataclass

from edgeprune.elf import read_elf
from edgeprune.errors import EdgepruneError

ERASED = 0xFF
"""What a byte of flash reads as after it was erased."""

LARGEST_SECTOR = 1 << 18
"""The largest piece that flash of these chips is erased in."""

_WIDEST_GAP = 1 << 20


@dataclass(frozen=True)
class Segment:
    """Bytes that lie one after the other from `address` on."""

    address: int
    data: bytes

    @property
    def end(self) -> int:
        """The first address behind it."""
        return self.address + len(self.data)


@dataclass(frozen=True)
class Image:
    """Segments in order of their addresses, none of them empty, none over another."""

    segments: tuple[Segment, ...]

    @property
    def start(self) -> int:
        """The lowest address."""
        return self.segments[0].address

    @property
    def end(self) -> int:
        """The first address behind the last byte."""
        return self.segments[-1].end

    @property
    def size(self) -> int:
        """Bytes that it holds, gaps apart."""
        return sum(len(segment.data) for segment in self.segments)

    def binary(self) -> bytes:
        """All bytes from `start` to `end`; gaps are as erased flash. Raises EdgepruneError (image-invalid)."""
        parts, place = [], self.start
        for segment in self.segments:
            if segment.address - place > _WIDEST_GAP:
                raise _invalid(f"{segment.address - place} bytes lie empty before 0x{segment.address:08x}")
            parts += [bytes([ERASED]) * (segment.address - place), segment.data]
            place = segment.end
        return b"".join(parts)

    def joined(self, gap: int) -> Image:
        """The same with gaps of fewer than `gap` bytes filled as erased flash, so that no sector is in two segments."""
        parts: list[tuple[int, bytes]] = []
        place = None
        for segment in self.segments:
            if place is not None and segment.address - place < gap:
                parts.append((place, bytes([ERASED]) * (segment.address - place)))
            parts.append((segment.address, segment.data))
            place = segment.end
        return image_of(parts)

    def pages(self, size: int) -> list[tuple[int, bytes]]:
        """(address, bytes) of the whole pages of `size` bytes that it touches, in order; gaps are as erased flash."""
        pages: dict[int, bytearray] = {}
        for segment in self.segments:
            for address in range(segment.address - segment.address % size, segment.end, size):
                page = pages.setdefault(address, bytearray([ERASED]) * size)
                start, end = max(segment.address, address), min(segment.end, address + size)
                page[start - address : end - address] = segment.data[start - segment.address : end - segment.address]
        return [(address, bytes(pages[address])) for address in sorted(pages)]

    def sha256(self) -> str:
        """The hash of addresses and bytes, in hexadecimal."""
        digest = hashlib.sha256()
        for segment in self.segments:
            digest.update(struct.pack("<QQ", segment.address, len(segment.data)) + segment.data)
        return digest.hexdigest()


def image_of(segments: Iterable[tuple[int, bytes]]) -> Image:
    """The image of (address, bytes) in any order; neighbours become one segment.

    Raises EdgepruneError (image-invalid) where nothing is left, where bytes overlap or lie beyond 32-bit addresses.
    """
    merged: list[Segment] = []
    for address, data in sorted((address, bytes(data)) for address, data in segments if data):
        if not 0 <= address <= address + len(data) <= 1 << 32:
            raise _invalid(f"0x{address:x} is no address of 32 bits")
        if merged and address < merged[-1].end:
            raise _invalid(f"bytes overlap at 0x{address:08x}")
        if merged and address == merged[-1].end:
            merged[-1] = Segment(merged[-1].address, merged[-1].data + data)
        else:
            merged.append(Segment(address, data))
    if not merged:
        raise _invalid("it holds no bytes")
    return Image(tuple(merged))


def image_of_elf(elf: bytes) -> Image:
    """What a 32-bit ELF loads, where it loads it from. Raises EdgepruneError: elf-invalid, image-invalid."""
    return image_of((segment.load, segment.data) for segment in read_elf(elf).segments)


def _invalid(why: str) -> EdgepruneError:
    hint = "build the firmware again"
    return EdgepruneError("image-invalid", f"the firmware image cannot be written: {why}", where="firmware", hint=hint)
