"""Libraries for processors that this machine is not: their vector instructions run in an emulator, the rest natively.

Every instruction of AVX on is made invalid in a copy of the library; the signal that it raises is answered by executing
it, and those that follow it, from the table that the disassembler made.
"""

from __future__ import annotations

import ctypes
import io
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

from decode import Instruction, decoded, disassembled, emulated
from elftools.elf.elffile import ELFFile
from processors import Processor

_INVALID = 0x06
"""The first byte of nothing in 64-bit code."""
_SIGNALS = b"\0sigfillset\0"
_OWN_SIGNALS = b"\0emulatefil\0"


class Leaf(ctypes.Structure):
    """What cpuid answers, as `struct leaf` of emulator.h."""

    _fields_ = [("leaf", ctypes.c_uint32), ("subleaf", ctypes.c_uint32), ("words", ctypes.c_uint32 * 4)]


@cache
def emulator() -> ctypes.CDLL:
    """The emulator, compiled."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "emulator.so")
        sources = sorted(str(source) for source in Path(__file__).parent.glob("*.c"))
        flags = ["-O2", "-std=gnu11", "-fPIC", "-shared", "-ffp-contract=off", "-fno-sanitize=all", "-w"]
        linker = [sys.executable, "-m", "ziglang", "cc", "-target", "x86_64-linux-gnu.2.34"]
        subprocess.run([*linker, *flags, *sources, "-lm", "-o", str(path)], check=True)
        library = ctypes.CDLL(str(path), ctypes.RTLD_GLOBAL)
    library.emulator_operation.restype = ctypes.c_char_p
    library.emulator_executed.restype = ctypes.c_uint64
    library.emulator_add.argtypes = [ctypes.c_uint64, ctypes.c_void_p, ctypes.c_uint64]
    library.emulator_processor.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_uint64]
    return library


@cache
def operations() -> dict[str, int]:
    """The number of every operation, by mnemonic."""
    found: dict[str, int] = {}
    while name := emulator().emulator_operation(len(found) + 1):
        assert name.decode() not in found
        found[name.decode()] = len(found) + 1
    return found


class Translated:
    """A library with its instructions made invalid, and the table of what they were, by place from `start`."""

    def __init__(self, library: bytes) -> None:
        self.bytes = bytearray(library)
        elf = ELFFile(io.BytesIO(library))
        sections = [section for section in elf.iter_sections() if section["sh_flags"] & 4 and section["sh_size"]]
        self.start = min(section["sh_addr"] for section in sections)
        self.size = max(section["sh_addr"] + section["sh_size"] for section in sections) - self.start
        self.table = (Instruction * self.size)()
        self.mnemonics: set[str] = set()
        for section in sections:
            self._take(section.data(), section["sh_addr"], section["sh_offset"])
        assert len(_SIGNALS) == len(_OWN_SIGNALS)
        self.bytes = self.bytes.replace(_SIGNALS, _OWN_SIGNALS)

    def _take(self, code: bytes, address: int, offset: int) -> None:
        for place, length, text in disassembled(code, address):
            at = place - address
            if emulated(code[at : at + length], text):
                self.table[place - self.start] = decoded(text, length, operations())
                self.bytes[offset + at] = _INVALID
                self.mnemonics.add(text.mnemonic)


_kept: list[Translated] = []


def load(library: bytes) -> ctypes.CDLL:
    """The shared library in `library`, to be called like any other; it stays loaded."""
    translated = Translated(library)
    with tempfile.NamedTemporaryFile(suffix=".so") as file:
        file.write(translated.bytes)
        file.flush()
        emulator()
        loaded = ctypes.CDLL(file.name)
        base = _base(file.name)
    _kept.append(translated)
    failed = emulator().emulator_add(
        base + translated.start, ctypes.cast(translated.table, ctypes.c_void_p), translated.size
    )
    assert not failed
    return loaded


def _base(path: str) -> int:
    for line in Path("/proc/self/maps").read_text().splitlines():
        if line.split(maxsplit=5)[-1].startswith(path):
            fields = line.split()
            return int(fields[0].split("-")[0], 16) - int(fields[2], 16)
    raise AssertionError(f"{path} is not loaded")


def become(processor: Processor) -> None:
    """Let cpuid and xgetbv of emulated libraries answer for `processor`."""
    leaves = (Leaf * len(processor.leaves))()
    for leaf, ((number, subleaf), words) in zip(leaves, processor.leaves.items(), strict=True):
        leaf.leaf, leaf.subleaf = number, subleaf
        leaf.words[:] = words
    emulator().emulator_processor(leaves, len(leaves), processor.saved_state)


def executed() -> int:
    """Instructions that were emulated so far, of all threads."""
    return int(emulator().emulator_executed())
