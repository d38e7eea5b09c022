"""Single instructions, each in a function that loads registers, runs it, and stores them."""

from __future__ import annotations

import ctypes
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

STATE = np.dtype([("v", np.uint8, (4, 64)), ("rax", np.uint64), ("k1", np.uint64), ("k2", np.uint64),
                  ("flags", np.uint64), ("rest", np.uint8, 32), ("memory", np.uint8, 256)])  # fmt: skip
"""Vectors 0 to 3, of which the low 32 bytes count where the machine has no more, and memory at rsi."""

_FLAGS = 0x8D5
_RUN = """
{label}:
    .globl {label}
    mov rax, [rdi + 256]
    lea rsi, [rdi + 320]
{load}
    {instruction}
{store}
    mov [rdi + 256], rax
    pushfq
    pop rax
    mov [rdi + 280], rax
    ret
"""


def library(instructions: Sequence[str], wide: bool) -> bytes:
    """A shared library with functions i0, i1, ... of one instruction each, in Intel's syntax."""
    register, step = ("zmm", 64) if wide else ("ymm", 64)
    load = [f"    vmovups {register}{i}, [rdi + {step * i}]" for i in range(4)]
    store = [f"    vmovups [rdi + {step * i}], {register}{i}" for i in range(4)]
    if wide:
        load += ["    kmovq k1, [rdi + 264]", "    kmovq k2, [rdi + 272]"]
        store += ["    kmovq [rdi + 264], k1", "    kmovq [rdi + 272], k2"]
    functions = [
        _RUN.format(label=f"i{number}", instruction=text, load="\n".join(load), store="\n".join(store))
        for number, text in enumerate(instructions)
    ]
    with tempfile.TemporaryDirectory() as folder:
        source, shared = Path(folder, "single.s"), Path(folder, "single.so")
        source.write_text(".intel_syntax noprefix\n.text\n" + "".join(functions), encoding="ascii")
        flags = ["-shared", "-nostdlib", "-target", "x86_64-linux-gnu.2.34", "-mcpu=x86_64_v4+avx512vnni+avxvnni"]
        subprocess.run([sys.executable, "-m", "ziglang", "cc", *flags, str(source), "-o", str(shared)], check=True)
        return shared.read_bytes()


def run(function: Callable[[ctypes.c_void_p], None], state: np.ndarray) -> np.ndarray:
    """What `function` makes of a state; flags are those of arithmetic."""
    after = np.zeros(STATE.itemsize + 64, np.uint8)
    start = -after.ctypes.data % 64
    after = after[start : start + STATE.itemsize].view(STATE)
    after[:] = state
    function(ctypes.c_void_p(after.ctypes.data))
    after["flags"] &= _FLAGS
    return after.copy()


def random_state(seed: int, floats: bool) -> np.ndarray:
    """Registers and memory at random: any bits, or float32 values of all sizes with a few that are not finite."""
    rng = np.random.default_rng(seed)
    state = np.frombuffer(rng.bytes(STATE.itemsize), STATE).copy()
    if floats:
        for name in ("v", "memory"):
            count = state[name].size // 4
            values = rng.normal(size=count) * np.exp2(rng.integers(-30, 33, count))
            values[rng.random(count) < 0.15] = rng.choice([0.0, -0.0, np.inf, -np.inf, np.nan, 0.5, -1.5, 2.5, 1e38])
            state[name] = values.astype(np.float32).view(np.uint8).reshape(state[name].shape)
    return state
