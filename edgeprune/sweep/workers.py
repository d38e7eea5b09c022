"""Where jobs run: worker processes on this machine, or a cluster. Only imported where dask.distributed is installed."""

from __future__ import annotations

import importlib.util
import logging
import os
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dask
from distributed import Client, Nanny, Scheduler, Security, SpecCluster, WorkerPlugin
from distributed.system import MEMORY_LIMIT

from edgeprune.errors import EdgepruneError

_MEMORY_SHARE = 0.9
CONNECT = "10s"
"""How long a scheduler may take to answer."""
_SETTINGS = {
    "distributed.scheduler.allowed-failures": 0,
    "distributed.scheduler.work-stealing": False,
    "distributed.worker.daemon": True,
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    "distributed.worker.memory.terminate": 0.95,
    "distributed.admin.log-format": "%(message)s",
    "logging.distributed": "critical",
}


class Prepare(WorkerPlugin):  # type: ignore[misc]
    """Ties a worker process to its cores; an interrupt is for the sweep, and standard output is for its result."""

    name = "edgeprune-prepare"

    def __init__(self, cores: Mapping[str, Sequence[int]]) -> None:
        self.cores = cores

    def setup(self, worker: Any) -> None:
        """Runs in the new process, before its first job."""
        os.dup2(2, 1)
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, self.cores[str(worker.name)])


@contextmanager
def local_workers(cores: Sequence[Sequence[int]], resources: Mapping[str, float], scratch: Path) -> Iterator[Any]:
    """A client of one worker process for every item of `cores`, one job at a time in each.

    `resources` belong to the first worker alone. Everything that the workers write besides packages is in `scratch`.
    The scheduler listens on this machine only, encrypted where the package `cryptography` is installed.
    """
    security = Security.temporary() if importlib.util.find_spec("cryptography") else Security()
    shared: dict[str, Any] = {
        "nthreads": 1,
        "memory_limit": int(_MEMORY_SHARE * MEMORY_LIMIT / len(cores)),
        "local_directory": str(scratch),
        "host": "127.0.0.1",
        "dashboard": False,
        "silence_logs": logging.CRITICAL,
        "security": security,
    }
    workers = {
        str(index): {
            "cls": Nanny,
            "options": {
                **shared,
                "resources": dict(resources) if index == 0 else {},
                "env": {"TMPDIR": str(scratch), "OMP_NUM_THREADS": str(len(mine)), "OMP_WAIT_POLICY": "PASSIVE"},
            },
        }
        for index, mine in enumerate(cores)
    }
    scheduler = {
        "cls": Scheduler,
        "options": {"host": "127.0.0.1", "port": 0, "dashboard_address": "127.0.0.1:0", "security": security},
    }
    named = {str(index): list(mine) for index, mine in enumerate(cores)}
    with (
        dask.config.set({**_SETTINGS, "temporary-directory": str(scratch)}),
        SpecCluster(workers=workers, scheduler=scheduler, security=security, silence_logs=logging.CRITICAL) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        client.register_plugin(Prepare(named))
        yield client


@contextmanager
def cluster_workers(address: str, boards: Sequence[str], folder: Path) -> Iterator[Any]:
    """A client of the cluster whose scheduler listens on `address`.

    Every worker must see `folder`, and one at least must have each of the resources `boards`. Raises EdgepruneError
    (scheduler-unreachable, workers-missing, board-unreachable, folder-unshared).
    """
    try:
        client = Client(address, timeout=CONNECT, set_as_default=False)
    except (OSError, TimeoutError) as error:
        hint = "start one with `dask scheduler`, and check the address and the firewall"
        what = f"no scheduler answers at {address}"
        raise EdgepruneError("scheduler-unreachable", what, where="--scheduler", hint=hint) from error
    with client:
        workers = client.scheduler_info(n_workers=-1)["workers"]
        if not workers:
            hint = f"start some with `dask worker {address} --nthreads 1`"
            raise EdgepruneError("workers-missing", "the cluster has no worker", where=address, hint=hint)
        for board in boards:
            if not any(worker["resources"].get(board) for worker in workers.values()):
                hint = f"start the worker of the board with --resources {board}=1"
                raise EdgepruneError(
                    "board-unreachable", f"no worker has the resource {board}", where=address, hint=hint
                )
        blind = [worker for worker, seen in client.run(os.path.isdir, str(folder)).items() if not seen]
        if blind:
            hint = "name a folder on a file system that all machines share"
            raise EdgepruneError("folder-unshared", f"{blind[0]} does not see {folder}", where="--output", hint=hint)
        yield client
