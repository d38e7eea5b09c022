"""Just enough of the ELF64 format to ask a shared library what it needs and what it shows."""

from __future__ import annotations

import struct
from dataclasses import dataclass


@dataclass(frozen=True)
class Elf:
    needed: list[str]
    exported: list[str]
    stack_flags: int


def read_elf(data: bytes) -> Elf:
    assert data[:6] == b"\x7fELF\x02\x01"
    headers, section_headers = struct.unpack_from("<QQ", data, 32)
    count = struct.unpack_from("<H", data, 56)[0]
    segments = [struct.unpack_from("<IIQQQQQQ", data, headers + 56 * i) for i in range(count)]
    sections_count = struct.unpack_from("<H", data, 60)[0]
    sections = [struct.unpack_from("<IIQQQQIIQQ", data, section_headers + 64 * i) for i in range(sections_count)]

    def text(table: int, at: int) -> str:
        begin = sections[table][4] + at
        return data[begin : data.index(b"\0", begin)].decode()

    needed, exported = [], []
    for _, kind, _, _, offset, size, link, _, _, entry in sections:
        if kind == 6:  # dynamic
            tags = [struct.unpack_from("<QQ", data, offset + i) for i in range(0, size, entry)]
            needed = [text(link, value) for tag, value in tags if tag == 1]
        if kind == 11:  # dynamic symbols
            symbols = [struct.unpack_from("<IBBHQQ", data, offset + i) for i in range(0, size, entry)]
            exported = [text(link, name) for name, _, _, where, _, _ in symbols if where != 0]
    stack = next(flags for kind, flags, *_ in segments if kind == 0x6474E551)
    return Elf(needed, exported, stack)
