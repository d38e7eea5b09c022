"""From TensorIR functions, C and constants to one shared library that needs only libc."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from edgeprune.cache import Cache, content_key, open_cache
from edgeprune.lowering.compile import Compiled, compile_apart
from edgeprune.target import Target
from edgeprune.toolchain import baseline, compile_c, link_failed, toolchain_facts

_EXPORTS = "{ global: edge_*; local: *; };\n"
_CONSTANTS = """\
    .section .rodata.edge_constants,"a",%progbits
    .balign 64
    .globl edge_constants
    .hidden edge_constants
edge_constants:
    .incbin "constants.bin"
    .zero 64
    .section .note.GNU-stack,"",%progbits
"""
_KIND = "runtime"
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


def build_library(
    functions: Mapping[str, Any], sources: Mapping[str, str], blob: bytes, target: Target, cache: Cache | None = None
) -> Library:
    """Compile `functions` (pointer-argument TensorIR, by symbol) and the C `sources`, with `blob` as edge_constants.

    The same input gives the same bytes; what was compiled before comes from `cache`, by default the user's. Raises
    EdgepruneError (link-failed) with the tool's last lines.
    """
    cache = open_cache() if cache is None else cache
    kernels = compile_apart(functions, target, cache)
    objects = {**_runtime_objects(target, cache), **kernels.objects}
    with tempfile.TemporaryDirectory(prefix="edgeprune-") as name:
        folder = Path(name)
        headers = {file: text for file, text in runtime_files().items() if file.endswith(".h")}
        files = {**headers, **sources, "symbols.h": _renamed(kernels), "constants.s": _CONSTANTS}
        for file, text in {**files, "exports.map": _EXPORTS}.items():
            (folder / file).write_text(text, encoding="utf-8")
        for file, data in {**objects, "constants.bin": blob}.items():
            (folder / file).write_bytes(data)
        texts = sorted(file for file in sources if file.endswith(".c"))
        inputs = [*objects, "-include", "symbols.h", *texts, "constants.s"]
        compile_c(target, [*_C_FLAGS, baseline(target), *_LINK_FLAGS, *inputs, "-o", "model.so"], folder)
        so = (folder / "model.so").read_bytes()
    if b"\0libm.so" in so:
        raise link_failed("a kernel calls a function of libm that kernels/runtime does not have")
    return Library(so, len(so) - len(blob))


def _renamed(kernels: Compiled) -> str:
    """A header that leads the names in the generated C to the symbols of the objects."""
    return "".join(f"#define {name} {symbol}\n" for name, symbol in kernels.symbols.items())


def _runtime_objects(target: Target, cache: Cache) -> dict[str, bytes]:
    """The C of the runtime, compiled, by file name: any machine must run it, to tell that its kernels cannot."""
    files = runtime_files()
    everything = [part for pair in files.items() for part in pair]
    facts = (*toolchain_facts(target), *_C_FLAGS, baseline(target))
    sources = [file for file in files if file.endswith(".c")]

    def made(file: str) -> bytes:
        return cache.made(_KIND, content_key(file, *facts, *everything), lambda: _runtime_object(file, files, target))

    with ThreadPoolExecutor() as pool:
        objects = pool.map(made, sources)
        return {f"{Path(file).stem}.o": data for file, data in zip(sources, objects, strict=True)}


def _runtime_object(file: str, files: Mapping[str, str], target: Target) -> bytes:
    with tempfile.TemporaryDirectory(prefix="edgeprune-") as name:
        folder = Path(name)
        for other, text in files.items():
            (folder / other).write_text(text, encoding="utf-8")
        compile_c(target, [*_C_FLAGS, baseline(target), "-c", file, "-o", "runtime.o"], folder)
        return (folder / "runtime.o").read_bytes()
