from __future__ import annotations

import pytest

from edgeprune.cli.profiles import complete_profile


def test_profiles_are_listed(cli):
    listed = cli("profiles", "--json").json["profiles"]
    assert [profile["name"] for profile in listed] == sorted(profile["name"] for profile in listed)
    text = cli("profiles").out
    assert all(profile["name"] in text and profile["objective"] in text for profile in listed)


def test_one_profile_is_shown(cli):
    assert cli("profiles", "medical", "--json").json["max_drop"] == pytest.approx(0.1)
    text = cli("profiles", "industrial").out
    assert "latency" in text
    assert "epochs" not in text


def test_an_unknown_profile(cli):
    finished = cli("profiles", "mobil", "--json")
    assert (finished.code, finished.json["error"]["code"]) == (2, "profile-unknown")
    assert "did you mean mobile" in finished.json["error"]["hint"]


def test_the_shell_completes_profiles():
    assert complete_profile("m") == ["medical", "mobile"]
