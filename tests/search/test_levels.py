"""Levels per layer."""

import itertools

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeprune.ir.weights import read_weight, weighted_layers
from edgeprune.pattern import parse_pattern
from edgeprune.search.levels import FLOOR, global_levels, least_error_levels, levels_around, prunable_layers


def chain(sizes, scales=None, rows=1, seed=0):
    """A chain of matrix products: layer i is sizes[i] x sizes[i+1]."""
    rng = np.random.default_rng(seed)
    value = first = ir.val("x", dtype=ir.DataType.FLOAT, shape=[rows, sizes[0]])
    nodes, constants = [], []
    for index, shape in enumerate(itertools.pairwise(sizes)):
        array = rng.standard_normal(shape) * (1 if scales is None else scales[index])
        constants.append(ir.val(f"w{index}", const_value=ir.tensor(array.astype(np.float32), name=f"w{index}")))
        output = ir.val(f"y{index}", dtype=ir.DataType.FLOAT, shape=[rows, shape[1]])
        nodes.append(ir.node("MatMul", [value, constants[-1]], outputs=[output], name=f"m{index}"))
        value = output
    graph = ir.Graph([first], [value], nodes=nodes, initializers=constants, opset_imports={"": 18}, name="g")
    return ir.Model(graph, ir_version=9)


def names(layers):
    return [layer.name for layer in layers]


def test_cheap_first_and_last_layers_are_protected():
    assert names(prunable_layers(chain([4, 64, 64, 64, 3]))) == ["m1", "m2"]


def test_ends_that_hold_much_of_the_network_are_not_protected():
    assert names(prunable_layers(chain([64, 32, 32, 32, 64]))) == ["m0", "m1", "m2", "m3"]
    assert names(prunable_layers(chain([4, 64, 64, 64, 64]))) == ["m1", "m2", "m3"]


def test_with_one_or_two_layers_all_are_prunable():
    assert names(prunable_layers(chain([4, 8]))) == ["m0"]
    assert names(prunable_layers(chain([4, 8, 2]))) == ["m0", "m1"]


@settings(max_examples=40)
@given(
    st.lists(st.sampled_from([16, 24, 32, 48]), min_size=4, max_size=7),
    st.floats(0.05, 0.95),
    st.sampled_from(["1x1", "1x8", "4x4"]),
    st.integers(0, 50),
)
def test_the_share_asked_for_is_removed_from_prunable_layers(sizes, sparsity, text, seed):
    pattern = parse_pattern(text)
    model = chain(sizes, scales=10.0 ** np.arange(len(sizes) - 1), seed=seed)
    layers = prunable_layers(model)
    levels = global_levels(model, pattern, sparsity)
    assert list(levels) == names(layers)
    total = sum(read_weight(layer).size for layer in layers)
    removed = sum((1 - levels[layer.name].density) * read_weight(layer).size for layer in layers)
    block = pattern.block_k * pattern.block_n
    assert abs(removed - sparsity * total) <= block * len(layers)
    for layer in layers:
        count = read_weight(layer).size / block
        assert levels[layer.name].density * count >= max(1, round(FLOOR * (1 - sparsity) * count)) - 1e-6


def test_scale_of_a_layer_does_not_matter():
    plain = global_levels(chain([8, 32, 32, 32, 4]), parse_pattern("1x1"), 0.7)
    scaled = global_levels(chain([8, 32, 32, 32, 4], scales=[1, 1e-3, 1e4, 1]), parse_pattern("1x1"), 0.7)
    assert {name: level.density for name, level in plain.items()} == pytest.approx(
        {name: level.density for name, level in scaled.items()}
    )


def test_a_layer_of_few_large_weights_keeps_less_but_not_nothing():
    model = chain([8, 64, 64, 64, 8])
    peaked = next(layer for layer in weighted_layers(model) if layer.name == "m1")
    array = np.full((64, 64), 1e-3, np.float32)
    array[:2, :2] = 100
    peaked.weight.const_value = ir.tensor(array, name="w1")
    levels = global_levels(model, parse_pattern("1x1"), 0.5)
    assert levels["m1"].density == pytest.approx(FLOOR * 0.5, abs=1e-3)
    assert levels["m2"].density > 0.8


def test_given_scores_replace_squared_weights():
    model = chain([8, 32, 32, 32, 8])
    rng = np.random.default_rng(1)
    scores = {layer.name: rng.random(read_weight(layer).shape) for layer in weighted_layers(model)}
    scores["m1"] = scores["m1"] ** 8
    levels = global_levels(model, parse_pattern("1x1"), 0.5, scores)
    assert levels["m1"].density < levels["m2"].density - 0.2


def test_balance_has_its_own_level_everywhere():
    levels = global_levels(chain([8, 32, 32, 32, 8]), parse_pattern("1:4/1x8"), 0.5)
    assert {level.density for level in levels.values()} == {0.25}


def test_no_sparsity_keeps_everything():
    levels = global_levels(chain([8, 32, 32, 32, 8]), parse_pattern("1x1"), 0.0)
    assert {level.density for level in levels.values()} == {1.0}


@settings(deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([0.3, 0.5, 0.75]))
def test_measured_errors_are_spread_as_well_as_any_choice(seed, sparsity):
    """Brute force over every choice of three layers."""
    rng = np.random.default_rng(seed)
    model = chain([int(size) for size in 4 * rng.integers(2, 9, 4)], rows=int(rng.integers(1, 4)))
    layers = {layer.name: float(read_weight(layer).size) for layer in prunable_layers(model)}
    around = levels_around(sparsity, parse_pattern("1x1"), (0.8, 0.5, 0.25, 0.1, 0.01))
    assert all(FLOOR * (1 - sparsity) < level.density for level in around) and 1 - sparsity in [
        level.density for level in around
    ]
    errors = {name: tuple(sorted(rng.random(len(around)))) for name in layers}
    options = [(1.0, 0.0), *zip([level.density for level in around], range(len(around)), strict=True)]
    best = np.inf
    for picks in itertools.product(range(len(options)), repeat=len(layers)):
        kept = sum(size * options[pick][0] for size, pick in zip(layers.values(), picks, strict=True))
        lost = sum(errors[name][pick - 1] if pick else 0.0 for name, pick in zip(layers, picks, strict=True))
        if kept <= (1 - sparsity) * sum(layers.values()) * (1 + 1e-9):
            best = min(best, lost)
    found = least_error_levels(model, sparsity, dict.fromkeys(layers, around), errors)
    kept = sum(size * (found[name].density if name in found else 1.0) for name, size in layers.items())
    lost = sum(errors[name][around.index(level)] for name, level in found.items())
    assert kept <= (1 - sparsity) * sum(layers.values()) * (1 + 1e-5)
    assert lost <= best * (1 + 1e-3) + 1e-9


def test_a_layer_without_errors_keeps_the_share_of_the_whole():
    model = chain([32, 32, 32, 32])
    around = levels_around(0.5, parse_pattern("1x4"), (0.8, 0.2))
    found = least_error_levels(
        model, 0.5, dict.fromkeys(["m0", "m1", "m2"], around), {"m0": (1.0,) * 3, "m2": (2.0,) * 3}
    )
    assert found["m1"].density == 0.5 and str(found["m1"].pattern) == "1x4"
