"""A compiled model, the mailbox and the start of a chip, linked into the chip's memory."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from edgeprune.bare_model import BareModel, read_bare_model
from edgeprune.chip import Chip
from edgeprune.elf import Elf, read_elf
from edgeprune.errors import EdgepruneError
from edgeprune.firmware.boot import seal
from edgeprune.firmware.mlperf_tiny import SOURCES, MlperfTiny, check_clock
from edgeprune.firmware.room import check_arena, check_room
from edgeprune.firmware.script import linker_script
from edgeprune.target import Target
from edgeprune.toolchain import baseline, compile_c

STACK_BYTES = 4096
_SOURCES = ("mailbox.c", "memory.c", "arithmetic.c")
_STARTS = {"thumb": "start_cortex_m.c", "riscv32": "start_riscv.c"}
_BOOTS = {"vectors": (), "rp2040": ("boot_rp2040.c",), "rp2350": ("boot_rp2350.c",), "esp32": ()}
_HEADERS = ("mailbox.h", "counter.h", "uart.h", "mlperf_tiny.h", "long_arithmetic.h")
# zig takes the symbols away unless some debug information was asked for before it was declined.
_FLAGS = (
    *("-Os", "-std=gnu11", "-ffreestanding", "-ffunction-sections", "-fdata-sections", "-fno-stack-protector"),
    *("-fno-sanitize=all", "-fno-unwind-tables", "-fno-asynchronous-unwind-tables", "-static", "-nostdlib"),
    *("-gline-tables-only", "-g0"),
    *(
        "-Wl,--gc-sections",
        "-Wl,--build-id=none",
        "-Wl,--entry=edge_start",
        "-Wl,-z,max-page-size=16",
        "-T",
        "firmware.ld",
        "-Wno-unused-command-line-argument",
    ),
)
_WITH_CACHES = ("cortex-m7", "cortex-m55")


@dataclass(frozen=True)
class Firmware:
    """A linked program for `chip`: sizes in bytes, addresses as the chip sees them.

    `flash_bytes` is what it takes of flash, `ram_bytes` of memory with arena, stack and mailbox.
    """

    elf: bytes
    chip: Chip
    model: BareModel
    flash_bytes: int
    ram_bytes: int
    mailbox_address: int
    arena_address: int


def link_firmware(
    library: bytes,
    header: str,
    chip: Chip,
    target: Target,
    *,
    arena_bytes: int,
    steps: Sequence[str],
    digest: bytes = bytes(8),
    bootloader_bytes: int = 0,
    stack_bytes: int = STACK_BYTES,
    uart: bool = False,
    mlperf_tiny: MlperfTiny | None = None,
    keeps: bool = False,
) -> Firmware:
    """The firmware of the static library `library` (libmodel.a) with its edge_model.h; the same input, the same bytes.

    `steps` are the names of what the library runs, in order; they stay with the host. `digest` is what tells the host
    which library it holds: the first 8 bytes of its SHA-256; with `uart` it is asked over the chip's serial line too.
    With `mlperf_tiny` EEMBC's runner is served instead, over that line or one in memory. `keeps`: whether something
    goes from one run to the next, which is reset at the start and when the host asks. Raises EdgepruneError:
    firmware-target, firmware-unsupported, firmware-clock; firmware-ram-full and firmware-flash-full with the numbers;
    firmware-facts; link-failed.
    """
    _check(chip, target)
    check_arena(chip, arena_bytes, stack_bytes)
    facts = {
        "EDGE_ARENA_BYTES": max(arena_bytes, 16),
        "EDGE_STEPS": max(len(steps), 1),
        "EDGE_CLOCK_HZ": round(chip.reset_mhz * 1e6),
        "EDGE_LIBRARY_FIRST": int.from_bytes(digest[:4], "little"),
        "EDGE_LIBRARY_SECOND": int.from_bytes(digest[4:8], "little"),
        **({"EDGE_CACHES": 1} if target.cpu in _WITH_CACHES else {}),
        **({"EDGE_ESP32": 1} if chip.boot == "esp32" else {}),
        **({"EDGE_KEEPS": 1} if keeps else {}),
    }
    sources = [_start(target), *_SOURCES, *_BOOTS[chip.boot], *_line_sources(chip, uart, mlperf_tiny)]
    files = {name: _source(name) for name in (*sources, *_HEADERS)}
    files |= {"edge_model.h": header, "firmware.ld": linker_script(chip, stack_bytes, bootloader_bytes)}
    defines = [f"-D{name}={value}u" for name, value in facts.items()]
    if mlperf_tiny is not None:
        check_clock(chip)
        defines += mlperf_tiny.defines()
    content = _linked(target, files, library, defines, sources)
    content = seal(content, chip)
    elf = read_elf(content)
    model = read_bare_model(elf, steps, keeps)
    _check_facts(model, arena_bytes)
    room = check_room(chip, elf, model.name, bootloader_bytes, stack_bytes)
    return Firmware(content, chip, model, *room, elf.symbol("edge_mailbox"), elf.symbol("edge_arena"))


def _linked(target: Target, files: dict[str, str], library: bytes, defines: list[str], sources: list[str]) -> bytes:
    with tempfile.TemporaryDirectory(prefix="edgeprune-") as name:
        folder = Path(name)
        for file, text in files.items():
            (folder / file).write_text(text, encoding="utf-8")
        (folder / "libmodel.a").write_bytes(library)
        arguments = [baseline(target), *_FLAGS, *defines, *sources, "libmodel.a", "-o", "firmware.elf"]
        try:
            compile_c(target, arguments, folder)
        except EdgepruneError as error:
            if "undefined symbol: __" not in error.what:
                raise
            # What the core lacks, such as division, is in zig's own library, which takes a while to build.
            compile_c(target, [word for word in arguments if word != "-nostdlib"], folder)
        return (folder / "firmware.elf").read_bytes()


def _line_sources(chip: Chip, uart: bool, mlperf_tiny: MlperfTiny | None) -> tuple[str, ...]:
    """What serves a line, and what that line is; nothing where the mailbox is all."""
    if mlperf_tiny is not None:
        return (*SOURCES, f"uart_{chip.uart if chip.uart and uart else 'memory'}.c")
    return ("uart.c", f"uart_{chip.uart}.c") if chip.uart and uart else ()


def _start(target: Target) -> str:
    """The file that starts the target's core; nothing where there is none."""
    return next((file for machine, file in _STARTS.items() if target.machine.startswith(machine)), "")


def _source(name: str) -> str:
    return (resources.files("edgeprune.firmware") / name).read_text(encoding="utf-8")


def _check(chip: Chip, target: Target) -> None:
    if chip.target != target.name:
        what = f"the package was compiled for {target.name}, and chip {chip.name} is a {chip.target}"
        hint = f"compile it for this chip: --target {chip.target}"
        raise EdgepruneError("firmware-target", what, where=f"chip {chip.name}", hint=hint)
    if chip.boot not in _BOOTS or not _start(target):
        what = f"no firmware can be made for chip {chip.name} yet"
        hint = "put the C library of the package into a project of the vendor's"
        raise EdgepruneError("firmware-unsupported", what, where=f"chip {chip.name}", hint=hint)


def _check_facts(model: BareModel, arena_bytes: int) -> None:
    if model.arena_bytes > arena_bytes:
        what = f"the library wants an arena of {model.arena_bytes} bytes, and the package tells of {arena_bytes}"
        raise EdgepruneError("firmware-facts", what, where="libmodel.a", hint="compile the package again")


def image_parts(elf: Elf) -> list[tuple[int, bytes]]:
    """What a flasher writes: (address, bytes)."""
    return [(segment.load, segment.data) for segment in elf.segments]
