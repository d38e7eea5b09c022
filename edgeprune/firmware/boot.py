"""What a chip's ROM checks before it starts a program."""

from __future__ import annotations

import io

from edgeprune.chip import Chip

_STAGE_BYTES = 252
_POLYNOMIAL = 0x04C11DB7


def seal(elf: bytes, chip: Chip) -> bytes:
    """`elf` with the checksum that the ROM of `chip` wants, where it wants one."""
    if chip.boot != "rp2040":
        return elf
    from elftools.elf.elffile import ELFFile

    start = ELFFile(io.BytesIO(elf)).get_section_by_name(".edge_boot")["sh_offset"]
    end = start + _STAGE_BYTES
    return elf[:end] + checksum(elf[start:end]).to_bytes(4, "little") + elf[end + 4 :]


def checksum(content: bytes) -> int:
    """CRC-32 with the high bit first, from all ones, not inverted (RP2040 datasheet, section 2.8.1.3.1)."""
    value = 0xFFFFFFFF
    for byte in content:
        value ^= byte << 24
        for _ in range(8):
            value = (value << 1 ^ (_POLYNOMIAL if value >> 31 else 0)) & 0xFFFFFFFF
    return value
