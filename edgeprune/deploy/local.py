"""Runs a compiled model on this machine: a thin shell on the library's C interface."""

from __future__ import annotations

import ctypes
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from edgeprune.deploy.interface import declare, read_ports
from edgeprune.errors import EdgepruneError, nearest
from edgeprune.target import Target, host_cpu_flags

_LESS = "use fewer threads, or free memory"
_ERRORS = {
    2: ("memory-missing", _LESS),
    3: ("cpu-missing-features", "compile for this machine with --target host"),
    4: ("threads-refused", _LESS),
    6: ("library-damaged", "copy or compile the package again"),
}


class Facts(Protocol):
    """What the runner must know beside the library: a package's manifest has it."""

    @property
    def target(self) -> Target:
        """What the library was compiled for."""


class Bound(NamedTuple):
    """`call` runs one inference from fixed inputs into `outputs`, without any check; for timing."""

    call: Callable[[], None]
    outputs: dict[str, np.ndarray]


class LocalRunner:
    """One context of a compiled model, with `threads` threads (the caller's included).

    A runner may be shared between threads, which then take turns; for parallel work make one runner a thread.
    `close`, leaving a `with` block or the end of its life frees the context.
    """

    def __init__(
        self, library: str | PathLike[str], manifest: Facts, threads: int = 1, *, source: str | PathLike[str] = ""
    ) -> None:
        """Load `library`, a file compiled for `manifest.target`; errors name `source`, where it came from.

        Raises EdgepruneError: cpu-missing-features before anything is loaded; library-unloadable; threads-invalid;
        memory-missing; threads-refused; library-damaged.
        """
        _require_cpu(manifest.target, where=str(source) or str(library))
        if threads < 1:
            hint = "give a number of threads of at least 1"
            raise EdgepruneError("threads-invalid", f"{threads} threads", where="--threads", hint=hint, exit_code=2)
        self._library = _load(Path(library))
        self.inputs = read_ports(self._library, "input")
        self.outputs = read_ports(self._library, "output")
        self._lock = threading.Lock()
        context = ctypes.c_void_p()
        began = time.perf_counter()
        self._check(self._library.edge_init(ctypes.byref(context), None, 0, threads))
        self.start_ms = 1000.0 * (time.perf_counter() - began)
        self._context = context.value
        self._release = weakref.finalize(self, self._library.edge_free, context)

    def __enter__(self) -> LocalRunner:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the context's threads and free its memory; the runner cannot run afterwards."""
        with self._lock:
            self._context = None
            self._release()

    @property
    def steps(self) -> list[str]:
        """The model node behind each step that `profile` times, in order."""
        return [self._library.edge_step_name(step).decode() for step in range(self._library.edge_step_count())]

    def reset(self) -> None:
        """Forget what the model remembers from one inference to the next, if it remembers something."""
        with self._lock:
            context = self._open()
            if hasattr(self._library, "edge_reset"):
                self._check(self._library.edge_reset(context))

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """One inference: arrays by input name to arrays by output name, both with their batch axis.

        What the model remembers goes from one call to the next, until `reset`.

        Raises EdgepruneError: input-unknown, input-missing, input-shape, input-dtype, before the library is called.
        """
        bound = self.bind(inputs)
        bound.call()
        return bound.outputs

    def bind(self, inputs: Mapping[str, np.ndarray]) -> Bound:
        """An inference whose inputs are checked once and whose outputs stay in place. Raises as `run` does."""
        feeds = self._fit(inputs)
        outputs = {port.name: np.empty(port.shape, port.dtype) for port in self.outputs}
        sources, targets = _pointers(feeds), _pointers(list(outputs.values()))
        addresses = ctypes.addressof(sources), ctypes.addressof(targets)
        kept = (feeds, outputs, sources, targets)

        def call(run: Any = self._library.edge_run, kept: Any = kept) -> None:
            with self._lock:
                self._check(run(self._open(), *addresses))

        return Bound(call, outputs)

    def profile(self, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        """Wall time of each step of one inference, in nanoseconds, int64 (steps,). Raises as `run` does."""
        feeds = self._fit(inputs)
        outputs = [np.empty(port.shape, port.dtype) for port in self.outputs]
        times = np.zeros(self._library.edge_step_count(), np.uint64)
        with self._lock:
            self._check(
                self._library.edge_profile(self._open(), _pointers(feeds), _pointers(outputs), times.ctypes.data)
            )
        return times.astype(np.int64)

    def _open(self) -> int:
        if self._context is None:
            raise EdgepruneError("runner-closed", "this runner was closed", hint="open the package again")
        return self._context

    def _fit(self, inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        names = [port.name for port in self.inputs]
        for name in inputs:
            if name not in names:
                raise EdgepruneError(
                    "input-unknown", f"there is no input '{name}'", where=name, hint=nearest(name, names)
                )
        feeds = []
        for port in self.inputs:
            where = f"input '{port.name}'"
            if port.name not in inputs:
                hint = f"give an array of shape {list(port.shape)}, {port.dtype}"
                raise EdgepruneError("input-missing", f"input '{port.name}' is not given", where=where, hint=hint)
            array = np.asarray(inputs[port.name])
            if array.shape != port.shape:
                what = f"shape {list(array.shape)} where the model takes {list(port.shape)}"
                raise EdgepruneError(
                    "input-shape", what, where=where, hint="one inference takes one row, batch axis included"
                )
            if array.dtype != np.dtype(port.dtype):
                what = f"{array.dtype} values where the model takes {port.dtype}"
                raise EdgepruneError(
                    "input-dtype", what, where=where, hint=f"convert with array.astype('{port.dtype}')"
                )
            feeds.append(np.ascontiguousarray(array).reshape(port.shape))
        return feeds

    def _check(self, code: int) -> None:
        if code == 0:
            return
        what = (self._library.edge_error(code) or b"unknown error").decode()
        name, hint = _ERRORS.get(code, ("run-failed", _LESS))
        raise EdgepruneError(name, what, where="the compiled model", hint=hint)


def _require_cpu(target: Target, where: str) -> None:
    present = host_cpu_flags()
    missing = [flag for flag in target.cpu_flags if flag not in present]
    if present and missing:
        raise EdgepruneError(
            "cpu-missing-features",
            f"the package was compiled for {target.name}, and this processor lacks {', '.join(missing)}",
            where=where,
            hint="compile for this machine with --target host, or for an older level such as x86-64-v2",
        )


def _load(path: Path) -> Any:
    try:
        return declare(ctypes.CDLL(str(path.resolve())))
    except (OSError, AttributeError) as error:
        raise EdgepruneError(
            "library-unloadable",
            f"the compiled model cannot be loaded: {error}",
            where=str(path),
            hint="the package is for another system, or its folder forbids execution (set TMPDIR)",
        ) from error


def _pointers(arrays: list[np.ndarray]) -> Any:
    return (ctypes.c_void_p * len(arrays))(*(array.ctypes.data for array in arrays))
