"""Anything that runs, opened alike: a package on this machine, or a model on ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike
from typing import TYPE_CHECKING

import numpy as np

from edgeprune.data.samples import InputSpec
from edgeprune.errors import EdgepruneError
from edgeprune.ir.states import State, states_of, with_states
from edgeprune.road.inspecting import is_package

if TYPE_CHECKING:
    from edgeprune.compiled import Package

Runner = Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]]


@dataclass(frozen=True)
class Opened:
    """Something that takes `inputs` and runs one inference: arrays by name, with their batch axis, both ways.

    `reset` makes it forget what it remembers, which are `states`.
    """

    inputs: tuple[InputSpec, ...]
    run: Runner
    reset: Callable[[], None]
    states: tuple[State, ...] = ()


@contextmanager
def open_runner(source: str | PathLike[str], threads: int = 1, states: Sequence[str] = ()) -> Iterator[Opened]:
    """The package or model file `source`, ready to run until the end of the block; `states` are those of a model.

    Raises EdgepruneError: state-invalid (usage); option-conflict (usage) where a package is given states.
    """
    if not is_package(source):
        from edgeprune.frontend.load import load
        from edgeprune.ir.stream import Stream

        model = with_states(load(source), states)
        stream = Stream(model, threads)
        yield Opened(tuple(stream.specs), stream.run, stream.reset, states_of(model))
        return
    from edgeprune.compiled import Package

    if states:
        what = f"what a package keeps was settled when it was compiled, and {source} is one"
        raise EdgepruneError("option-conflict", what, where="--state", hint="leave --state out", exit_code=2)
    with Package.open(source) as package, package.runner(threads) as runner:
        yield Opened(package.inputs, runner.run, runner.reset, package_states(package))


def package_states(package: Package) -> tuple[State, ...]:
    """What `package` remembers."""
    return tuple(State(state.name, state.result) for state in package.manifest.states)
