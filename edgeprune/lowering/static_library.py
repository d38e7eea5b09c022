"""From a plan to a static library for microcontrollers: kernels, weights and the C that calls them."""

from __future__ import annotations

import io
import re
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
from elftools.elf.elffile import ELFFile

from edgeprune.cache import Cache, open_cache
from edgeprune.errors import EdgepruneError
from edgeprune.lowering.arena import Arena
from edgeprune.lowering.compile import Compiled, compile_apart
from edgeprune.lowering.link import runtime_files
from edgeprune.lowering.overlap import allocate_overlapping
from edgeprune.lowering.plan import Call, Layer, Plan
from edgeprune.lowering.static_program import NAMES_SOURCE, SOURCE_NAME, emit_static_source, emit_step_names
from edgeprune.target import Target
from edgeprune.toolchain import baseline, compile_c, run_zig

HEADER = "edge_model.h"
ARCHIVE = "libmodel.a"
_ALIGNMENT = 8
_CONSTANTS = """\
    .section .rodata.edge_constants,"a",%progbits
    .balign 16
    .globl edge_constants
    .hidden edge_constants
edge_constants:
    .incbin "constants.bin"
"""
_C_FLAGS = (
    *("-Os", "-std=gnu11", "-ffreestanding", "-ffunction-sections", "-fdata-sections", "-fno-stack-protector"),
    *("-fno-sanitize=all", "-fno-unwind-tables", "-fno-asynchronous-unwind-tables", "-fno-math-errno", "-g0"),
    "-Wno-unused-command-line-argument",
)
_SHARED_SOURCES = ("border.c", "math_exponential.c", "math_circular.c", "math_rounding.c")
_SHARED = (*_SHARED_SOURCES, "border.h", "elementary.h")
"""The files of the runtime that need no operating system."""
_ANYWHERE = frozenset({"memcpy", "memset", "memmove"})
_ALLOC = 2
_DOUBLE = re.compile(r"__aeabi_(?:d\w+|\w+2d)|__\w*df\d?|__\w*df[sd]i|__fix\w*df\w*")
"""Functions of compilers for float64."""
_UNUSED_SECTIONS = (".text.tvm.", ".ARM.exidx", ".ARM.extab", ".eh_frame")
"""Sections that no linker keeps, for nothing refers to them: TVM adds conversions of 16-bit floats to every object."""


@dataclass(frozen=True)
class StaticLibrary:
    """`archive` is libmodel.a, whose members define edge_run and edge_model; sizes in bytes.

    `weights_bytes` are the constants in flash, `code_bytes` all else that is stored there but the names of steps, which
    programs need not hold, `arena` the memory plan.
    """

    archive: bytes
    sources: dict[str, str]
    layers: tuple[Layer, ...]
    arena: Arena
    weights_bytes: int
    code_bytes: int


def build_static(plan: Plan, target: Target, name: str, cache: Cache | None = None) -> StaticLibrary:
    """Compile `plan` for a microcontroller and archive it. The same plan gives the same bytes.

    Raises EdgepruneError: double-unsupported, naming the layer; link-failed.
    """
    arena = allocate_overlapping(plan)
    blob, offsets = _packed(plan)
    program, names = emit_static_source(plan, arena, offsets, target, name), emit_step_names(plan)
    kernels = compile_apart(plan.functions, target, open_cache() if cache is None else cache)
    _refuse_doubles(plan, kernels, target)
    headers = {file: text for file, text in static_files().items() if file.endswith(".h")}
    with tempfile.TemporaryDirectory(prefix="edgeprune-") as folder:
        objects = _objects(Path(folder), program, kernels, blob, target)
        archive = _archived(Path(folder), [*objects, _names_object(Path(folder), names, target)])
    return StaticLibrary(
        archive=archive,
        sources={**headers, SOURCE_NAME: program, NAMES_SOURCE: names},
        layers=tuple(step.layer for step in plan.steps if isinstance(step, Call)),
        arena=arena,
        weights_bytes=len(blob),
        code_bytes=sum(map(_stored_bytes, objects.values())) - len(blob),
    )


def _refuse_doubles(plan: Plan, kernels: Compiled, target: Target) -> None:
    """Raises EdgepruneError (double-unsupported) where a kernel calls functions for what the core cannot do."""
    for step in plan.steps:
        if not isinstance(step, Call):
            continue
        called = _symbols(kernels.objects[f"{kernels.symbols[step.symbol]}.o"], defined=False)
        if any(_DOUBLE.fullmatch(symbol) for symbol in called):
            what = f"'{step.layer.name}' computes in float64, and a {target.name} has no such instructions"
            where = f"node '{step.layer.name}' ({step.layer.op}), stage lowering"
            hint = "export the model in float32, or quantize it (--precision int8)"
            raise EdgepruneError("double-unsupported", what, where=where, hint=hint)


def static_files() -> dict[str, str]:
    """The C sources and headers of the runtime that need no operating system, by file name."""
    folder = resources.files("edgeprune.kernels.static_runtime")
    own = {entry.name: entry.read_text(encoding="utf-8") for entry in folder.iterdir() if entry.name.endswith(".h")}
    shared = {file: text for file, text in runtime_files().items() if file in _SHARED}
    return dict(sorted((own | shared).items()))


def plain_sizes(plan: Plan) -> dict[str, int]:
    """Bytes that each constant takes as it is stored, by name; of equal ones all but the first count nothing."""
    known: set[bytes] = set()
    sizes = {}
    for constant in plan.constants:
        data = np.ascontiguousarray(constant.value).tobytes()
        sizes[constant.name] = 0 if data in known else len(data) + -len(data) % _ALIGNMENT
        known.add(data)
    return sizes


def _packed(plan: Plan) -> tuple[bytes, dict[str, int]]:
    """All constants in the order in which they are read, equal ones once, and the offset of each."""
    blob = bytearray()
    known: dict[bytes, int] = {}
    offsets = {}
    for constant in plan.constants:
        data = np.ascontiguousarray(constant.value).tobytes()
        if data not in known:
            known[data] = len(blob)
            blob += data + bytes(-len(data) % _ALIGNMENT)
        offsets[constant.name] = known[data]
    return bytes(blob), offsets


def _objects(folder: Path, program: str, kernels: Compiled, blob: bytes, target: Target) -> dict[str, bytes]:
    """The object files by name: the program, its constants, its kernels, and what these need of the runtime."""
    renamed = "".join(f"#define {name} {symbol}\n" for name, symbol in kernels.symbols.items())
    texts = {**static_files(), SOURCE_NAME: program, "symbols.h": renamed, "constants.s": _CONSTANTS}
    for file, text in texts.items():
        (folder / file).write_text(text, encoding="utf-8")
    for file, data in {**kernels.objects, "constants.bin": blob}.items():
        (folder / file).write_bytes(data)
    flags = [*_C_FLAGS, baseline(target)]
    compile_c(target, [*flags, "-include", "symbols.h", "-c", SOURCE_NAME, "-o", "model.o"], folder)
    compile_c(target, [baseline(target), "-c", "constants.s", "-o", "constants.o"], folder)
    found = {"model.o": (folder / "model.o").read_bytes(), "constants.o": (folder / "constants.o").read_bytes()}
    found |= dict(sorted(kernels.objects.items()))
    for file in _SHARED_SOURCES if _missing(found.values()) else ():
        compile_c(target, [*flags, "-c", file, "-o", f"{Path(file).stem}.o"], folder)
        part = (folder / f"{Path(file).stem}.o").read_bytes()
        if _symbols(part, defined=True) & _missing(found.values()):
            found[f"{Path(file).stem}.o"] = part
    return found


def _names_object(folder: Path, names: str, target: Target) -> str:
    """The file name of an object that holds the names of the steps and nothing else."""
    (folder / NAMES_SOURCE).write_text(names, encoding="utf-8")
    compile_c(target, [*_C_FLAGS, baseline(target), "-c", NAMES_SOURCE, "-o", "names.o"], folder)
    return "names.o"


def _missing(objects: Iterable[bytes]) -> set[str]:
    """The symbols that some of `objects` use and none defines."""
    parts = list(objects)
    used = set().union(*(_symbols(part, defined=False) for part in parts))
    return used - set().union(*(_symbols(part, defined=True) for part in parts)) - _ANYWHERE


def _symbols(data: bytes, defined: bool) -> set[str]:
    table = ELFFile(io.BytesIO(data)).get_section_by_name(".symtab")
    entries = [] if table is None else list(table.iter_symbols())
    return {entry.name for entry in entries if entry.name and (entry["st_shndx"] != "SHN_UNDEF") == defined}


def _stored_bytes(data: bytes) -> int:
    """What an object file puts into flash."""
    sections = ELFFile(io.BytesIO(data)).iter_sections()
    stored = [section for section in sections if section["sh_flags"] & _ALLOC and section["sh_type"] == "SHT_PROGBITS"]
    return sum(section["sh_size"] for section in stored if not section.name.startswith(_UNUSED_SECTIONS))


def _archived(folder: Path, objects: list[str]) -> bytes:
    run_zig(["ar", "rcsD", ARCHIVE, *objects], folder)
    return (folder / ARCHIVE).read_bytes()
