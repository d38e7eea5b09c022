"""From TensorIR functions, C and constants to one shared library that needs only libc."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from edgeprune.errors import EdgepruneError
from edgeprune.lowering.compile import compile_object
from edgeprune.target import Target

_GLIBC = "2.34"
_EXPORTS = "{ global: edge_*; local: *; };\n"
_CONSTANTS = """\
    .section .rodata.edge_constants,"a",@progbits
    .balign 64
    .globl edge_constants
    .hidden edge_constants
edge_constants:
    .incbin "constants.bin"
    .zero 64
    .section .note.GNU-stack,"",@progbits
"""
_C_FLAGS = (
    "-O2",
    "-std=gnu11",
    "-fPIC",
    "-fvisibility=hidden",
    "-ffunction-sections",
    "-fno-stack-protector",
    "-fno-sanitize=all",
    "-fno-builtin",
    "-fno-math-errno",
    "-g0",
    "-Wno-unused-command-line-argument",
)
_LINK_FLAGS = (
    "-shared",
    "-s",
    "-nostartfiles",
    "-Wl,--gc-sections",
    "-Wl,-z,noexecstack",
    "-Wl,--build-id=none",
    "-Wl,--version-script=exports.map",
)


@dataclass(frozen=True)
class Library:
    """A shared library; `code_bytes` is its size less the constants it carries."""

    so: bytes
    code_bytes: int


def runtime_files() -> dict[str, str]:
    """The C sources and headers that every library is built with, by file name."""
    folder = resources.files("edgeprune.kernels.runtime")
    found = sorted(
        (entry for entry in folder.iterdir() if entry.name.endswith((".c", ".h"))), key=lambda entry: entry.name
    )
    return {entry.name: entry.read_text(encoding="utf-8") for entry in found}


def build_library(functions: Mapping[str, Any], sources: Mapping[str, str], blob: bytes, target: Target) -> Library:
    """Compile `functions` (pointer-argument TensorIR, by symbol) and the C `sources`, with `blob` as edge_constants.

    The same input gives the same bytes. Raises EdgepruneError (link-failed) with the
    tool's last lines.
    """
    with tempfile.TemporaryDirectory(prefix="edgeprune-") as name:
        folder = Path(name)
        files = {**runtime_files(), **sources, "constants.s": _CONSTANTS, "exports.map": _EXPORTS}
        for file, text in files.items():
            (folder / file).write_text(text, encoding="utf-8")
        (folder / "constants.bin").write_bytes(blob)
        _link(_compile_functions(functions, target, folder), target, folder)
        so = (folder / "model.so").read_bytes()
    if b"\0libm.so" in so:
        raise _failed("a kernel calls a function of libm that kernels/runtime does not have")
    return Library(so, len(so) - len(blob))


def _compile_functions(functions: Mapping[str, Any], target: Target, folder: Path) -> list[str]:
    if not functions:
        return []
    compile_object(functions, target, folder / "kernels.o")
    return ["kernels.o"]


def _link(objects: list[str], target: Target, folder: Path) -> None:
    sources = sorted(path.name for path in folder.glob("*.c"))
    # Baseline instructions only: this code must run on any machine to tell that its kernels cannot.
    _zig(target, [*_C_FLAGS, "-mcpu=x86_64", *_LINK_FLAGS, *objects, *sources, "constants.s", "-o", "model.so"], folder)


def _zig_triple(target: Target) -> str:
    machine = target.triple.split("-")[0]
    return f"{machine}-linux-gnu.{_GLIBC}"


def _zig(target: Target, arguments: list[str], folder: Path) -> None:
    command = [sys.executable, "-m", "ziglang", "cc", "-target", _zig_triple(target), *arguments]
    environment = {**os.environ, "ZIG_LOCAL_CACHE_DIR": str(folder / "cache"), "SOURCE_DATE_EPOCH": "0"}
    try:
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, errors="replace", check=False
        )
    except OSError as error:
        raise _failed(str(error)) from error
    if done.returncode != 0:
        raise _failed(f"{done.stdout}\n{done.stderr}")


def _failed(output: str) -> EdgepruneError:
    last = [line for line in output.splitlines() if line.strip()][-8:]
    return EdgepruneError(
        "link-failed",
        "the C compiler did not build the library:\n" + "\n".join(last),
        where="stage lowering",
        hint="check free disk space and that the package `ziglang` is whole; else report this model",
    )
