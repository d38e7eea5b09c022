"""Which target a machine is, by its features."""

from __future__ import annotations

import pytest

from edgeprune import target
from edgeprune.pattern import parse_pattern
from edgeprune.target import detect_host, load_target


@pytest.mark.parametrize(
    ("has", "name"),
    [
        (("x86-64-v2",), "x86-64-v2"),
        (("x86-64-v2", "x86-64-v3"), "x86-64-v3"),
        (("x86-64-v2", "x86-64-v3-vnni"), "x86-64-v3-vnni"),
        (("x86-64-v2", "x86-64-v3", "x86-64-v4"), "x86-64-v4"),
        (("x86-64-v2", "x86-64-v3-vnni", "x86-64-v4-vnni"), "x86-64-v4-vnni"),
        (("x86-64-v2", "x86-64-v3", "x86-64-v4-vnni"), "x86-64-v4-vnni"),
    ],
)
def test_the_host_is_the_best_target_whose_features_it_has(monkeypatch, has, name):
    flags = frozenset(flag for level in has for flag in load_target(level).cpu_flags)
    monkeypatch.setattr(target, "host_cpu_flags", lambda: flags)
    assert detect_host().name == name


@pytest.mark.parametrize(
    ("name", "dot"),
    [("x86-64-v2", "pairs"), ("x86-64-v3", "pairs"), ("x86-64-v4", "pairs"), ("x86-64-v3-vnni", "vnni")],
)
def test_a_target_names_its_integer_product(name, dot):
    assert load_target(name).dot == dot


@pytest.mark.parametrize("name", ["x86-64-v2", "x86-64-v3", "x86-64-v4", "x86-64-v3-vnni", "x86-64-v4-vnni"])
def test_integer_patterns_are_patterns_finest_first(name):
    patterns = [parse_pattern(text) for text in load_target(name).patterns_int8]
    sizes = [pattern.block_k * pattern.block_n for pattern in patterns]
    assert sizes == sorted(sizes)
    assert patterns
