"""Hands tasks to the workers of a dask cluster, as many at a time as there are places for them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from edgeprune.sweep.results import Row


@dataclass(frozen=True)
class Task:
    """One call of `step` on a worker, which holds `board` meanwhile ("": none)."""

    step: Callable[..., Row]
    arguments: tuple[Any, ...]
    board: str = ""


def board_resource(board: str) -> str:
    """The worker resource that stands for a board: a worker has 1 of it, and each job on the board takes that."""
    return f"board:{board}"


def dispatch(client: Any, tasks: Mapping[str, Task]) -> Iterator[tuple[str, Any]]:
    """The finished future of every task, by the task's key, as they come; the rest is cancelled at the end.

    No worker is given a task before it can begin: with the worker, tasks that only wait would be lost too.
    """
    from distributed import as_completed

    waiting: dict[str, deque[str]] = {}
    for key, task in tasks.items():
        waiting.setdefault(task.board, deque()).append(key)
    running: dict[Any, str] = {}
    places = dict.fromkeys(waiting, 1)
    pool = as_completed([], loop=client.loop)

    def start() -> None:
        for board, keys in waiting.items():
            places[board] = max(places[board], _places(client, board))  # a worker that restarts has its place still
            free = places[board] - sum(tasks[key].board == board for key in running.values())
            for _ in range(min(free, len(keys))):
                key = keys.popleft()
                future = _submit(client, tasks[key])
                running[future] = key
                pool.add(future)

    try:
        start()
        for future in pool:
            key = running.pop(future)
            start()
            yield key, future
    finally:
        client.cancel(list(running), force=True)


def _submit(client: Any, task: Task) -> Any:
    resources = {board_resource(task.board): 1} if task.board else {}
    return client.submit(task.step, *task.arguments, pure=False, retries=0, resources=resources)


def _places(client: Any, board: str) -> int:
    """How many tasks can run at once: on `board`, or anywhere."""
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    if not board:
        return sum(int(worker["nthreads"]) for worker in workers)
    return sum(int(worker["resources"].get(board_resource(board), 0)) for worker in workers)
