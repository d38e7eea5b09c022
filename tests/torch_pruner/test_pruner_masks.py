"""Masks on tensors against those of edgeprune.mask on arrays, and the order of weights against the IR's."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from edgeprune import mask
from edgeprune.pattern import Pattern, parse_pattern
from edgeprune.torch.layers import Layer
from edgeprune.torch.masks import block_scores, expand_blocks, keep_blocks

SHAPES = st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 19), st.integers(1, 35))
PATTERNS = st.builds(
    lambda block_k, block_n, balance: Pattern(block_k, block_n, *(balance or (None, None))),
    st.integers(1, 5),
    st.sampled_from([1, 2, 7, 16, 40]),
    st.none() | st.sampled_from([(1, 2), (2, 4), (1, 4), (3, 7)]),
)


def torch_mask(scores: np.ndarray, pattern: Pattern, density: float) -> np.ndarray:
    given = torch.from_numpy(scores)
    kept = keep_blocks(block_scores(given, pattern), pattern, density)
    return expand_blocks(kept, pattern, given).numpy()


@settings(max_examples=80)
@given(SHAPES, PATTERNS, st.floats(0, 1), st.integers(0, 10_000), st.booleans())
def test_masks_are_those_of_the_road(shape, pattern, density, seed, ties):
    generator = np.random.default_rng(seed)
    drawn = generator.integers(0, 3, shape) if ties else generator.normal(size=shape)
    scores = drawn.astype(np.float32) ** 2
    np.testing.assert_allclose(
        block_scores(torch.from_numpy(scores), pattern).numpy(), mask.block_scores(scores, pattern), rtol=1e-12
    )
    np.testing.assert_array_equal(torch_mask(scores, pattern, density), mask.mask_from_scores(scores, pattern, density))


def test_a_channel_is_all_that_makes_one_output():
    weight = np.random.default_rng(0).normal(size=(2, 9, 5, 6)).astype(np.float32) ** 2
    kept = torch_mask(weight, Pattern(structure="channel"), 0.5)
    means = weight.mean(axis=(1, 2))
    wanted = means >= np.sort(means, axis=None)[6]
    np.testing.assert_array_equal(kept, np.broadcast_to(wanted[:, None, None, :], weight.shape))


MODULES = {
    "conv1d": nn.Conv1d(6, 9, 3),
    "conv2d": nn.Conv2d(5, 7, (3, 2)),
    "grouped": nn.Conv2d(6, 9, 3, groups=3),
    "conv3d": nn.Conv3d(2, 5, 3),
    "linear": nn.Linear(7, 11),
}


@pytest.mark.parametrize("name", MODULES)
def test_weights_are_ordered_as_in_the_ir(name):
    module = MODULES[name]
    layer = Layer("it", module, getattr(module, "groups", 1))
    weight = layer.weight.detach()
    grid = layer.grid(weight)
    width = weight.shape[0] // layer.groups
    for group, tap, row, column in np.ndindex(*grid.shape):
        place = np.unravel_index(tap, weight.shape[2:]) if weight.dim() > 2 else ()
        assert grid[group, tap, row, column] == weight[(group * width + column, row, *place)]
    assert torch.equal(layer.ungrid(grid), weight)


def test_written_patterns_are_read():
    assert torch_mask(np.arange(8, dtype=np.float32).reshape(1, 1, 8, 1), parse_pattern("2:4"), 1).ravel().tolist() == [
        False, False, True, True, False, False, True, True,
    ]  # fmt: skip
