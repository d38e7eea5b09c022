"""Masks against brute force that visits every block."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeprune.mask import block_scores, coarsest_fit, fits, mask_from_scores, stored_share
from edgeprune.pattern import Pattern, parse_pattern

shapes = st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 11), st.integers(1, 11))
blocks = st.builds(Pattern, st.integers(1, 5), st.integers(1, 5))


@st.composite
def balances(draw):
    group = draw(st.integers(1, 5))
    return Pattern(draw(st.integers(1, 3)), draw(st.integers(1, 3)), draw(st.integers(1, group)), group)


def corners(shape, pattern):
    """Every block as an index into the array."""
    for g, t in np.ndindex(*shape[:2]):
        for i in range(0, shape[2], pattern.block_k):
            for o in range(0, shape[3], pattern.block_n):
                yield g, t, slice(i, i + pattern.block_k), slice(o, o + pattern.block_n)


@settings(max_examples=60, deadline=None)
@given(shapes, blocks, st.integers(0, 99))
def test_block_scores_are_means_over_each_block(shape, pattern, seed):
    scores = np.random.default_rng(seed).random(shape)
    expected = [scores[where].mean() for where in corners(shape, pattern)]
    np.testing.assert_allclose(block_scores(scores, pattern).reshape(-1), expected)


@settings(max_examples=60, deadline=None)
@given(shapes, blocks, st.floats(0, 1), st.integers(0, 99))
def test_open_level_keeps_the_best_blocks_and_as_many_as_asked(shape, pattern, density, seed):
    scores = np.random.default_rng(seed).random(shape)
    mask = mask_from_scores(scores, pattern, density)
    means, kept = [], []
    for where in corners(shape, pattern):
        assert mask[where].all() or not mask[where].any()
        means.append(scores[where].mean())
        kept.append(bool(mask[where].any()))
    assert sum(kept) == max(1, round(density * len(kept)))
    assert set(np.argsort(means)[len(kept) - sum(kept) :]) == set(np.flatnonzero(kept))


@settings(max_examples=60, deadline=None)
@given(shapes, balances(), st.integers(0, 99))
def test_balance_keeps_the_best_of_every_group(shape, pattern, seed):
    scores = np.random.default_rng(seed).random(shape)
    mask = mask_from_scores(scores, pattern)
    rows = range(0, shape[2], pattern.block_k)
    for g, t in np.ndindex(*shape[:2]):
        for o in range(0, shape[3], pattern.block_n):
            column = slice(o, o + pattern.block_n)
            for first in range(0, len(rows), pattern.group):
                group = rows[first : first + pattern.group]
                means = [scores[g, t, i : i + pattern.block_k, column].mean() for i in group]
                kept = [mask[g, t, i : i + pattern.block_k, column] for i in group]
                assert all(block.all() or not block.any() for block in kept)
                count = math.ceil(len(group) * pattern.keep / pattern.group)
                best = np.argsort(means)[len(group) - count :]
                assert {n for n, block in enumerate(kept) if block.any()} == set(best)


def test_ties_keep_the_first():
    assert mask_from_scores(np.ones((1, 1, 4, 1)), Pattern(), 0.5)[0, 0, :, 0].tolist() == [True, True, False, False]
    assert mask_from_scores(np.ones((1, 1, 3, 1)), parse_pattern("1:2"))[0, 0, :, 0].tolist() == [True, False, True]


@settings(max_examples=60, deadline=None)
@given(shapes, st.one_of(blocks, balances()), st.floats(0.1, 0.9), st.integers(0, 99))
def test_pruned_weights_fit_their_own_pattern(shape, pattern, density, seed):
    rng = np.random.default_rng(seed)
    weights = rng.random(shape) + 0.1
    mask = mask_from_scores(rng.random(shape), pattern, density)
    assert stored_share(weights * mask, pattern) == pytest.approx(mask.mean())
    assert fits(weights * mask, pattern) == (not mask.all() or pattern == Pattern())


@settings(max_examples=60, deadline=None)
@given(shapes, blocks, st.integers(0, 99))
def test_stored_share_counts_every_block_with_a_nonzero(shape, pattern, seed):
    weights = (np.random.default_rng(seed).random(shape) < 0.3).astype(np.float32)
    stored = sum(weights[where].size for where in corners(shape, pattern) if weights[where].any())
    assert stored_share(weights, pattern) == pytest.approx(stored / weights.size)


def test_scattered_zeros_fit_only_the_finest_pattern():
    weights = (np.random.default_rng(0).random((1, 9, 16, 32)) < 0.3).astype(np.float32)
    patterns = [parse_pattern(text) for text in ("1x1", "1x8", "1x16")]
    assert coarsest_fit(weights, patterns) == Pattern()
    assert coarsest_fit(weights, patterns[1:]) is None


def test_coarsest_pattern_that_fits_is_found():
    rng = np.random.default_rng(1)
    patterns = [parse_pattern(text) for text in ("1x1", "1x8", "1x16")]
    for index, pattern in enumerate(patterns):
        mask = mask_from_scores(rng.random((1, 9, 16, 64)), pattern, 0.3)
        assert coarsest_fit(mask.astype(np.float32), patterns) == patterns[index]


def test_a_few_zeros_out_of_place_are_forgiven_and_more_are_not():
    pattern = parse_pattern("1x8")
    weights = mask_from_scores(np.random.default_rng(2).random((1, 1, 64, 64)), pattern, 0.5).astype(np.float32)
    live = np.flatnonzero(weights)
    weights.reshape(-1)[live[:40]] = 0
    weights.reshape(-1)[live[3:11:8]] = 1
    assert fits(weights, pattern)
    weights.reshape(-1)[live[1::3]] = 0
    assert not fits(weights, pattern)


def test_one_group_too_full_breaks_the_balance():
    weights = np.zeros((1, 1, 8, 2), np.float32)
    weights[0, 0, [0, 1, 4, 6]] = 1
    assert fits(weights, parse_pattern("2:4"))
    weights[0, 0, 5, 1] = 1
    assert not fits(weights, parse_pattern("2:4"))


def test_dense_weights_fit_no_block_pattern():
    weights = np.ones((1, 1, 8, 8), np.float32)
    assert not fits(weights, parse_pattern("1x8"))
    assert fits(weights, Pattern())


@pytest.mark.parametrize(("text", "kept"), [("999999999x1", 5), ("1x999999999", 6), ("1:999999999", 6)])
def test_blocks_and_groups_larger_than_the_weight(text, kept):
    pattern = parse_pattern(text)
    scores = np.random.default_rng(0).random((1, 1, 5, 6))
    mask = mask_from_scores(scores, pattern, None if pattern.group else 0.2)
    assert mask.sum() == kept
