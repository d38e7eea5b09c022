"""The C compiler and linker of every target: `ziglang`, from pip."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Literal

from edgeprune.errors import EdgepruneError
from edgeprune.target import Target

Libc = Literal["default", "musl"]

_GLIBC = {"x86_64": "2.34"}
_OLDEST_GLIBC = "2.28"
_GNU = {"armv7": ("arm", "gnueabihf", "musleabihf")}
_BASELINE = {"x86_64": "x86_64"}
_FLOATS = {
    "cortex-m4": "+vfp4d16sp",
    "cortex-m7": "+fp_armv8d16sp",
    "cortex-m33": "+fp_armv8d16sp",
    "cortex-m55": "+fp_armv8d16sp+mve_fp",
}
"""What zig leaves out of a core that has floating point; the M7's doubles stay out, as not every chip has them."""


def zig_triple(target: Target, libc: Libc = "default") -> str:
    """What zig calls `target`: glibc of an age that boards have, or musl, which is bionic's like for Android."""
    if target.bare:
        return _bare_triple(target)
    machine, gnu, musl = _GNU.get(target.machine, (target.machine, "gnu", "musl"))
    if libc == "musl" or target.triple.endswith("android"):
        return f"{machine}-linux-{musl}"
    return f"{machine}-linux-{gnu}.{_GLIBC.get(target.machine, _OLDEST_GLIBC)}"


def _bare_triple(target: Target) -> str:
    machine = "thumb" if target.machine.startswith("thumb") else target.machine
    return f"{machine}-freestanding-{target.triple.split('-')[-1] if machine == 'thumb' else 'none'}"


def baseline(target: Target) -> str:
    """The flag for code that any machine of the target's architecture runs, or that one microcontroller's core."""
    if target.bare:
        floats = _FLOATS.get(target.cpu, "") if target.triple.endswith("hf") else ""
        return f"-mcpu={target.cpu.replace('-', '_')}{floats}{''.join(target.features)}"
    return f"-mcpu={_BASELINE.get(target.machine, 'baseline')}"


def toolchain_facts(target: Target, libc: Libc = "default") -> tuple[str, ...]:
    """All of the compiler that its output depends on, flags apart."""
    return version("ziglang"), zig_triple(target, libc)


def compile_c(target: Target, arguments: list[str], folder: Path, libc: Libc = "default") -> None:
    """Run the compiler for `target` in `folder`. Raises EdgepruneError (link-failed) with its last lines."""
    run_zig(["cc", "-target", zig_triple(target, libc), *arguments], folder)


def run_zig(arguments: list[str], folder: Path) -> None:
    """Run zig in `folder`, where it keeps what it makes. Raises EdgepruneError (link-failed) with its last lines."""
    environment = {**os.environ, "ZIG_LOCAL_CACHE_DIR": str(folder / "cache"), "SOURCE_DATE_EPOCH": "0"}
    command = [sys.executable, "-m", "ziglang", *arguments]
    try:
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, errors="replace", check=False
        )
    except OSError as error:
        raise link_failed(str(error)) from error
    if done.returncode != 0:
        raise link_failed(f"{done.stdout}\n{done.stderr}")


def link_failed(output: str) -> EdgepruneError:
    """The error that ends with the last lines of what a tool said."""
    last = [line for line in output.splitlines() if line.strip()][-8:]
    return EdgepruneError(
        "link-failed",
        "the C compiler did not build the library:\n" + "\n".join(last),
        where="stage lowering",
        hint="check free disk space and that the package `ziglang` is whole; else report this model",
    )
