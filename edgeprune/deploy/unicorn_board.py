"""A Cortex-M in this process: firmware runs under unicorn, faults are found, instructions are counted exactly."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

from edgeprune.chip import Chip
from edgeprune.elf import Elf, read_elf
from edgeprune.errors import EdgepruneError

_CORES = {
    "cortex-m0plus": "UC_CPU_ARM_CORTEX_M0",
    "cortex-m3": "UC_CPU_ARM_CORTEX_M3",
    "cortex-m4": "UC_CPU_ARM_CORTEX_M4",
    "cortex-m7": "UC_CPU_ARM_CORTEX_M7",
    "cortex-m33": "UC_CPU_ARM_CORTEX_M33",
}
_PAGE = 4096
_SYSTEM_START, _SYSTEM_BYTES = 0xE0000000, 0x00100000
_FIRST_LONG = 0x1D


class UnicornBoard:
    """The chip's memory and core with the firmware `elf` started; a `Memory` that also counts instructions.

    A counted region lies between two marks of the firmware: a run, or one step of a profiled run.
    """

    def __init__(self, elf: bytes, chip: Chip) -> None:
        """Raises EdgepruneError: emulator-missing, emulator-unsupported, elf-invalid."""
        self._chip, self._elf = chip, read_elf(elf)
        self._machine = _machine(chip)
        self._registers = _module("unicorn.arm_const")
        self._idle = self._elf.symbol("edge_idle")
        self._marks = self._elf.symbol("edge_mark_begin"), self._elf.symbol("edge_mark_end")
        self._visits: dict[tuple[int, int], int] = {}
        self._lengths: dict[tuple[int, int], int] = {}
        self._regions: list[int] = []
        self._inside = False
        self._fault: tuple[str, int] | None = None
        _load(self._machine, self._elf)
        self._next = self._reset()
        self._watch()

    def read(self, address: int, size: int) -> bytes:
        """`size` bytes. Raises EdgepruneError (emulated-fault) where there is no memory."""
        try:
            return bytes(self._machine.mem_read(address, size))
        except _error() as error:
            raise self._failure(f"the host read {size} bytes at {address:#010x}", str(error)) from error

    def write(self, address: int, data: bytes) -> None:
        """Put `data` at `address`. Raises EdgepruneError (emulated-fault) where there is no memory."""
        try:
            self._machine.mem_write(address, data)
        except _error() as error:
            raise self._failure(f"the host wrote {len(data)} bytes at {address:#010x}", str(error)) from error

    def wait(self, seconds: float) -> None:
        """Go on until the firmware waits for the next request, for at most `seconds`.

        Raises EdgepruneError (emulated-fault) with where it was and what it touched.
        """
        names = self._registers
        try:
            self._machine.emu_start(self._next | 1, self._idle, timeout=max(1, round(seconds * 1e6)))
        except _error() as error:
            place = self._machine.reg_read(names.UC_ARM_REG_PC)
            why = str(error) if self._fault is None else f"a {self._fault[0]} at {self._fault[1]:#010x}"
            raise self._failure(f"the firmware failed at {place:#010x}{self._near(place)}", why) from error
        place = self._machine.reg_read(names.UC_ARM_REG_PC) & ~1
        idle = place == self._idle
        self._next = self._machine.reg_read(names.UC_ARM_REG_LR) & ~1 if idle else place

    def take_regions(self) -> list[int]:
        """Instructions of each marked region, in order, since this was last asked."""
        taken, self._regions = self._regions, []
        return taken

    def close(self) -> None:
        """Nothing is left to end."""

    def _reset(self) -> int:
        vectors = self._elf.sections[".edge_vectors"][0]
        stack, start = self._elf.words(vectors, 2)
        self._machine.reg_write(self._registers.UC_ARM_REG_SP, stack)
        return start & ~1

    def _watch(self) -> None:
        """Count how often each block of instructions runs between marks; note what touches memory that is not there."""
        constants = _module("unicorn")
        begin, end = self._marks
        visits = self._visits

        def block(_machine: Any, address: int, size: int, _data: Any) -> None:
            if address == begin:
                visits.clear()
                self._inside = True
            elif address == end and self._inside:
                self._close(begin)
            elif self._inside:
                key = (address, size)
                visits[key] = visits.get(key, 0) + 1

        def unmapped(_machine: Any, access: int, address: int, _size: int, _value: int, _data: Any) -> bool:
            writes = (constants.UC_MEM_WRITE_UNMAPPED, constants.UC_MEM_WRITE_PROT)
            fetches = (constants.UC_MEM_FETCH_UNMAPPED, constants.UC_MEM_FETCH_PROT)
            self._fault = "write" if access in writes else "jump" if access in fetches else "read", address
            return False

        self._machine.hook_add(constants.UC_HOOK_BLOCK, block)
        self._machine.hook_add(constants.UC_HOOK_MEM_INVALID, unmapped)

    def _close(self, begin: int) -> None:
        """End a region: the instruction behind the mark that began it, then all blocks up to the one that ends it."""
        self._inside = False
        self._regions.append(1 + sum(self._length(block) * count for block, count in self._visits.items()))

    def _length(self, block: tuple[int, int]) -> int:
        if block not in self._lengths:
            self._lengths[block] = thumb_instructions(bytes(self._machine.mem_read(*block)))
        return self._lengths[block]

    def _near(self, place: int) -> str:
        before = [(address, name) for name, address in self._elf.symbols.items() if address <= place]
        return f" ({max(before)[1]})" if before else ""

    def _failure(self, what: str, why: str) -> EdgepruneError:
        hint = "the package or its kernels are at fault: report this with the package"
        return EdgepruneError("emulated-fault", f"{what}: {why}", where=f"chip {self._chip.name}", hint=hint)


def thumb_instructions(code: bytes) -> int:
    """How many instructions of 2 or 4 bytes `code` holds."""
    count = place = 0
    while place < len(code):
        place += 4 if code[place + 1] >> 3 >= _FIRST_LONG else 2
        count += 1
    return count


def _machine(chip: Chip) -> Any:
    if chip.target not in _CORES:
        what = f"unicorn has no {chip.target}"
        hint = "emulate it with a qemu board: edgeprune boards lists them"
        raise EdgepruneError("emulator-unsupported", what, where=f"chip {chip.name}", hint=hint)
    uc, arm = _module("unicorn"), _module("unicorn.arm_const")
    machine = uc.Uc(uc.UC_ARCH_ARM, uc.UC_MODE_THUMB | uc.UC_MODE_MCLASS)
    machine.ctl_set_cpu_model(getattr(arm, _CORES[chip.target]))
    for region in chip.regions:
        rights = uc.UC_PROT_READ | (uc.UC_PROT_EXEC if region.kind == "flash" else uc.UC_PROT_WRITE)
        machine.mem_map(region.start, -(-region.bytes // _PAGE) * _PAGE, rights)
    machine.mem_map(_SYSTEM_START, _SYSTEM_BYTES, uc.UC_PROT_READ | uc.UC_PROT_WRITE)
    return machine


def _load(machine: Any, elf: Elf) -> None:
    for segment in elf.segments:
        machine.mem_write(segment.load, segment.data)


def _module(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        hint = "pip install unicorn"
        what = "an emulated board needs the package unicorn"
        raise EdgepruneError("emulator-missing", what, where="--board", hint=hint) from error


def _error() -> type[Exception]:
    found: type[Exception] = _module("unicorn").UcError
    return found
