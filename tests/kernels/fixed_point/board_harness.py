"""Runs a kernel compiled for a microcontroller in unicorn and counts its instructions.

    board = BoardKernel(kernel, load_target("cortex-m4"))
    run = board(inputs, output)            # arrays; output is written in place
    run.instructions, run.cycles, board.code_bytes
    board(inputs, output, over=(0, d))     # the output lies d bytes after where input 0 begins

Constants lie in memory that cannot be written, activations and scratch in RAM; a write outside output and scratch
is an AssertionError. `function` instead of `kernel` runs any function of pointers.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import msgspec
import numpy as np
import unicorn as uc
from elftools.elf.elffile import ELFFile
from unicorn import arm_const as arm

from edgeprune.kernels.abi import Kernel
from edgeprune.lowering.compile import compile_object
from edgeprune.target import Target, load_target

_CODE, _FLASH, _RAM = 0x10000, 0x08000000, 0x20000000
_CODE_BYTES, _FLASH_BYTES, _RAM_BYTES, _STACK_BYTES = 0x100000, 0x400000, 0x200000, 0x4000
_RETURN = _CODE + _CODE_BYTES - 16
_FILL = 0xA5
_CORES = {
    "cortex-m0plus": arm.UC_CPU_ARM_CORTEX_M0,
    "cortex-m3": arm.UC_CPU_ARM_CORTEX_M3,
    "cortex-m4": arm.UC_CPU_ARM_CORTEX_M4,
    "cortex-m7": arm.UC_CPU_ARM_CORTEX_M7,
    "cortex-m33": arm.UC_CPU_ARM_CORTEX_M33,
}
_SCRIPT = """ENTRY(kernel)
SECTIONS { . = 0x10000; .text : { *(.text.kernel) *(.text*) *(.rodata*) } /DISCARD/ : { *(.ARM.*) *(.debug*) } }
"""
_BYTES = """void *memcpy(char *to, const char *from, unsigned n) {
  for (unsigned i = 0; i < n; i++) to[i] = from[i];
  return to; }
void *memmove(char *to, const char *from, unsigned n) {
  if (to < from) return memcpy(to, from, n);
  while (n--) to[n] = from[n];
  return to; }
void *memset(char *to, int value, unsigned n) { for (unsigned i = 0; i < n; i++) to[i] = (char)value; return to; }
long long __muldi3(long long a, long long b) { return a * b; }
long long __ashldi3(long long a, int b) { return a << b; }
long long __ashrdi3(long long a, int b) { return a >> b; }
"""
_TRIPLES = {"cortex-m0plus": "thumbv6m-none-eabi", "cortex-m3": "thumbv7m-none-eabi"}


@cache
def core(cpu: str) -> Target:
    """Facts of a Cortex-M core by its LLVM name, whether or not there is a target file: those of the M4 otherwise."""
    facts = load_target("cortex-m4")
    if cpu == facts.cpu:
        return facts
    triple = "thumbv8m.main-none-eabihf" if cpu == "cortex-m33" else _TRIPLES.get(cpu, facts.triple)
    dot = "mla" if cpu in _TRIPLES else "smlad"
    return msgspec.structs.replace(facts, name=cpu, cpu=cpu, triple=triple, dot=dot)


@dataclass(frozen=True)
class Run:
    """What one call took; `cycles` are those of a Cortex-M4 with no waits: a load two, in a row one each, a branch
    that is taken three."""

    instructions: int
    cycles: int


@dataclass(frozen=True)
class _Image:
    """Linked code: its bytes from `_CODE` on, where the kernel begins, bytes of the object's own text."""

    data: bytes
    entry: int
    code_bytes: int


class BoardKernel:
    """A kernel's function on an emulated core; equal functions compile once."""

    _images: dict[tuple[int, str], tuple[object, _Image]] = {}  # noqa: RUF012

    def __init__(self, kernel: Kernel, target: Target) -> None:
        key = (id(kernel.func), target.name)
        if key not in self._images:
            self._images[key] = (kernel.func, _linked(kernel.func, target))
        self.kernel, self.image, self.cpu = kernel, self._images[key][1], target.cpu
        self.code_bytes = self.image.code_bytes

    def __call__(
        self,
        inputs: Sequence[np.ndarray],
        output: np.ndarray,
        begin: int = 0,
        end: int | None = None,
        over: tuple[int, int] | None = None,
    ) -> Run:
        """Do units [begin, end) (all when `end` is None) and write `output` in place.

        `over` is (input, d): the output begins d bytes after that input does, which is lost where they overlap.
        """
        board = _Board(self.cpu, self.image)
        below = [max(0, -over[1]) if over and over[0] == number else 0 for number in range(len(inputs))]
        places = [board.put_ram(array, before) for array, before in zip(inputs, below, strict=True)]
        if over is not None:
            board.reserve(max(0, over[1] + output.nbytes))
        places += [board.put_flash(constant) for constant in self.kernel.constants]
        writable = []
        if self.kernel.scratch_bytes:
            places.append(board.reserve(self.kernel.scratch_bytes))
            writable.append((places[-1], self.kernel.scratch_bytes))
        at = board.put_ram(output) if over is None else board.put_over(places[over[0]] + over[1], output.nbytes)
        writable.append((at, output.nbytes))
        last = self.kernel.units if end is None else end
        with board.unchanged_but(writable):
            run = board.call([*places, at, begin, last])
        output[...] = np.frombuffer(board.machine.mem_read(at, output.nbytes), output.dtype).reshape(output.shape)
        return run


class _Board:
    """Memory and a core, fresh for each call."""

    def __init__(self, cpu: str, image: _Image) -> None:
        self.machine = uc.Uc(uc.UC_ARCH_ARM, uc.UC_MODE_THUMB | uc.UC_MODE_MCLASS)
        self.machine.ctl_set_cpu_model(_CORES[cpu])
        self.machine.mem_map(_CODE, _CODE_BYTES, uc.UC_PROT_READ | uc.UC_PROT_EXEC)
        self.machine.mem_map(_FLASH, _FLASH_BYTES, uc.UC_PROT_READ)
        self.machine.mem_map(_RAM, _RAM_BYTES, uc.UC_PROT_READ | uc.UC_PROT_WRITE)
        self.machine.mem_write(_CODE, image.data)
        self.image, self.flash, self.free = image, _FLASH, _RAM + _STACK_BYTES

    def put_flash(self, array: np.ndarray) -> int:
        """The address of a constant; constants begin at multiples of 16 bytes."""
        at, self.flash = self.flash, self.flash + array.nbytes + -array.nbytes % 16
        self.machine.mem_write(at, array.tobytes())
        return at

    def put_ram(self, array: np.ndarray, before: int = 0) -> int:
        """The address of an activation, at a multiple of 16 with at least `before` free bytes before it."""
        self.reserve(before)
        at = self.reserve(array.nbytes)
        self.machine.mem_write(at, array.tobytes())
        return at

    def reserve(self, size: int) -> int:
        """The address of `size` bytes of RAM with a guard after them."""
        at = self.free
        self.extend(at + size)
        return at

    def put_over(self, at: int, size: int) -> int:
        """`at`, from which `size` bytes of RAM are taken, whatever lies there."""
        if at + size > self.free:
            self.extend(at + size)
        return at

    def extend(self, end: int) -> None:
        """RAM up to `end`, and a guard, is taken."""
        self.machine.mem_write(self.free, bytes([_FILL]) * (end - self.free + 64))
        self.free = end + 64 + -end % 16

    @contextmanager
    def unchanged_but(self, writable: Sequence[tuple[int, int]]) -> Iterator[None]:
        """An AssertionError if anything in RAM but the stack and `writable` (address, bytes) changes."""
        first, size = _RAM + _STACK_BYTES, self.free - _RAM - _STACK_BYTES
        before = np.frombuffer(self.machine.mem_read(first, size), np.uint8)
        yield
        changed = before != np.frombuffer(self.machine.mem_read(first, size), np.uint8)
        for at, count in writable:
            changed[at - first : at - first + count] = False
        assert not changed.any(), f"wrote {np.flatnonzero(changed)[:8]} bytes after RAM's start"

    def call(self, arguments: Sequence[int]) -> Run:
        """Call the kernel by the procedure call standard."""
        stack = _RAM + _STACK_BYTES - 8 * ((len(arguments) + 1) // 2)
        self.machine.mem_write(stack, np.array([int(a) & 0xFFFFFFFF for a in arguments[4:]], "<u4").tobytes())
        for register, value in zip((arm.UC_ARM_REG_R0, arm.UC_ARM_REG_R1, arm.UC_ARM_REG_R2, arm.UC_ARM_REG_R3),
                                   arguments, strict=False):  # fmt: skip
            self.machine.reg_write(register, int(value) & 0xFFFFFFFF)
        self.machine.reg_write(arm.UC_ARM_REG_SP, stack)
        self.machine.reg_write(arm.UC_ARM_REG_LR, _RETURN | 1)
        visits, jumps = self._watch()
        self.machine.emu_start(self.image.entry | 1, _RETURN)
        costs = {block: _cost(bytes(self.machine.mem_read(*block))) for block in visits}
        instructions = sum(costs[block][0] * count for block, count in visits.items())
        waits = sum(costs[block][1] * count for block, count in visits.items())
        return Run(instructions, instructions + waits + 2 * len(jumps))

    def _watch(self) -> tuple[dict[tuple[int, int], int], list[int]]:
        """How often each block (address, bytes) runs, and where jumps went, filled in as the machine goes."""
        visits: dict[tuple[int, int], int] = {}
        jumps: list[int] = []
        follows = 0

        def note(_machine: object, address: int, size: int, _data: object) -> None:
            nonlocal follows
            block = (address, size)
            visits[block] = visits.get(block, 0) + 1
            if address != follows:
                jumps.append(address)
            follows = address + size

        self.machine.hook_add(uc.UC_HOOK_BLOCK, note)
        return visits, jumps


def _cost(code: bytes) -> tuple[int, int]:
    """Instructions of a block, and the cycles that its loads take beyond one each."""
    halves = np.frombuffer(code, "<u2")
    at = count = extra = 0
    loading = False
    while at < len(halves):
        wide = halves[at] >> 11 in (0b11101, 0b11110, 0b11111)
        words = _loaded_words(int(halves[at]), int(halves[at + 1]) if wide else 0)
        extra += (0 if loading else 1) + words - 1 if words else 0
        loading = words > 0
        at, count = at + 1 + wide, count + 1
    return count, extra


def _loaded_words(first: int, second: int) -> int:
    """Words that a Thumb instruction loads; 0 where it is none that loads."""
    if first >> 9 == 0b1110100 and first & 0x10:
        pair = bool(first & 0x40)
        return 2 if pair else bin(second).count("1")
    if first >> 9 == 0b1111100:
        return int(first & 0x10 != 0)
    if (first >> 12 == 0b1100 and first & 0x800) or first >> 9 == 0b1011110:
        return bin(first & (0x1FF if first >> 12 == 0b1011 else 0xFF)).count("1")
    register = first >> 12 == 0b0101 and (first >> 9) & 7 >= 3
    immediate = first >> 12 in (0b0110, 0b0111, 0b1000, 0b1001) and bool(first & 0x800)
    return int(register or immediate or first >> 11 == 0b01001)


def _linked(function: object, target: Target) -> _Image:
    with tempfile.TemporaryDirectory() as folder:
        path, script, linked, bytes_ = (Path(folder, f"kernel.{end}") for end in ("o", "ld", "elf", "c"))
        compile_object({"kernel": function}, target, path)
        if _stands_alone(path):
            return _Image(*_loaded(path, _CODE), _text_bytes(path))
        script.write_text(_SCRIPT)
        bytes_.write_text(_BYTES)
        zig = [sys.executable, "-m", "ziglang"]
        tail = ["-T", str(script), str(path), "-o", str(linked)]
        if subprocess.run([*zig, "ld.lld", *tail], capture_output=True).returncode:
            # Builtins of the compiler are wanted; zig makes them once, which takes half a minute.
            driver = ["cc", "-target", "thumb-freestanding-eabi", f"-mcpu={target.cpu.replace('-', '_')}"]
            link = ["-nostartfiles", "-Wl,--gc-sections", "-Wl,--entry=kernel", f"-Wl,-T,{script}"]
            sources = ["-O2", "-fno-builtin", str(bytes_), str(path)]
            subprocess.run([*zig, *driver, *link, *sources, "-o", str(linked)], check=True, capture_output=True)
        return _Image(*_loaded(linked), _text_bytes(path))


def _stands_alone(path: Path) -> bool:
    """Whether the code of an object runs wherever it is put, so that there is nothing to link."""
    with path.open("rb") as file:
        names = [section.name for section in ELFFile(file).iter_sections()]
        return ".rel.text" not in names and not any(name.startswith(".rodata") for name in names)


def _loaded(path: Path, moved: int = 0) -> tuple[bytes, int]:
    with path.open("rb") as file:
        elf = ELFFile(file)
        code = next(s for s in elf.iter_sections() if s.name == ".text")
        symbol = elf.get_section_by_name(".symtab").get_symbol_by_name("kernel")[0]
        return code.data(), (symbol["st_value"] & ~1) + moved


def _text_bytes(path: Path) -> int:
    """Bytes of code that linking keeps."""
    with path.open("rb") as file:
        sections = [s for s in ELFFile(file).iter_sections() if s.name == ".text" or s.name.startswith(".rodata")]
        return sum(s["sh_size"] for s in sections)
