from __future__ import annotations

import itertools

import numpy as np

from edgeprune.bench.rounds import Probed, step_times


def test_every_model_gets_its_own_steps_and_disturbed_runs_do_not_count() -> None:
    counters = [itertools.count(), itertools.count()]

    def probed(index: int, times: list[int]) -> Probed:
        def profile() -> np.ndarray:
            disturbed = next(counters[index]) % 3 == 0
            return np.array(times, np.int64) * (10 if disturbed else 1)

        return Probed(profile, lambda: None)

    fast, slow = step_times([probed(0, [1000, 2000]), probed(1, [5000, 0, 3000])], seconds=0.01)
    assert fast.steps == (1.0, 2.0)
    assert slow.steps == (5.0, 0.0, 3.0)
    assert fast.call == 0.0
    assert slow.whole == 8.0


def test_progress_ends_at_the_seconds_asked_for() -> None:
    seen = []
    model = Probed(lambda: np.array([10], np.int64), lambda: None)
    step_times([model], 0.05, lambda label, done, total, note: seen.append((label, done, total)))
    assert seen[-1] == ("measuring", 50, 50)
    assert len(seen) >= 30
