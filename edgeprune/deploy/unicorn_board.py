"""A microcontroller in this process: firmware runs under unicorn, which finds faults and counts instructions."""

from __future__ import annotations

from typing import Any

from edgeprune.chip import Chip
from edgeprune.deploy.unicorn_core import Core, core_of, unicorn_module
from edgeprune.deploy.unicorn_counter import BlockCounter
from edgeprune.elf import Elf, read_elf
from edgeprune.errors import EdgepruneError

_PAGE = 4096
_SYSTEM_START, _SYSTEM_BYTES = 0xE0000000, 0x00100000


class UnicornBoard:
    """The chip's memory and core with the firmware `elf` started; a `Memory` that also counts instructions.

    A counted region lies between two marks of the firmware: a run, or one step of a profiled run.
    """

    def __init__(self, elf: bytes, chip: Chip) -> None:
        """Raises EdgepruneError: emulator-missing, emulator-unsupported, elf-invalid."""
        self._core = core_of(chip)
        self._machine = _machine(chip, self._core)
        self._chip, self._elf = chip, read_elf(elf)
        self._idle = self._elf.symbol("edge_idle")
        self._counter: BlockCounter | None = None
        self._fault: tuple[str, int] | None = None
        _load(self._machine, self._elf, chip)
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
        core = self._core
        try:
            self._machine.emu_start(self._next | core.low_bit, self._idle, timeout=max(1, round(seconds * 1e6)))
        except _error() as error:
            place = self._register(core.counter)
            why = str(error) if self._fault is None else f"a {self._fault[0]} at {self._fault[1]:#010x}"
            raise self._failure(f"the firmware failed at {place:#010x}{self._near(place)}", why) from error
        place = self._register(core.counter)
        self._next = self._register(core.link) if place == self._idle else place

    def take_regions(self) -> list[int]:
        """Instructions of each marked region, in order, since this was last asked; counting begins when first asked.

        Raises EdgepruneError: link-failed, emulator-failed.
        """
        if self._counter is None:
            riscv = self._core.architecture == "UC_ARCH_RISCV"
            self._counter = BlockCounter(self._machine, self._elf, riscv=riscv)
        return self._counter.take()

    def close(self) -> None:
        """Nothing is left to end."""

    def _reset(self) -> int:
        if self._core.architecture == "UC_ARCH_ARM":
            stack, _ = self._elf.words(self._elf.sections[".edge_vectors"][0], 2)
            self._machine.reg_write(self._core.number(self._core.stack), stack)
        return self._elf.entry & ~1

    def _watch(self) -> None:
        """Note what touches memory that is not there."""
        constants = unicorn_module("unicorn")
        writes = (constants.UC_MEM_WRITE_UNMAPPED, constants.UC_MEM_WRITE_PROT)
        fetches = (constants.UC_MEM_FETCH_UNMAPPED, constants.UC_MEM_FETCH_PROT)

        def invalid(_machine: Any, access: int, address: int, _size: int, _value: int, _data: Any) -> bool:
            self._fault = "write" if access in writes else "jump" if access in fetches else "read", address
            return False

        self._machine.hook_add(constants.UC_HOOK_MEM_INVALID, invalid)

    def _register(self, name: str) -> int:
        """A register that holds an address of code."""
        return int(self._machine.reg_read(self._core.number(name))) & ~1

    def _near(self, place: int) -> str:
        before = [(address, name) for name, address in self._elf.symbols.items() if address <= place]
        return f" ({max(before)[1]})" if before else ""

    def _failure(self, what: str, why: str) -> EdgepruneError:
        hint = "the package or its kernels are at fault: report this with the package"
        return EdgepruneError("emulated-fault", f"{what}: {why}", where=f"chip {self._chip.name}", hint=hint)


def _machine(chip: Chip, core: Core) -> Any:
    uc, machine = unicorn_module("unicorn"), core.machine()
    for region in chip.regions:
        rights = uc.UC_PROT_READ | (uc.UC_PROT_EXEC if region.kind == "flash" else uc.UC_PROT_WRITE)
        machine.mem_map(region.start, -(-region.bytes // _PAGE) * _PAGE, rights)
    if chip.data_view:
        machine.mem_map(chip.data_view, -(-chip.flash.bytes // _PAGE) * _PAGE, uc.UC_PROT_READ)
    if core.architecture == "UC_ARCH_ARM":
        machine.mem_map(_SYSTEM_START, _SYSTEM_BYTES, uc.UC_PROT_READ | uc.UC_PROT_WRITE)
    return machine


def _load(machine: Any, elf: Elf, chip: Chip) -> None:
    for segment in elf.segments:
        machine.mem_write(segment.load, segment.data)
        if chip.data_view:
            machine.mem_write(segment.load - chip.flash.start + chip.data_view, segment.data)


def _error() -> type[Exception]:
    found: type[Exception] = unicorn_module("unicorn").UcError
    return found
