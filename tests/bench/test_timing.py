import gc

import numpy as np
import pytest

from edgeprune.bench.timing import Latency, Turns, measure_in_turns, speedup


class Machine:
    """A clock that only work moves; every call is written down."""

    def __init__(self):
        self.now, self.calls = 0, []

    def clock(self):
        return self.now

    def work(self, name, milliseconds):
        durations = iter(milliseconds) if isinstance(milliseconds, list) else None

        def run():
            self.calls.append(name)
            self.now += int((next(durations) if durations else milliseconds) * 1e6)

        return run


def turns_of(calls):
    """Who ran, without repetitions in a row."""
    return [name for index, name in enumerate(calls) if index == 0 or calls[index - 1] != name]


def test_latencies_are_those_of_each_runner():
    machine = Machine()
    runners = {"slow": machine.work("slow", 4.0), "fast": machine.work("fast", 0.5)}
    found = measure_in_turns(runners, 0.4, clock=machine.clock)
    assert found["slow"].as_dict()["median"] == pytest.approx(4.0)
    assert found["fast"].as_dict()["median"] == pytest.approx(0.5)
    assert speedup(found["fast"], found["slow"]) == pytest.approx(8.0)
    assert machine.now / 1e9 == pytest.approx(0.4, abs=0.06)


def test_turns_rotate():
    machine = Machine()
    names = ("a", "b", "c")
    measure_in_turns({name: machine.work(name, 1.0) for name in names}, 0.0, clock=machine.clock)
    rounds = np.array(turns_of_rounds(machine.calls, names))
    assert len(rounds) == 5
    assert ["".join(each) for each in rounds[:3]] == ["abc", "bca", "cab"]


def turns_of_rounds(calls, names):
    per_turn = len(calls) // (5 * len(names))
    return np.array(calls).reshape(5, len(names), per_turn)[:, :, 0]


def test_settling_is_not_measured():
    machine = Machine()
    costs = ([9.0, 1.0, 1.0] * 5) + [1.0] * 1000
    found = measure_in_turns({"a": machine.work("a", costs)}, 0.0, turns=Turns(0.003, 0.0015), clock=machine.clock)
    assert found["a"].as_dict() == {"median": 1.0, "min": 1.0, "p90": 1.0, "runs": 10}


def test_slow_runners_have_one_settling_and_one_measured_call_a_turn():
    machine = Machine()
    found = measure_in_turns({"a": machine.work("a", 500.0)}, 1.0, clock=machine.clock)
    assert found["a"].as_dict()["runs"] == 5
    assert len(machine.calls) == 10


def test_statistics_by_numpy():
    values = np.random.default_rng(0).gamma(2.0, size=101)
    facts = Latency((values[:40], values[40:])).as_dict()
    assert facts["runs"] == 101
    assert facts["median"] == sorted(values)[50]
    assert facts["min"] == min(values)
    assert facts["p90"] == sorted(values)[90]


def test_speedup_is_paired_by_round():
    ours = Latency(tuple(np.array([1.0 * load]) for load in (1, 10, 100)))
    theirs = Latency(tuple(np.array([3.0 * load]) for load in (1, 10, 100)))
    assert speedup(ours, theirs) == 3.0


def test_progress_ends_full_and_collection_is_restored():
    machine, told = Machine(), []
    measure_in_turns(
        {"a": machine.work("a", 1.0)}, 0.2, clock=machine.clock, progress=lambda *figures: told.append(figures)
    )
    assert told[-1] == ("measuring", 200, 200, "")
    assert all(0 <= done < 200 for _, done, _, _ in told[:-1])
    assert gc.isenabled()

    def broken():
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        measure_in_turns({"a": broken}, 0.1)
    assert gc.isenabled()
