"""A compiled model beside other runtimes: the figures of `edgeprune bench`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from edgeprune.bench.peers import Peer, check_peers, start_peer
from edgeprune.bench.profile import Profiled, layer_times
from edgeprune.bench.timing import measure_in_turns, speedup
from edgeprune.errors import EdgepruneError
from edgeprune.progress import Progress, silent

_OURS = ""


class Bound(Protocol):
    """An inference with fixed inputs."""

    @property
    def call(self) -> Callable[[], None]:
        """Runs it."""


class Runner(Profiled, Protocol):
    """A compiled model on this machine."""

    @property
    def start_ms(self) -> float:
        """Milliseconds it took to start: coded weights were expanded, unless an earlier context had done it."""

    def bind(self, inputs: Mapping[str, np.ndarray]) -> Bound:
        """Fix the inputs of an inference."""


@dataclass(frozen=True)
class Rivals:
    """The runtimes to compare with and the model they run: ONNX content, or a path; `described` says which it is.

    `imported` is the ONNX content of a model in another format, for the runtimes that do not take that.
    """

    runtimes: Sequence[str] = ()
    model: bytes | Path = b""
    described: str = ""
    imported: bytes = b""


def bench(
    runner: Runner,
    feeds: Mapping[str, np.ndarray],
    *,
    board: str = "local",
    precision: str = "fp32",
    threads: int = 1,
    seconds: float = 5.0,
    rivals: Rivals | None = None,
    kept: Mapping[str, np.ndarray] | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """The JSON of `edgeprune bench`: latencies in ms, measured in turns with every rival that can run.

    `feeds` is one row of inputs with its batch axis, `kept` what rivals take beside it because they do not keep it
    themselves; `threads` is what `runner` was made with. A rival that is not
    installed or cannot run the model has an `error` in place of figures. A speedup over 1 means that ours is faster.
    Raises EdgepruneError (peer-unknown, usage).
    """
    rivals = rivals or Rivals()
    check_peers(rivals.runtimes)
    started = {runtime: _start(runtime, rivals, {**feeds, **(kept or {})}, threads) for runtime in rivals.runtimes}
    running = {runtime: peer for runtime, peer in started.items() if isinstance(peer, Peer)}
    calls: dict[str, Callable[[], object]] = {_OURS: runner.bind(feeds).call}
    calls.update({runtime: peer.run for runtime, peer in running.items()})
    latencies = measure_in_turns(calls, seconds, progress=progress)

    def figures(runtime: str, peer: Peer | dict[str, Any]) -> dict[str, Any]:
        if not isinstance(peer, Peer):
            return peer
        times = latencies[runtime].as_dict()
        facts = {"runtime": runtime, "version": peer.version, "precision": peer.precision}
        return {
            **facts,
            "latency_ms": times.pop("median"),
            "speedup": speedup(latencies[_OURS], latencies[runtime]),
            "spread_ms": times,
        }

    return {
        "board": board,
        "kind": "measured",
        "precision": precision,
        "threads": threads,
        "latency_ms": latencies[_OURS].as_dict(),
        "start_ms": runner.start_ms,
        "peers": [figures(runtime, peer) for runtime, peer in started.items()],
        "peers_model": rivals.described if rivals.runtimes else None,
        "layers": layer_times(runner, feeds),
    }


def _start(runtime: str, rivals: Rivals, feeds: Mapping[str, np.ndarray], threads: int) -> Peer | dict[str, Any]:
    model = rivals.imported if rivals.imported and runtime != "litert" else rivals.model
    try:
        return start_peer(runtime, model, feeds, threads)
    except EdgepruneError as error:
        return {"runtime": runtime, "error": f"{error.what}; {error.hint}"}
