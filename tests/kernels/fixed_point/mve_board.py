"""Runs a kernel compiled for a Cortex-M55 in QEMU, which knows its vectors; unicorn does not.

    found = on_vectors(kernel, inputs, output)
    found = on_vectors(kernel, inputs, output, over=(0, d))   # the output lies d bytes after where input 0 begins

A program calls the kernel on memory that is there from the start and writes it to a file. What changes outside output
and scratch is an AssertionError.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeprune.kernels.abi import Kernel
from edgeprune.lowering.compile import compile_object
from edgeprune.target import load_target

_PROGRAM, _MACHINE = "qemu-system-arm", "mps3-an547"
_MEMORY = 0x21000000
_ARGUMENTS = 12
_GAP = 64
_FILL = 0xA5
_SCRIPT = """ENTRY(start)
SECTIONS { . = 0; .text : { KEEP(*(.vectors)) *(.text*) *(.rodata*) } /DISCARD/ : { *(.ARM.*) *(.debug*) } }
"""
_START = """
typedef unsigned word;
extern void kernel(word, word, word, word, word, word, word, word, word, word, word, word);
void start(void);
__attribute__((section(".vectors"), used)) static const word vectors[16] = {
  STACK, (word)start, (word)start, (word)start };
__attribute__((naked)) static word host(word call, const void *block) { __asm__("bkpt 0xab\\n bx lr"); }
void start(void) {
  word *all = (word *)MEMORY, size = all[0], *a = all + 1;
  static const char name[] = "after.bin";
  *(volatile word *)0xE000ED88 |= 0xFu << 20;
  __asm__ volatile("dsb\\n isb");
  kernel(a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7], a[8], a[9], a[10], a[11]);
  word open[] = {(word)name, 5, sizeof name - 1};
  word put[] = {host(1, open), MEMORY, size};
  host(5, put);
  host(0x18, (void *)0x20026); }
void *memcpy(char *to, const char *from, word n) { for (word i = 0; i < n; i++) to[i] = from[i]; return to; }
void *memset(char *to, int value, word n) { for (word i = 0; i < n; i++) to[i] = (char)value; return to; }
"""


def needs_qemu() -> Any:
    """A mark that skips where QEMU is not installed."""
    return pytest.mark.skipif(shutil.which(_PROGRAM) is None, reason=f"{_PROGRAM} is not installed")


def on_vectors(
    kernel: Kernel, inputs: Sequence[np.ndarray], output: np.ndarray, over: tuple[int, int] | None = None
) -> np.ndarray:
    """What all units of `kernel` write: an array as `output`, whose content stays what it was where none is written."""
    header = 4 * (1 + _ARGUMENTS)
    memory, places, writable = bytearray(b"\xa5" * (-(-header // _GAP) * _GAP)), [], []

    def put(data: bytes, room: int = 0) -> int:
        at = len(memory)
        memory.extend(data.ljust(room, b"\xa5") + b"\xa5" * (_GAP + -max(len(data), room) % 16))
        return at

    for number, array in enumerate(inputs):
        ahead = -min(0, over[1]) if over and over[0] == number else 0
        room = over[1] + output.nbytes if over and over[0] == number else 0
        places.append(put(b"\xa5" * (-(-ahead // 16) * 16) + array.tobytes(), -(-ahead // 16) * 16 + room)
                      + -(-ahead // 16) * 16)  # fmt: skip
    places += [put(constant.tobytes()) for constant in kernel.constants]
    if kernel.scratch_bytes:
        places.append(put(b"", kernel.scratch_bytes))
        writable.append((places[-1], kernel.scratch_bytes))
    places.append(put(output.tobytes()) if over is None else places[over[0]] + over[1])
    writable.append((places[-1], output.nbytes))
    words = [len(memory), *(_MEMORY + place for place in places), 0, kernel.units]
    memory[: 4 * len(words)] = np.array(words, "<u4").tobytes()
    after = np.frombuffer(_ran(_program(kernel.func), bytes(memory)), np.uint8)
    changed = after != np.frombuffer(bytes(memory), np.uint8)
    for at, count in writable:
        changed[at : at + count] = False
    assert not changed.any(), f"wrote bytes {np.flatnonzero(changed)[:8]}, may write {writable}"
    return after[places[-1] : places[-1] + output.nbytes].view(output.dtype).reshape(output.shape)


def check_vectors(kernel: Kernel, inputs: Sequence[np.ndarray], want: np.ndarray) -> None:
    """`want` comes bit for bit, apart from the inputs and as near to each as the kernel allows."""
    found = on_vectors(kernel, inputs, np.empty_like(want))
    np.testing.assert_array_equal(found, want)
    for number, distance in enumerate(kernel.overlaps):
        if distance is not None:
            found = on_vectors(kernel, inputs, np.empty_like(want), (number, distance))
            np.testing.assert_array_equal(found, want, f"{distance} bytes after input {number}")


def _ran(program: Path, memory: bytes) -> bytes:
    """The memory afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "before.bin").write_bytes(memory)
        command = [_PROGRAM, "-M", _MACHINE, "-display", "none", "-monitor", "none", "-serial", "none"]
        command += ["-semihosting-config", "enable=on,target=native", "-kernel", str(program)]
        command += ["-device", f"loader,file=before.bin,addr={_MEMORY:#x},force-raw=on"]
        done = subprocess.run(command, cwd=folder, capture_output=True, timeout=60)
        assert done.returncode == 0, done.stderr.decode()
        return Path(folder, "after.bin").read_bytes()


_programs: dict[int, tuple[object, Path]] = {}


def _program(function: Any) -> Path:
    if id(function) not in _programs:
        folder = _folder()
        path = folder / f"{len(_programs)}.elf"
        compile_object({"kernel": function}, load_target("cortex-m55"), folder / "kernel.o")
        command = [sys.executable, "-m", "ziglang", "ld.lld", "-T", "script.ld", "start.o", "kernel.o", "-o", str(path)]
        subprocess.run(command, check=True, cwd=folder, capture_output=True)
        _programs[id(function)] = (function, path)
    return _programs[id(function)][1]


@cache
def _folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="edgeprune-vectors-"))
    (folder / "start.c").write_text(_START)
    (folder / "script.ld").write_text(_SCRIPT)
    command = [sys.executable, "-m", "ziglang", "cc", "-target", "thumb-freestanding-eabihf", "-mcpu=cortex_m55",
               f"-DMEMORY={_MEMORY:#x}u", "-DSTACK=0x20070000", "-O1", "-ffreestanding", "-fno-builtin",
               "-fno-sanitize=all", "-c", "start.c", "-o", "start.o"]  # fmt: skip
    subprocess.run(command, check=True, cwd=folder, capture_output=True)
    return folder
