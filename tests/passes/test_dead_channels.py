"""What can never matter in a quantized model goes, and nothing else changes."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from exact_numbers import exact
from fixed_numbers import fixed
from hypothesis import given, settings
from hypothesis import strategies as st
from quantized_networks import Quantized

from edgeprune.ir.execute import Session
from edgeprune.ir.quantization import read_stored
from edgeprune.passes.intervals import remove_dead

LOW = -128
NEVER = -1_000_000
ALWAYS = 1_000_000


def rows_of(model: ir.Model, seed: int = 0, count: int = 9) -> list[np.ndarray]:
    """Random and extreme inputs."""
    generator = np.random.default_rng(seed)
    shape = tuple(int(size) for size in model.graph.inputs[0].shape.numpy())
    found = [generator.normal(size=shape) * 10.0 ** (turn % 3) for turn in range(count)]
    found += [generator.choice([-1e6, 0.0, 1e6], size=shape) for _ in range(count)]
    return [row.astype(np.float32) for row in found]


def assert_same(before: ir.Model, after: ir.Model, seed: int = 0) -> None:
    for row in rows_of(before, seed):
        one, other = exact(before, {"x": row}), exact(after, {"x": row})
        assert all(np.array_equal(one[name], other[name]) for name in one)


def assert_same_integers(before: ir.Model, after: ir.Model) -> None:
    """By both roundings of the TFLite specification, at what is stored last."""
    for row in rows_of(before):
        for twice in (False, True):
            one, other = (list(fixed(model, row, twice=twice).values())[-1] for model in (before, after))
            assert np.array_equal(one, other)


def weights(model: ir.Model) -> list[tuple[int, ...]]:
    """The shapes of the weights of all convolutions and products."""
    found = [read_stored(node.inputs[1]) for node in model.graph if node.op_type in ("Conv", "Gemm")]
    return [each.integers.shape for each in found if each is not None]


def random_weight(generator: np.random.Generator, *shape: int) -> np.ndarray:
    return generator.integers(-127, 128, size=shape)


def bias(generator: np.random.Generator, size: int, stuck: dict[int, int]) -> np.ndarray:
    found = generator.integers(0, 4000, size=size)
    for channel, number in stuck.items():
        found[channel] = number
    return found


def chain(stuck: dict[int, int], *, below: int = -1, pads: int = 1, last_pads: int = 0) -> ir.Model:
    """6 channels, some held by their bias, then each by itself (`below` is the bias of those), then all into 4."""
    generator = np.random.default_rng(1)
    net = Quantized((1, 3, 7, 6), zero=3)
    first = bias(generator, 6, stuck)
    data = net.conv(net.data, random_weight(generator, 6, 3, 3, 3), first, 20.0, LOW, pads=[1, 1, 1, 1])
    second = bias(generator, 6, dict.fromkeys(stuck, below))
    data = net.conv(data, random_weight(generator, 6, 1, 3, 3), second, 900.0, LOW, group=6, pads=[pads] * 4)
    third = random_weight(generator, 4, 6, 3, 3)
    return net.model(net.conv(data, third, bias(generator, 4, {}), 90000.0, 0, pads=[last_pads] * 4))


def test_channels_stuck_at_zero_go_from_every_layer():
    model = chain({0: NEVER, 4: NEVER}, last_pads=1)
    removal = remove_dead(model)
    assert weights(removal.model) == [(4, 3, 3, 3), (4, 1, 3, 3), (4, 4, 3, 3)]
    assert [(layer.channels_before, layer.channels_after) for layer in removal.layers] == [(6, 4), (6, 4), (4, 4)]
    assert removal.macs_before == 42 * (6 * 27 + 6 * 9 + 4 * 54)
    assert removal.macs_after == 42 * (4 * 27 + 4 * 9 + 4 * 36)
    assert removal.channels_removed == 4
    assert removal.changed
    assert_same(model, removal.model)
    assert_same_integers(model, removal.model)


def test_the_model_that_came_is_not_touched():
    model = chain({0: NEVER})
    before = ir.to_proto(model).SerializeToString(deterministic=True)
    remove_dead(model)
    assert ir.to_proto(model).SerializeToString(deterministic=True) == before


def test_constants_other_than_zero_stay_in_the_bias():
    model = chain({1: NEVER, 2: ALWAYS}, below=ALWAYS)
    removal = remove_dead(model)
    assert weights(removal.model) == [(4, 3, 3, 3), (4, 1, 3, 3), (4, 4, 3, 3)]
    last = [node for node in model.graph if node.op_type == "Conv"][2]
    cut = [node for node in removal.model.graph if node.op_type == "Conv"][2]
    weight, old, new = (read_stored(value) for value in (last.inputs[1], last.inputs[2], cut.inputs[2]))
    assert weight is not None and old is not None and new is not None
    assert np.array_equal(
        new.integers, old.integers + 255 * weight.integers[:, 1:3].sum(axis=(1, 2, 3), dtype=np.int32)
    )
    assert_same(model, removal.model)
    assert_same_integers(model, removal.model)


def test_constants_other_than_zero_stay_where_a_border_is_read():
    model = chain({1: NEVER}, below=ALWAYS, last_pads=1)
    removal = remove_dead(model)
    assert not removal.changed
    assert removal.model is model


def test_a_layer_without_a_bias_gets_one():
    generator = np.random.default_rng(2)
    net = Quantized((1, 5, 1, 1))
    data = net.conv(net.data, random_weight(generator, 3, 5, 1, 1), bias(generator, 3, {1: ALWAYS}), 10.0, LOW)
    flat = net.node("Flatten", [data])
    model = net.model(net.gemm(flat, random_weight(generator, 4, 3), 4.0, 0))
    removal = remove_dead(model)
    assert weights(removal.model) == [(2, 5, 1, 1), (4, 2)]
    assert_same(model, removal.model)
    assert_same_integers(model, removal.model)


def test_channels_without_weight_go_whatever_they_hold():
    generator = np.random.default_rng(3)
    net = Quantized((1, 2, 5, 5))
    data = net.conv(net.data, random_weight(generator, 4, 2, 3, 3), None, 15.0, 0, pads=[1, 1, 1, 1])
    silent = random_weight(generator, 3, 4, 3, 3)
    silent[:, 2] = 0
    model = net.model(net.conv(data, silent, None, 900.0, 0, pads=[1, 1, 1, 1]))
    removal = remove_dead(model)
    assert weights(removal.model) == [(3, 2, 3, 3), (3, 3, 3, 3)]
    assert_same(model, removal.model)


def test_channels_go_that_only_fed_what_went():
    generator = np.random.default_rng(4)
    net = Quantized((1, 2, 5, 5))
    data = net.conv(net.data, random_weight(generator, 4, 2, 1, 1), None, 15.0, 0)
    second = random_weight(generator, 3, 4, 1, 1)
    second[:, 1, 0, 0] = [0, 90, 0]
    data = net.conv(data, second, bias(generator, 3, {1: NEVER}), 300.0, LOW)
    model = net.model(net.conv(data, random_weight(generator, 2, 3, 1, 1), None, 9000.0, 0))
    removal = remove_dead(model)
    assert weights(removal.model) == [(3, 2, 1, 1), (2, 3, 1, 1), (2, 2, 1, 1)]
    assert_same(model, removal.model)


@pytest.mark.parametrize("stuck, left", [((1, 1), 3), ((1, 2), 4)], ids=["both sides", "different sides"])
def test_sums_lose_channels_that_both_sides_can_spare(stuck: tuple[int, int], left: int):
    generator = np.random.default_rng(5)
    net = Quantized((1, 2, 5, 5))
    sides = [
        net.conv(net.data, random_weight(generator, 4, 2, 1, 1), bias(generator, 4, {channel: NEVER}), 20.0, LOW)
        for channel in stuck
    ]
    total = net.stored(net.node("Add", sides), 30.0, LOW)
    model = net.model(net.conv(total, random_weight(generator, 2, 4, 1, 1), None, 900.0, 0))
    removal = remove_dead(model)
    assert weights(removal.model) == [(left, 2, 1, 1), (left, 2, 1, 1), (2, left, 1, 1)]
    assert_same(model, removal.model)


def test_one_channel_of_a_layer_that_never_varies_stays():
    model = chain(dict.fromkeys(range(6), NEVER), last_pads=1)
    removal = remove_dead(model)
    assert weights(removal.model) == [(1, 3, 3, 3), (1, 1, 3, 3), (4, 1, 3, 3)]
    assert_same(model, removal.model)


def test_a_branch_that_never_varies_becomes_a_constant():
    generator = np.random.default_rng(6)
    net = Quantized((1, 2, 5, 5))
    left = net.conv(net.data, random_weight(generator, 3, 2, 1, 1), None, 20.0, 0)
    stuck = bias(generator, 3, {0: NEVER, 1: ALWAYS, 2: NEVER})
    right = net.conv(net.data, random_weight(generator, 3, 2, 1, 1), stuck, 20.0, LOW)
    model = net.model(net.stored(net.node("Add", [left, right]), 40.0, 0))
    removal = remove_dead(model)
    assert removal.constants == (right,)
    assert weights(removal.model) == [(3, 2, 1, 1)]
    assert [layer.channels_after for layer in removal.layers] == [3, 0]
    assert_same(model, removal.model)
    for row in rows_of(model):
        one, other = (Session(each).run({"x": row}) for each in (model, removal.model))
        assert all(np.array_equal(one[name], other[name]) for name in one)


def test_clamps_that_never_act_go():
    generator = np.random.default_rng(7)
    net = Quantized((1, 2, 5, 5), zero=LOW)
    limits = [net.array(np.float32(limit)) for limit in (-1.0, 127.5, 127.0)]
    positive = net.node("Relu", [net.data])
    idle = net.node("Clip", [positive, *limits[:2]])
    acting = net.node("Clip", [idle, limits[0], limits[2]])
    data = net.conv(net.stored(acting, 0.5, LOW), random_weight(generator, 2, 2, 1, 1), None, 30.0, 0)
    model = net.model(data)
    removal = remove_dead(model)
    assert removal.clamps == ("relu_2", "clip_3")
    assert [node.op_type for node in removal.model.graph if node.op_type in ("Relu", "Clip")] == ["Clip"]
    for row in rows_of(model):
        one, other = (Session(each).run({"x": row}) for each in (model, removal.model))
        assert all(np.array_equal(one[name], other[name]) for name in one)


def test_what_rounds_to_an_integer_type_keeps_its_bounds():
    net = Quantized((1, 2))
    wide = [net.array(np.float32(limit)) for limit in (-32768.0, 32767.0)]
    model = net.model(net.node("Clip", [net.node("Round", [net.data]), *wide]))
    assert remove_dead(model).model is model


def test_operators_without_a_row_may_give_anything():
    generator = np.random.default_rng(8)
    net = Quantized((1, 2, 5, 5))
    data = net.conv(net.data, random_weight(generator, 4, 2, 1, 1), bias(generator, 4, {1: NEVER}), 0.01, LOW)
    data = net.stored(net.node("Sigmoid", [data]), 1 / 256, LOW)
    model = net.model(net.conv(data, random_weight(generator, 2, 4, 1, 1), None, 2.0, 0))
    assert remove_dead(model).model is model


@pytest.mark.parametrize("op", ["Softmax", "LayerNormalization", "ReduceMean"])
def test_operators_that_mix_channels_keep_them(op: str):
    generator = np.random.default_rng(9)
    net = Quantized((1, 2, 5, 4))
    data = net.conv(net.data, random_weight(generator, 4, 2, 1, 1), bias(generator, 4, {1: NEVER}), 20.0, LOW)
    if op == "ReduceMean":
        mixed = net.node(op, [data, net.array(np.array([1]))])
    elif op == "Softmax":
        mixed = net.node(op, [data], axis=1)
    else:
        mixed = net.node(op, [net.node("Transpose", [data], perm=[0, 2, 3, 1]), net.array(np.ones(4, np.float32))])
    model = net.model(net.stored(mixed, 0.1, 0))
    assert remove_dead(model).model is model


def test_models_of_real_numbers_stay_as_they_are():
    net = Quantized((1, 2, 5, 5))
    model = net.model(net.node("Conv", ["x", net.array(np.zeros((3, 2, 1, 1), np.float32))]))
    removal = remove_dead(model)
    assert removal.model is model
    assert not removal.changed


def test_models_with_open_shapes_stay_as_they_are():
    model = chain({0: NEVER})
    model.graph.inputs[0].shape = ir.Shape(["rows", 3, 7, 6])
    assert remove_dead(model).model is model


@settings(max_examples=10)
@given(st.integers(0, 1 << 30), st.sets(st.integers(0, 5), max_size=5), st.booleans(), st.sampled_from([0, 1]))
def test_random_networks(seed: int, stuck: set[int], high: bool, last_pads: int):
    """Whatever is planted, outputs stay; channels planted at zero go."""
    generator = np.random.default_rng(seed)
    net = Quantized((1, 3, 6, 5), zero=int(generator.integers(-128, 128)))
    planted = dict.fromkeys(stuck, ALWAYS if high else NEVER)
    first = bias(generator, 6, planted)
    data = net.conv(net.data, random_weight(generator, 6, 3, 3, 3), first, 20.0, LOW, pads=[1, 1, 1, 1])
    other = net.conv(net.data, random_weight(generator, 6, 3, 1, 1), bias(generator, 6, planted), 20.0, LOW)
    if generator.integers(2):
        total = net.stored(net.node("Add", [data, other]), 30.0, LOW)
    else:
        total = net.conv(data, random_weight(generator, 6, 1, 3, 3), bias(generator, 6, planted), 600.0, LOW, group=6)
    weight, pads = random_weight(generator, 3, 6, 3, 3), [last_pads] * 4
    last = net.conv(total, weight, bias(generator, 3, {}), 60000.0, 0, pads=pads)
    flat = net.node("Flatten", [last])
    inputs = int(np.prod(net.sizes(last)))
    model = net.model(net.gemm(flat, random_weight(generator, 4, inputs), 4e6, 0))
    removal = remove_dead(model)
    assert_same(model, removal.model, seed)
    if not high and stuck:
        assert weights(removal.model)[0][0] <= 6 - len(stuck) or len(stuck) == 6
