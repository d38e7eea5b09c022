"""Compiles kernels to a shared library and calls them with numpy arrays."""

from __future__ import annotations

import ctypes
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np

from edgeprune.kernels.abi import Kernel, View
from edgeprune.lowering.compile import compile_object
from edgeprune.target import Target, load_target


@cache
def target() -> Target:
    """The target kernels are compiled for here: AVX2 at most, so that no lane count needs another machine."""
    host = load_target("host")
    return load_target("x86-64-v3") if host.vector_bytes > 32 else host


class Compiled:
    """One kernel's function, callable; compiled functions are kept by PrimFunc so that equal shapes compile once."""

    _libraries: dict[int, tuple[object, ctypes.CDLL]] = {}  # noqa: RUF012

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        key = id(kernel.func)
        if key not in self._libraries:
            self._libraries[key] = (kernel.func, library({"kernel": kernel.func}))
        self._run = self._libraries[key][1].kernel

    def __call__(
        self, inputs: Sequence[np.ndarray], output: np.ndarray, begin: int = 0, end: int | None = None
    ) -> None:
        """Do units [begin, end) (all when `end` is None); arrays are flat or contiguous buffers."""
        self.prepared(inputs, output, begin, end)()

    def prepared(
        self, inputs: Sequence[np.ndarray], output: np.ndarray, begin: int = 0, end: int | None = None
    ) -> Callable[[], None]:
        """The same call with its arguments bound, for timing; it keeps the arrays alive."""
        arrays = [*inputs, *(aligned(constant) for constant in self.kernel.constants), output]
        assert all(a.flags.c_contiguous for a in arrays)
        assert all(a.dtype in (np.float32, np.int32, np.int16, np.uint16, np.int8, np.uint8) for a in arrays)
        last = self.kernel.units if end is None else end
        arguments = [*(ctypes.c_void_p(a.ctypes.data) for a in arrays), ctypes.c_int32(begin), ctypes.c_int32(last)]
        run = self._run

        def call(_kept: Sequence[np.ndarray] = arrays) -> None:
            run(*arguments)

        return call


def aligned(array: np.ndarray) -> np.ndarray:
    """A copy that begins at a multiple of 64 bytes, as constants do in a compiled model."""
    room = np.empty(array.nbytes + 64, np.uint8)
    start = -room.ctypes.data % 64
    copy = room[start : start + array.nbytes].view(array.dtype)
    copy[:] = array.ravel()
    return copy


def library(functions: Mapping[str, object]) -> ctypes.CDLL:
    """The shared library of TensorIR functions, by symbol."""
    with tempfile.TemporaryDirectory() as folder:
        compiled, shared = Path(folder, "kernel.o"), Path(folder, "kernel.so")
        compile_object(functions, target(), compiled)
        linker = [sys.executable, "-m", "ziglang", "cc", "-shared", "-nostdlib", "-target", "x86_64-linux-gnu.2.34"]
        subprocess.run([*linker, str(compiled), "-o", str(shared)], check=True)
        return ctypes.CDLL(str(shared))


def channels_last(
    batch: int,
    channels: int,
    height: int,
    width: int,
    *,
    halo: tuple[int, int, int, int] = (0, 0, 0, 0),
    around: tuple[int, int] = (0, 0),
) -> tuple[View, int]:
    """A channels-last view and the elements its buffer needs.

    `halo` is (top, left, bottom, right) cells of border; `around` is how many channels of the buffer lie before
    and after the view's own.
    """
    top, left, bottom, right = halo
    cell = around[0] + channels + around[1]
    row = (left + width + right) * cell
    image = (top + height + bottom) * row
    offset = top * row + left * cell + around[0]
    return View(batch, channels, height, width, offset, image, 1, row, cell), batch * image


def planar(
    batch: int, channels: int, height: int, width: int, *, halo: tuple[int, int, int, int] = (0, 0, 0, 0)
) -> tuple[View, int]:
    """A planar (NCHW) view and the elements its buffer needs; `halo` is (top, left, bottom, right)."""
    top, left, bottom, right = halo
    row = left + width + right
    plane = (top + height + bottom) * row
    return View(
        batch, channels, height, width, top * row + left, channels * plane, plane, row, 1
    ), batch * channels * plane


def window(buffer: np.ndarray, view: View) -> np.ndarray:
    """The (batch, channels, height, width) window of a flat buffer, writable, without a copy."""
    shape = (view.batch, view.channels, view.height, view.width)
    strides = (view.batch_stride, view.channel_stride, view.row_stride, view.pixel_stride)
    return np.lib.stride_tricks.as_strided(buffer[view.offset :], shape, [buffer.itemsize * s for s in strides])
