"""Instructions counted while unicorn runs: a function of C for each block, as one of Python would take minutes."""

from __future__ import annotations

import ctypes
import tempfile
from pathlib import Path
from typing import Any

from edgeprune.deploy.unicorn_core import unicorn_module
from edgeprune.elf import Elf
from edgeprune.emulate.counter import build_block_counter
from edgeprune.errors import EdgepruneError

_MOST_REGIONS = 1 << 16


class _Counter(ctypes.Structure):
    _fields_ = (
        ("code", ctypes.c_char_p),
        ("start", ctypes.c_uint64),
        ("bytes", ctypes.c_uint64),
        ("known", ctypes.c_void_p),
        ("regions", ctypes.POINTER(ctypes.c_uint64)),
        ("most_regions", ctypes.c_uint64),
        ("region_count", ctypes.c_uint64),
        ("begin", ctypes.c_uint64),
        ("end", ctypes.c_uint64),
        ("executed", ctypes.c_uint64),
        ("begun_at", ctypes.c_uint64),
        ("riscv", ctypes.c_uint32),
        ("inside", ctypes.c_uint32),
        ("outside", ctypes.c_uint32),
    )


class BlockCounter:
    """Counts on `machine`, from now on, what the program `elf` executes between its marks."""

    def __init__(self, machine: Any, elf: Elf, *, riscv: bool) -> None:
        """Raises EdgepruneError: link-failed; emulator-missing where unicorn is too old."""
        start, code = _code(elf)
        self._code = code
        self._known = (ctypes.c_uint32 * (len(code) + 2))()
        self._regions = (ctypes.c_uint64 * _MOST_REGIONS)()
        self._counter = _Counter(
            code=self._code,
            start=start,
            bytes=len(code),
            known=ctypes.addressof(self._known),
            regions=self._regions,
            most_regions=_MOST_REGIONS,
            begin=elf.symbol("edge_mark_begin"),
            end=elf.symbol("edge_mark_end"),
            riscv=riscv,
        )
        self._library = _library()
        self._attach(machine)

    def take(self) -> list[int]:
        """Instructions of each region, in order, since last taken. Raises EdgepruneError (emulator-failed)."""
        count = self._counter.region_count
        if self._counter.outside or count > _MOST_REGIONS:
            what = "code outside flash is not counted" if self._counter.outside else f"{count} regions are too many"
            raise EdgepruneError("emulator-failed", what, where="--board", hint="report this with the package")
        self._counter.region_count = 0
        return self._regions[:count]

    def _attach(self, machine: Any) -> None:
        uc = unicorn_module("unicorn")
        try:
            from unicorn.unicorn_py3.unicorn import uclib

            handle = machine._uch
        except (ImportError, AttributeError) as error:
            what = "this version of unicorn cannot count instructions"
            raise EdgepruneError("emulator-missing", what, where="--board", hint="pip install unicorn>=2.1") from error
        self._hook = ctypes.c_size_t()
        function = ctypes.cast(self._library.edge_count_block, ctypes.c_void_p)
        counter = ctypes.cast(ctypes.pointer(self._counter), ctypes.c_void_p)
        places = (ctypes.c_uint64(1), ctypes.c_uint64(0))
        status = uclib.uc_hook_add(handle, ctypes.byref(self._hook), uc.UC_HOOK_BLOCK, function, counter, *places)
        if status != uc.UC_ERR_OK:
            raise EdgepruneError(
                "emulator-failed", f"unicorn gave error {status}", where="--board", hint="report this with the package"
            )
        machine.ctl_flush_tb()


def _code(elf: Elf) -> tuple[int, bytes]:
    """Where the flash begins, and its bytes."""
    start = min(segment.load for segment in elf.segments)
    content = bytearray(max(segment.load + len(segment.data) for segment in elf.segments) - start)
    for segment in elf.segments:
        content[segment.load - start : segment.load - start + len(segment.data)] = segment.data
    return start, bytes(content)


def _library() -> ctypes.CDLL:
    with tempfile.TemporaryDirectory(prefix="edgeprune-") as folder:
        path = Path(folder) / "count_blocks.so"
        path.write_bytes(build_block_counter())
        return ctypes.CDLL(str(path))
