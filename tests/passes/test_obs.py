"""Exact optimal brain surgery against brute force, against its own definition, and against cheaper criteria."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from layer_problems import layer_problem, loss, refitted_loss

from edgeprune.mask import block_scores, fits
from edgeprune.passes.criteria.alps import Alps
from edgeprune.passes.criteria.auto import Auto
from edgeprune.passes.criteria.criterion import Quadratic
from edgeprune.passes.criteria.magnitude import Magnitude
from edgeprune.passes.criteria.obs import Obs, remove_one_by_one, trace
from edgeprune.passes.criteria.sparsegpt import SparseGpt, sweep
from edgeprune.pattern import parse_pattern

PATTERNS = ("1x1", "2:4", "1x4", "4x2", "1:2/2x2")


def masks(problem):
    return [criterion.choose(problem).mask for criterion in (Obs(), SparseGpt(), Magnitude())]


@pytest.mark.parametrize("text", PATTERNS)
@pytest.mark.parametrize("shape", [(1, 1, 16, 8), (1, 9, 8, 6), (2, 3, 8, 4)])
def test_exact_loses_no_more_than_one_sweep_and_that_less_than_size(text, shape):
    losses = []
    for seed in range(8):
        problem = layer_problem(seed, text, 0.4, shape)
        losses.append([refitted_loss(problem, mask) for mask in masks(problem)])
    exact, swept, by_size = np.array(losses).T
    assert exact.mean() <= swept.mean() <= by_size.mean()
    assert (exact <= swept * 1.25).all()
    assert (exact < by_size).all()


@pytest.mark.parametrize("text", PATTERNS)
def test_the_order_holds_without_a_refit_too(text):
    losses = []
    for seed in range(8):
        problem = layer_problem(seed, text, 0.4)
        exact = refitted_loss(problem, remove_one_by_one(problem))
        by_size = loss(problem, problem.start * Magnitude().choose(problem).mask)
        losses.append([exact, loss(problem, sweep(problem)[1]), by_size])
    assert (np.diff(np.array(losses), axis=1) >= 0).all()


@pytest.mark.parametrize("text", [*PATTERNS, "4x16", "3x3", "2:4/1x3", "4:8"])
@pytest.mark.parametrize("shape", [(1, 1, 16, 8), (1, 4, 5, 7), (3, 2, 3, 2), (5, 9, 1, 1)])
def test_masks_are_those_of_the_pattern(text, shape):
    problem = layer_problem(3, text, 0.3, shape)
    wanted = problem.project(problem.start**2)

    def blocks(mask):
        return block_scores(mask.reshape(shape), parse_pattern(text)) > 0

    for mask in masks(problem):
        kept = mask.reshape(shape)
        assert fits(kept.astype(np.float32), parse_pattern(text), slack=1e-9) or kept.all()
        assert (problem.project(1.0 * mask) == mask).all()
        assert blocks(mask).sum() == blocks(wanted).sum()


@pytest.mark.parametrize("text", ["1x1", "1x4", "4x2"])
def test_removing_one_block_is_what_brute_force_removes(text):
    for seed in range(10):
        problem = layer_problem(seed, text, shape=(1, 1, 8, 8))
        count = problem.project(problem.start**2).size // (parse_pattern(text).block_k * parse_pattern(text).block_n)
        problem = layer_problem(seed, text, 1 - 1 / count, (1, 1, 8, 8))
        every = [problem.project(scores) for scores in -_single_blocks(text, 8, 8)]
        best = min(refitted_loss(problem, mask) for mask in every)
        assert refitted_loss(problem, Obs().choose(problem).mask) == pytest.approx(best, rel=1e-6)


def _single_blocks(text, inputs, outputs):
    """One array [1, inputs, outputs] a block, one in that block and zero elsewhere."""
    pattern = parse_pattern(text)
    found = []
    for row, column in itertools.product(range(0, inputs, pattern.block_k), range(0, outputs, pattern.block_n)):
        array = np.zeros((1, inputs, outputs))
        array[:, row : row + pattern.block_k, column : column + pattern.block_n] = 1
        found.append(array)
    return np.array(found)


@pytest.mark.parametrize(("kept", "factor"), [(6, 1.15), (4, 1.3), (2, 1.5)])
def test_rows_of_eight_come_close_to_the_best_of_all_masks(kept, factor):
    """The best of all masks of one output with eight inputs, over twenty problems: mean within `factor`."""
    ratios = []
    for seed in range(20):
        problem = layer_problem(seed, "1x1", kept / 8, (1, 1, 8, 1), correlation=0.4)
        every = [np.isin(np.arange(8), chosen)[None, :, None] for chosen in itertools.combinations(range(8), kept)]
        best = min(refitted_loss(problem, mask) for mask in every)
        found = refitted_loss(problem, Obs().choose(problem).mask)
        assert found >= best * (1 - 1e-9)
        ratios.append(found / best)
    assert np.mean(ratios) <= factor
    assert np.median(ratios) <= 1.05


def test_two_of_four_in_rows_of_eight_comes_close_to_the_best_of_all_masks():
    pairs = [np.isin(np.arange(4), chosen) for chosen in itertools.combinations(range(4), 2)]
    ratios = []
    for seed in range(20):
        problem = layer_problem(seed, "2:4", shape=(1, 1, 8, 1), correlation=0.4)
        every = [np.concatenate(halves)[None, :, None] for halves in itertools.product(pairs, pairs)]
        best = min(refitted_loss(problem, mask) for mask in every)
        ratios.append(refitted_loss(problem, Obs().choose(problem).mask) / best)
    assert np.mean(ratios) <= 1.25


@pytest.mark.parametrize("size", [1, 3, 4])
def test_the_costs_of_a_trace_add_up_to_the_refitted_loss(size):
    problem = layer_problem(5, shape=(1, 1, 14, 3))
    blocks = [np.arange(begin, min(begin + size, 14)) for begin in range(0, 14, size)]
    order, costs = trace(np.linalg.inv(problem.quadratic.second[0]), problem.start[0], blocks)
    assert sorted(order) == list(range(len(blocks)))
    mask = np.ones((1, 14, 3), bool)
    for count, block in enumerate(order):
        mask[0, blocks[block]] = False
        assert sum(costs[: count + 1]) == pytest.approx(refitted_loss(problem, mask), rel=1e-6)


def test_layers_too_large_are_swept_once_and_noted():
    problem = layer_problem(0, shape=(1, 1, 16, 8))
    choice = Obs(operations=1000).choose(problem)
    np.testing.assert_array_equal(choice.mask, SparseGpt().choose(problem).mask)
    assert choice.note == "too large for exact OBS: swept once (SparseGPT)"


def test_dead_inputs_go_first_and_zero_weights_do_no_harm():
    problem = layer_problem(2, "1x1", 0.5, (1, 1, 8, 4))
    dead = problem.quadratic.second.copy()
    dead[:, :4, :], dead[:, :, :4] = 0, 0
    dead += 1e-9 * np.eye(8)
    problem = replace(problem, quadratic=Quadratic(dead, dead @ problem.start))
    for criterion in (Obs(), SparseGpt()):
        mask = criterion.choose(problem).mask
        assert not mask[:, :4].any() and mask[:, 4:].all()
    nothing = replace(problem, quadratic=Quadratic(dead, 0 * problem.start), start=0 * problem.start)
    for criterion in (Obs(), SparseGpt(), Magnitude()):
        assert criterion.choose(nothing).mask.sum() == 16


@pytest.mark.parametrize(
    ("text", "chosen"),
    [("1x1", Alps()), ("2:4", Alps()), ("1x8", Alps()), ("1x16", Obs()), ("4x16", Obs()), ("1:2/4x8", Obs())],
)
def test_auto_is_exact_for_coarse_blocks_and_alps_for_fine_ones(text, chosen, monkeypatch):
    problem = layer_problem(1, text, 0.4, (1, 3, 16, 32))
    np.testing.assert_array_equal(Auto().choose(problem).mask, chosen.choose(problem).mask)
    monkeypatch.setattr("edgeprune.passes.criteria.auto.CHEAP", 100)
    np.testing.assert_array_equal(Auto().choose(problem).mask, Alps().choose(problem).mask)
