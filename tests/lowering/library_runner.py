"""Builds a plan into a shared library and runs it through the plain C interface."""

from __future__ import annotations

import ctypes
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from edgeprune.lowering.aot import emit_source
from edgeprune.lowering.arena import allocate
from edgeprune.lowering.constants import pack_constants
from edgeprune.lowering.link import Library, build_library
from edgeprune.lowering.plan import Plan, Port
from edgeprune.target import Target


def build(plan: Plan, target: Target) -> Library:
    packed = pack_constants(plan)
    return build_library(plan.functions, emit_source(plan, allocate(plan), packed, target), packed.blob, target)


def load(so: bytes) -> ctypes.CDLL:
    """A fresh copy of the library; its file is gone once it is mapped."""
    handle, path = tempfile.mkstemp(suffix=".so")
    os.write(handle, so)
    os.close(handle)
    try:
        library = ctypes.CDLL(path)
    finally:
        Path(path).unlink()
    for kind in ("input", "output"):
        getattr(library, f"edge_{kind}_name").restype = ctypes.c_char_p
        getattr(library, f"edge_{kind}_dtype").restype = ctypes.c_char_p
        getattr(library, f"edge_{kind}_dimension").restype = ctypes.c_int64
        getattr(library, f"edge_{kind}_bytes").restype = ctypes.c_size_t
    library.edge_memory.restype = ctypes.c_size_t
    for name in ("edge_step_name", "edge_target", "edge_error"):
        getattr(library, name).restype = ctypes.c_char_p
    return library


class Context:
    """One context of a loaded library; runs arrays by port name."""

    def __init__(
        self, library: ctypes.CDLL, inputs: tuple[Port, ...], outputs: tuple[Port, ...], threads: int = 1
    ) -> None:
        self.library, self.inputs, self.outputs = library, inputs, outputs
        self.handle = ctypes.c_void_p()
        code = library.edge_init(ctypes.byref(self.handle), None, ctypes.c_size_t(0), threads)
        assert code == 0, library.edge_error(code)

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        given = [np.ascontiguousarray(feeds[port.name], port.dtype) for port in self.inputs]
        made = {port.name: np.full(port.shape, 77, port.dtype) for port in self.outputs}
        code = self.library.edge_run(self.handle, pointers(given), pointers(list(made.values())))
        assert code == 0, self.library.edge_error(code)
        return made

    def profile(self, feeds: Mapping[str, np.ndarray]) -> list[int]:
        given = [np.ascontiguousarray(feeds[port.name], port.dtype) for port in self.inputs]
        made = [np.zeros(port.shape, port.dtype) for port in self.outputs]
        times = (ctypes.c_uint64 * self.library.edge_step_count())()
        assert self.library.edge_profile(self.handle, pointers(given), pointers(made), times) == 0
        return list(times)

    def close(self) -> None:
        self.library.edge_free(self.handle)


def pointers(arrays: list[np.ndarray]) -> ctypes.Array[ctypes.c_void_p]:
    return (ctypes.c_void_p * max(1, len(arrays)))(*[array.ctypes.data for array in arrays])
