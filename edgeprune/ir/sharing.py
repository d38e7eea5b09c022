"""Shares work among threads: what is called releases Python's lock, as ONNX Runtime and numpy do."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Part = TypeVar("Part")
Result = TypeVar("Result")


def share(threads: int, run: Callable[[Part], Result], parts: Sequence[Part]) -> list[Result]:
    """What `run` gives for each of `parts`, in order, `threads` of them at a time."""
    if threads == 1 or len(parts) <= 1:
        return [run(part) for part in parts]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(run, parts))


def ahead(threads: int, run: Callable[[Part], Result], parts: Iterable[Part]) -> Iterator[tuple[Part, Result]]:
    """Each of `parts` with what `run` gives, in order; as many as there are threads are worked on meanwhile."""
    waiting: deque[tuple[Part, Future[Result]]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for part in parts:
            waiting.append((part, pool.submit(run, part)))
            if len(waiting) > threads:
                first, result = waiting.popleft()
                yield first, result.result()
        for first, result in waiting:
            yield first, result.result()
