"""What is read from a linked 32-bit ELF: bytes where they lie, symbols by name."""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from typing import Any

from edgeprune.errors import EdgepruneError


@dataclass(frozen=True)
class ElfSegment:
    """`data` is stored from `load` on and used from `address` on: .data is copied from one to the other."""

    address: int
    load: int
    data: bytes


@dataclass(frozen=True)
class Elf:
    """A program: its segments that hold bytes, its symbols' addresses (without Thumb's low bit), its entry."""

    segments: tuple[ElfSegment, ...]
    symbols: dict[str, int]
    sections: dict[str, tuple[int, int]]
    entry: int

    def symbol(self, name: str) -> int:
        """The address of `name`. Raises EdgepruneError (elf-invalid) where there is none."""
        if name not in self.symbols:
            raise _invalid(f"it has no symbol {name}")
        return self.symbols[name]

    def read(self, address: int, size: int) -> bytes:
        """`size` bytes as the program sees them at its start. Raises EdgepruneError (elf-invalid)."""
        for segment in self.segments:
            start = address - segment.address
            if start >= 0 and start + size <= len(segment.data):
                return segment.data[start : start + size]
        raise _invalid(f"it holds no {size} bytes at {address:#x}")

    def words(self, address: int, count: int) -> tuple[int, ...]:
        """`count` uint32 from `address` on."""
        return struct.unpack(f"<{count}I", self.read(address, 4 * count))

    def text(self, address: int) -> str:
        """The UTF-8 text that ends with a zero byte."""
        for segment in self.segments:
            start = address - segment.address
            if 0 <= start < len(segment.data):
                return segment.data[start : segment.data.index(b"\0", start)].decode()
        raise _invalid(f"it holds no text at {address:#x}")


def read_elf(content: bytes) -> Elf:
    """The program in `content`. Raises EdgepruneError (elf-invalid)."""
    from elftools.common.exceptions import ELFError
    from elftools.elf.elffile import ELFFile

    try:
        return _read(ELFFile(io.BytesIO(content)))
    except (ELFError, ValueError, KeyError, struct.error) as error:
        raise _invalid(str(error) or type(error).__name__) from error


def _read(file: Any) -> Elf:
    if file.elfclass != 32 or not file.little_endian:
        raise ValueError("it is not a 32-bit little-endian one")
    loaded = [part for part in file.iter_segments() if part["p_type"] == "PT_LOAD" and part["p_filesz"]]
    segments = tuple(ElfSegment(part["p_vaddr"], part["p_paddr"], part.data()) for part in loaded)
    table = file.get_section_by_name(".symtab")
    entries = [] if table is None else [entry for entry in table.iter_symbols() if entry.name]
    symbols = {
        entry.name: entry["st_value"] & (~1 if entry["st_info"]["type"] == "STT_FUNC" else ~0)
        for entry in entries
        if entry["st_shndx"] != "SHN_UNDEF" and not entry.name.startswith("$")
    }
    sections = {part.name: (part["sh_addr"], part["sh_size"]) for part in file.iter_sections() if part["sh_flags"] & 2}
    return Elf(segments, symbols, sections, file["e_entry"])


def _invalid(why: str) -> EdgepruneError:
    hint = "build the firmware again"
    return EdgepruneError("elf-invalid", f"the firmware cannot be read: {why}", where="firmware", hint=hint)
