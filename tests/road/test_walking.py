"""The way to the furthest cut, on a model whose losses are known."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from edgeprune.options import Options
from edgeprune.pattern import Level, parse_pattern
from edgeprune.road import walking
from edgeprune.road.losing import Loss
from edgeprune.road.walking import Plan, Walk
from edgeprune.search.knapsack import Assignment

STEP = 0.05
"""Plans differ in whole steps of the share that is kept."""


class Chooser:
    """Plans for a model of which `share` points are lost beyond a knee, fewer after training."""

    def __init__(self, minutes: float | None = None) -> None:
        self.options = Options(max_drop=1.0, minutes=minutes)
        self.judge = SimpleNamespace(metric="top1", card=None, original="dense", write=lambda model: model)
        self.tables = [SimpleNamespace(dense={"latency": 100.0}, start=0)]
        self.thinner = SimpleNamespace(judge_of=lambda start: self.judge)
        self.progress = lambda *_: None
        self.tried = 0

    def least_error(self, budget):
        share = STEP * round(budget["latency"] / 100.0 / STEP)
        levels = {"layer": Level(parse_pattern("1x16"), share)}
        return Plan(Assignment(levels, {}), "channels", 0, {"latency": 100.0 * share})

    def floor(self, _):
        return 5.0

    def now(self, _, value):
        return value

    def measured(self, plan, _):
        return dict(plan.table)


@pytest.fixture
def trained(monkeypatch) -> list[tuple[float, int]]:
    """What was trained, as the share that is kept and how many times as long as usual."""
    done = []

    def recovered(judge, model, options, progress, *, times, **_):
        done.append((model, times))
        return model + 0.02 * times

    class Losses:
        expects, before = False, 0.9

        def __init__(self, judge):
            self.rows = SimpleNamespace(count=500)

        def of(self, model, trained=False):
            return Loss(points=max(0.0, 20.0 * (0.7 - model)), error=0.0)

    monkeypatch.setattr(walking, "Losses", Losses)
    monkeypatch.setattr(walking, "cut", lambda judge, levels, *_: levels["layer"].density)
    monkeypatch.setattr(walking, "recovered", recovered)
    return done


def test_training_goes_further_than_one_shot(trained):
    walk = Walk(Chooser(), "latency")
    walk.one_shot()
    before = walk.share
    walk.trained()
    assert before == pytest.approx(0.65) and walk.share == pytest.approx(0.6)
    assert walk.measured["latency"] == pytest.approx(60.0)


def test_nothing_is_trained_twice_alike(trained):
    walk = Walk(Chooser(), "latency")
    walk.one_shot()
    walk.trained()
    assert len(trained) == len(set(trained))
    assert all(round(share, 6) < 0.65 for share, _ in trained), "what is kept already is not trained again"


def test_the_walk_ends_with_its_minutes(trained):
    walk = Walk(Chooser(minutes=1e-9), "latency")
    walk.one_shot()
    walk.trained()
    assert trained == [] and walk.share == pytest.approx(0.65)
