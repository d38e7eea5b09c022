from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeprune.road.pacing import Pace

times = st.floats(1.0, 1e6)


def test_a_table_is_taken_at_its_word_until_something_is_measured():
    assert Pace((100.0, 100.0)).now(40.0) == 40.0


def test_the_dense_model_alone_scales_everything():
    pace = Pace((100.0, 100.0)).learnt(100.0, 120.0)
    assert (pace.now(50.0), pace.now(200.0), pace.table(60.0)) == (60.0, 240.0, 50.0)


def test_a_pruned_model_bends_the_line():
    pace = Pace((100.0, 100.0)).learnt(100.0, 120.0).learnt(50.0, 80.0)
    assert (pace.now(50.0), pace.now(25.0), pace.now(75.0), pace.now(100.0)) == (80.0, 40.0, 100.0, 120.0)


def test_only_the_last_pruned_model_counts():
    pace = Pace((100.0, 120.0)).learnt(50.0, 80.0).learnt(40.0, 48.0)
    assert (pace.now(40.0), pace.now(20.0), pace.now(70.0)) == (48.0, 24.0, 84.0)


def test_a_model_that_is_slower_than_the_dense_one_replaces_it():
    assert Pace((100.0, 120.0)).learnt(50.0, 130.0).now(25.0) == 65.0


@given(dense=st.tuples(times, times), near=st.tuples(times, times), value=times)
def test_there_and_back(dense, near, value):
    pace = Pace(dense).learnt(*near)
    assert pace.now(near[0]) == pytest.approx(near[1])
    assert pace.table(pace.now(value)) == pytest.approx(value, rel=1e-6)


@given(dense=st.tuples(times, times), near=st.tuples(times, times), pair=st.tuples(times, times))
def test_what_takes_longer_in_the_table_takes_longer_now(dense, near, pair):
    pace = Pace(dense).learnt(*near)
    assert pace.now(min(pair)) <= pace.now(max(pair)) * (1 + 1e-9)
