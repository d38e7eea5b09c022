"""Anything that runs, opened alike: a package on this machine, or a model on ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike

import numpy as np

from edgeprune.data.samples import InputSpec
from edgeprune.road.inspecting import is_package

Runner = Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]]


@dataclass(frozen=True)
class Opened:
    """Something that takes `inputs` and runs one inference: arrays by name, with their batch axis, both ways.

    `reset` makes it forget what it remembers.
    """

    inputs: tuple[InputSpec, ...]
    run: Runner
    reset: Callable[[], None]


@contextmanager
def open_runner(source: str | PathLike[str], threads: int = 1) -> Iterator[Opened]:
    """The package or model file `source`, ready to run until the end of the block."""
    if not is_package(source):
        from edgeprune.frontend.load import load
        from edgeprune.ir.stream import Stream

        stream = Stream(load(source), threads)
        yield Opened(tuple(stream.specs), stream.run, stream.reset)
        return
    from edgeprune.compiled import Package

    with Package.open(source) as package, package.runner(threads) as runner:
        yield Opened(package.inputs, runner.run, runner.reset)
