"""The same kernel in every form: one product at a time on this machine, two at a time on an emulated Cortex-M4."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from board_harness import BoardKernel, core

from edgeprune.kernels.abi import Format, Kernel, Machine, View

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2] / "frontend")]

import harness  # noqa: E402
from tflite_writer import Writer  # noqa: E402

__all__ = ["Writer", "check", "image_view", "int8", "litert", "machine", "on_board", "on_host", "row_view"]

BUILD = Callable[[Machine], Kernel]
_GUARD = 0x5A


def machine(dot: str) -> Machine:
    """Facts of a Cortex-M4, products as `dot` says."""
    return Machine(1, 12, 0, 0, dot)


def int8(scale: float = 0.05, zero: int = 0) -> Format:
    """int8 with all its values."""
    return Format("int8", scale, zero, -128, 127)


def image_view(shape: Sequence[int], format: Format) -> View:
    """A dense channels-last image of `shape` (batch, height, width, channels)."""
    batch, height, width, channels = shape
    return View(batch, channels, height, width, 0, height * width * channels, 1, width * channels, channels, format)


def row_view(size: int, format: Format) -> View:
    """`size` elements in one line."""
    return View(1, size, 1, 1, 0, 0, 1, 0, 0, format)


@cache
def _library(identity: int, function: Any) -> ctypes.CDLL:
    return harness.library({"kernel": function})


def on_host(kernel: Kernel, inputs: Sequence[np.ndarray], output: np.ndarray) -> None:
    """Run all units on this machine; scratch has guards around it that must stay."""
    scratch = np.full(kernel.scratch_bytes + 32, _GUARD, np.uint8)
    own = [scratch[16 : 16 + kernel.scratch_bytes]] if kernel.scratch_bytes else []
    arrays = [*inputs, *(harness.aligned(constant) for constant in kernel.constants), *own, output]
    run = _library(id(kernel.func), kernel.func).kernel
    run(*(ctypes.c_void_p(a.ctypes.data) for a in arrays), ctypes.c_int32(0), ctypes.c_int32(kernel.units))
    assert (scratch[:16] == _GUARD).all() and (scratch[16 + kernel.scratch_bytes :] == _GUARD).all()


def on_board(kernel: Kernel, inputs: Sequence[np.ndarray], want: np.ndarray, cpu: str = "cortex-m4") -> None:
    """Run on an emulated core: apart, and as near to each input as the kernel allows."""
    board = BoardKernel(kernel, core(cpu))
    found = np.empty_like(want)
    board(inputs, found)
    np.testing.assert_array_equal(found, want)
    for number, distance in enumerate(kernel.overlaps):
        for place in () if distance is None else {distance, distance // 4 * 4, min(distance, 0)}:
            found = np.empty_like(want)
            board(inputs, found, over=(number, place))
            np.testing.assert_array_equal(found, want, f"{place} bytes after input {number}")


def check(build: BUILD, inputs: Sequence[np.ndarray], want: np.ndarray, board: bool = True) -> None:
    """`want` comes bit for bit from the plain form on the host and, with `board`, from the fast one on a Cortex-M4."""
    found = np.empty_like(want)
    on_host(build(machine("mla")), inputs, found)
    np.testing.assert_array_equal(found, want)
    if board:
        on_board(build(machine("smlad")), inputs, want)


def litert(content: bytes, inputs: Sequence[np.ndarray]) -> np.ndarray:
    """The first output of a .tflite file by LiteRT's reference kernels."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    interpreter = Interpreter(
        model_content=content, experimental_op_resolver_type=OpResolverType.BUILTIN_REF, num_threads=1
    )
    interpreter.allocate_tensors()
    for detail, array in zip(interpreter.get_input_details(), inputs, strict=True):
        interpreter.set_tensor(detail["index"], array)
    interpreter.invoke()
    return np.asarray(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]))
