"""The latency that a budget is held against."""

from __future__ import annotations

from contextlib import contextmanager
from types import SimpleNamespace

from edgeprune.options import Options
from edgeprune.road.assembly import latency_of


class Placed:
    """A draft whose library takes another time each time it is placed in memory."""

    def __init__(self, medians):
        self.medians, self.seen = list(medians), []

    @contextmanager
    def package(self):
        self.seen.append(self.medians.pop(0))
        yield SimpleNamespace(bench_beside=lambda rivals, threads, seconds, progress: self.figures(threads))

    def figures(self, threads):
        assert threads == 2
        return {"latency_ms": {"median": self.seen[-1]}}


def test_a_budget_is_held_against_the_longest_but_one_of_five_placings():
    draft = Placed([0.50, 0.52, 9.0, 0.51, 0.50, 0.1])
    assert latency_of(draft, Options(threads=2)) == 0.52
    assert draft.seen == [0.50, 0.52, 9.0, 0.51, 0.50]
