"""Work that is shared among threads comes back in order, and a failure comes back too."""

from __future__ import annotations

import threading
import time

import pytest

from edgeprune.ir.sharing import ahead, share


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_results_keep_the_order_of_the_parts(threads: int) -> None:
    def run(part: int) -> int:
        time.sleep(0.002 * (7 - part))
        return part * part

    assert share(threads, run, range(7)) == [part * part for part in range(7)]
    assert list(ahead(threads, run, iter(range(7)))) == [(part, part * part) for part in range(7)]
    assert share(threads, run, []) == [] and list(ahead(threads, run, [])) == []


def test_as_many_run_at_once_as_there_are_threads() -> None:
    together = threading.Barrier(3)
    share(3, lambda _: together.wait(timeout=10), range(3))


def test_parts_are_taken_when_their_turn_comes() -> None:
    taken = []

    def parts():
        for part in range(20):
            taken.append(part)
            yield part

    running = ahead(2, lambda part: part, parts())
    next(running)
    assert len(taken) == 3
    running.close()


@pytest.mark.parametrize("threads", [1, 3])
def test_what_fails_is_raised(threads: int) -> None:
    def run(part: int) -> int:
        if part == 2:
            raise ValueError("part 2")
        return part

    with pytest.raises(ValueError, match="part 2"):
        share(threads, run, range(5))
    with pytest.raises(ValueError, match="part 2"):
        list(ahead(threads, run, range(5)))
