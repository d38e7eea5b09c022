from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeprune.errors import EdgepruneError
from edgeprune.options import Options, parse_bytes


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("1", 1),
        ("4096", 4096),
        ("64k", 65536),
        ("64K", 65536),
        ("64kB", 65536),
        ("64KiB", 65536),
        ("1.5M", 1572864),
        (" 2 G ", 2 * 1024**3),
        (".5k", 512),
    ],
)
def test_bytes(text, count):
    assert parse_bytes(text) == count


@pytest.mark.parametrize("text", ["", "k", "-1", "0", "64q", "1e3", "0x10", "1.2.3", "9" * 400, "inf", "nan"])
def test_what_is_no_size(text):
    with pytest.raises(EdgepruneError) as caught:
        parse_bytes(text, where="--size")
    assert (caught.value.code, caught.value.where, caught.value.exit_code) == ("option-range", "--size", 2)


@given(st.text(max_size=12))
def test_any_text_is_a_size_or_a_clear_error(text):
    try:
        assert parse_bytes(text) >= 1
    except EdgepruneError as error:
        assert error.hint


@given(st.integers(1, 10**14))
def test_plain_numbers_are_bytes(count):
    assert parse_bytes(str(count)) == count


@pytest.mark.parametrize(
    ("choices", "code"),
    [
        ({"sparsity": 1.0}, "option-range"),
        ({"sparsity": -0.01}, "option-range"),
        ({"sparsity": float("nan")}, "option-range"),
        ({"max_drop": -1.0}, "option-range"),
        ({"max_drop": float("inf")}, "option-range"),
        ({"latency": 0.0}, "option-range"),
        ({"ram": float("inf")}, "option-range"),
        ({"energy": -2.0}, "option-range"),
        ({"epochs": -1}, "option-range"),
        ({"epochs": 0, "minutes": 5.0}, "option-conflict"),
        ({"dense": True, "minutes": 5.0}, "option-conflict"),
        ({"dense": True, "criterion": "wanda"}, "option-conflict"),
        ({"threads": 0}, "option-range"),
        ({"seed": -1}, "option-range"),
        ({"pattern": "4y4"}, "pattern-unknown"),
        ({"dense": True, "sparsity": 0.5}, "option-conflict"),
        ({"dense": True, "pattern": "1x16"}, "option-conflict"),
        ({"pattern": "2:4", "sparsity": 0.75}, "option-conflict"),
        ({"precision": "int4"}, "option-unknown"),
        ({"backend": "tvn"}, "option-unknown"),
        ({"criterion": "magnitud"}, "option-unknown"),
    ],
    ids=str,
)
def test_what_no_road_can_do_is_wrong_usage(choices, code):
    with pytest.raises(EdgepruneError) as caught:
        Options(**choices)
    assert (caught.value.code, caught.value.exit_code) == (code, 2)
    assert caught.value.hint


@pytest.mark.parametrize(
    "choices",
    [{}, {"sparsity": 0.0}, {"sparsity": 0.999}, {"dense": True, "sparsity": 0.0}, {"pattern": "2:4", "sparsity": 0.5}],
    ids=str,
)
def test_what_can_be_done(choices):
    options = Options(**choices)
    assert all(getattr(options, name) == value for name, value in choices.items())


def test_minutes_without_training_say_which_option_rules_it_out():
    with pytest.raises(EdgepruneError) as caught:
        Options(epochs=0, minutes=5.0)
    assert str(caught.value) == (
        "--minutes limits the training, and --epochs 0 asks for none [option-conflict]\n"
        "  where: --minutes\n"
        "  hint:  drop one of them"
    )


def test_a_criterion_for_a_dense_model_has_nothing_to_judge():
    with pytest.raises(EdgepruneError) as caught:
        Options(dense=True, criterion="wanda")
    assert str(caught.value) == (
        "--dense removes nothing, and --criterion wanda judges what may go [option-conflict]\n"
        "  where: --criterion\n"
        "  hint:  drop one of them"
    )
