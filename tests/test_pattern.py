"""The pattern notation."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeprune.errors import EdgepruneError
from edgeprune.pattern import Pattern, parse_pattern


@pytest.mark.parametrize(
    ("text", "pattern", "written"),
    [
        ("1x1", Pattern(), "1x1"),
        ("4x16", Pattern(4, 16), "4x16"),
        ("2:4", Pattern(1, 1, 2, 4), "2:4"),
        ("2:4/1x1", Pattern(1, 1, 2, 4), "2:4"),
        (" 2:4/1x16 ", Pattern(1, 16, 2, 4), "2:4/1x16"),
    ],
)
def test_notation(text, pattern, written):
    assert parse_pattern(text) == pattern
    assert str(pattern) == written


@given(st.integers(1, 64), st.integers(1, 64), st.none() | st.tuples(st.integers(1, 8), st.integers(0, 8)))
def test_every_pattern_is_read_back(block_k, block_n, balance):
    keep, group = (balance[0], sum(balance)) if balance else (None, None)
    pattern = Pattern(block_k, block_n, keep, group)
    assert parse_pattern(str(pattern)) == pattern


@pytest.mark.parametrize(
    "text", ["", "x", "1x", "0x4", "4x0", "3:2", "0:4", "2:4/", "/1x1", "2:4/2:4", "1x1/2:4", "1x1x1", "a:b", "-1x4"]
)
def test_what_is_no_pattern_is_refused(text):
    with pytest.raises(EdgepruneError) as caught:
        parse_pattern(text)
    assert caught.value.code == "pattern-unknown"
    assert caught.value.exit_code == 2
    assert text in caught.value.what


def test_only_a_balance_fixes_the_level():
    assert parse_pattern("1:4/1x8").density == 0.25
    assert parse_pattern("1x8").density is None
