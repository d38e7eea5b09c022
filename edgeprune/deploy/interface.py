"""The C interface of a compiled model (edge.h), as ctypes sees it."""

from __future__ import annotations

import ctypes
from ctypes import POINTER, c_char_p, c_int, c_int64, c_size_t, c_void_p
from typing import Any, NamedTuple


class Port(NamedTuple):
    """One input or output: dense, row-major; `dtype` as numpy names it."""

    name: str
    shape: tuple[int, ...]
    dtype: str


_FUNCTIONS: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "edge_init": (c_int, (POINTER(c_void_p), c_void_p, c_size_t, c_int)),
    "edge_memory": (c_size_t, (c_int,)),
    "edge_run": (c_int, (c_void_p, c_void_p, c_void_p)),
    "edge_profile": (c_int, (c_void_p, c_void_p, c_void_p, c_void_p)),
    "edge_free": (None, (c_void_p,)),
    "edge_reset": (c_int, (c_void_p,)),
    "edge_step_count": (c_int, ()),
    "edge_step_name": (c_char_p, (c_int,)),
    "edge_target": (c_char_p, ()),
    "edge_error": (c_char_p, (c_int,)),
}
_LATER = ("edge_reset",)
"""Functions that libraries of earlier versions lack: their models remember nothing."""
_PORT_FUNCTIONS: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "count": (c_int, ()),
    "name": (c_char_p, (c_int,)),
    "dtype": (c_char_p, (c_int,)),
    "rank": (c_int, (c_int,)),
    "dimension": (c_int64, (c_int, c_int)),
    "bytes": (c_size_t, (c_int,)),
}


def declare(library: ctypes.CDLL) -> ctypes.CDLL:
    """Give every function of the interface its types. Raises AttributeError where one is missing."""
    functions = {name: types for name, types in _FUNCTIONS.items() if name not in _LATER or hasattr(library, name)}
    for side in ("input", "output"):
        functions.update({f"edge_{side}_{name}": types for name, types in _PORT_FUNCTIONS.items()})
    for name, (result, arguments) in functions.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


def read_ports(library: ctypes.CDLL, side: str) -> tuple[Port, ...]:
    """The library's ports; `side` is "input" or "output"."""

    def ask(name: str, *arguments: int) -> Any:
        return getattr(library, f"edge_{side}_{name}")(*arguments)

    return tuple(
        Port(
            ask("name", port).decode(),
            tuple(ask("dimension", port, axis) for axis in range(ask("rank", port))),
            ask("dtype", port).decode(),
        )
        for port in range(ask("count"))
    )
