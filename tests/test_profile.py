from __future__ import annotations

import pytest

from edgeprune.errors import EdgepruneError
from edgeprune.options import OBJECTIVES, Options
from edgeprune.profile import load_profile, profile_names, with_profile

EXPECTED = {
    "automotive": "latency",
    "cloud": "throughput",
    "industrial": "latency",
    "medical": "drop",
    "mobile": "energy",
    "wearable": "size",
}


def test_every_field_has_its_profile():
    assert {name: load_profile(name).objective for name in profile_names()} == EXPECTED
    assert set(EXPECTED.values()) < set(OBJECTIVES)


@pytest.mark.parametrize("name", EXPECTED)
def test_a_profile_is_a_set_of_valid_options(name):
    profile = load_profile(name)
    options = Options(**with_profile(name, {}, has_data=True))
    assert (profile.name, options.objective, options.max_drop) == (name, profile.objective, profile.max_drop)
    assert options.max_drop_given
    assert len(profile.description) > 30


def test_the_tightest_limits_are_where_a_mistake_is_dearest():
    limits = {name: load_profile(name).max_drop for name in EXPECTED}
    assert limits["medical"] < limits["automotive"] < min(limits[name] for name in ("mobile", "industrial", "cloud"))


def test_what_is_given_wins():
    given = {"max_drop": 5.0, "max_drop_given": False, "epochs": 0, "threads": 3, "seed": 4}
    fields = with_profile("automotive", given, has_data=True)
    assert fields == {**given, "objective": "latency"}
    assert "max_drop_given" not in with_profile("automotive", {"max_drop": 5.0}, has_data=True)


def test_epochs_need_data_and_no_profile_changes_nothing():
    assert with_profile("medical", {}, has_data=True)["epochs"] == 8
    assert "epochs" not in with_profile("medical", {}, has_data=False)
    assert with_profile("medical", {"epochs": 2}, has_data=False)["epochs"] == 2
    assert with_profile(None, {"seed": 1}, has_data=True) == {"seed": 1}


def test_an_unknown_profile_suggests_the_nearest():
    with pytest.raises(EdgepruneError) as caught:
        load_profile("medicine")
    assert (caught.value.code, caught.value.exit_code) == ("profile-unknown", 2)
    assert str(caught.value) == (
        "there is no profile 'medicine' [profile-unknown]\n  where: --profile\n  hint:  did you mean medical?"
    )


def test_an_unknown_objective_is_refused():
    with pytest.raises(EdgepruneError, match="'speed' is not a choice of objective"):
        Options(objective="speed")
